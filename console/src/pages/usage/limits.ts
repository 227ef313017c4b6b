/** Limits as they are told and ordered. */

export interface Limit {
  name: string;
  limit: number;
  used: number;
  largest: { kind: string; name: string; amount: number }[];
}

/** Returns the limits, those that are nearest to their end first. */
export function byPressure<T extends { name: string; limit: number; used: number }>(limits: readonly T[]): T[] {
  const share = ({ used, limit }: T) => (limit > 0 ? used / limit : used > 0 ? 2 : 0);
  return [...limits].sort((a, b) => share(b) - share(a) || a.name.localeCompare(b.name));
}

/** Returns which unit a limit is counted in, by its name. */
export function bytesOf(name: string): number | null {
  if (name.endsWith("MiB")) return 1024 ** 2;
  if (name.endsWith("GiB")) return 1024 ** 3;
  return null;
}
