/** So many requests are under way at once: enough to be quick, few enough for others to have theirs. */
const AT_A_TIME = 6;

/** Run something for each, some at a time, and return the results in order. */
export async function inTurns<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const work = async () => {
    for (let at = next++; at < items.length; at = next++) results[at] = await run(items[at] as T);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
  return results;
}
