/** What two points on a timeline mean: which objects differ between them, and how. */

export interface Moment {
  revision: string;
  operation: string;
  actor: string;
  manager: string;
  time: string;
  kind?: string;
  project?: string;
  name?: string;
  diff: { path: string; old?: unknown; new?: unknown }[];
}

/** A page of what has been, the newest first: of an object its history, of a project its timeline. */
export interface Page<T> {
  kind: string;
  items: T[];
  metadata: {
    /** Of a timeline: leads to the next page. */
    before?: string;
    reach?: Reach;
  };
}

/** How far back nothing is missing: retention removes what is old, and what is too much of one object. */
export interface Reach {
  revision: string;
  time?: string;
  /** Of a timeline: another one when more of single objects was removed for its number. */
  cuts?: string;
}

/** Returns what leads to the next page, of so many, undefined when there is none. */
export function nextOf<T extends { revision: string }>(page: Page<T>, size: number): string | undefined {
  if (page.kind === "Timeline") return page.metadata.before;
  const oldest = page.items.at(-1)?.revision;
  return page.items.length < size || oldest === page.metadata.reach?.revision ? undefined : oldest;
}

/** Returns from which revision on nothing is missing, undefined when nothing is missing at all as far as one knows. */
export function reachOf<T extends { operation: string }>({ kind, items, metadata }: Page<T>): string | undefined {
  const isWhole = kind === "History" && items.at(-1)?.operation === "Created";
  const revision = metadata.reach?.revision;
  return isWhole || revision === "0" ? undefined : revision;
}

/**
 * Returns a project's moments, the oldest first, with one where its past begins that can be told.
 *
 * Of what was before some may be missing. It is no change of anything, so it says of nobody that he did it.
 */
export function sinceReach(moments: readonly Moment[], reach: Reach | undefined, isAll: boolean): readonly Moment[] {
  if (!reach?.time) return moments;
  const first = BigInt(reach.revision);
  const later = moments.filter(({ revision }) => BigInt(revision) > first);
  if (later.length === moments.length && !isAll) return moments;
  const { revision, time } = reach;
  return [{ revision, time, operation: "", actor: "", manager: "", diff: [] }, ...later];
}

export interface Touched {
  kind: string;
  project: string | null;
  name: string;
  /** What became of it from the one point to the other. */
  how: "made" | "gone" | "changed";
  /** Made by the cloud itself, not by people. */
  isSystems: boolean;
}

/**
 * Returns the objects that were touched after one revision and not after the other.
 *
 * @param moments all that are known, the oldest first
 */
export function touchedBetween(moments: readonly Moment[], after: string, until: string): Touched[] {
  const [from, to] = [BigInt(after), BigInt(until)];
  const found = new Map<string, Touched & { wasMade: boolean }>();
  for (const { revision, operation, actor, kind, name, project } of moments) {
    const at = BigInt(revision);
    if (at <= from || at > to || !kind || !name) continue;
    const key = `${kind}/${project ?? ""}/${name}`;
    const wasMade = found.get(key)?.wasMade ?? operation === "Created";
    const isSystems = operation === "Created" ? actor.startsWith("system:") : (found.get(key)?.isSystems ?? false);
    const how = operation === "Deleted" ? "gone" : wasMade ? "made" : "changed";
    found.set(key, { kind, project: project ?? null, name, how, wasMade, isSystems });
  }
  return [...found.values()]
    .filter(({ how, wasMade }) => !(how === "gone" && wasMade))
    .map(({ wasMade: _, ...touched }) => touched);
}

/** Returns the position of the last moment that is not after the revision; the first when all are. */
export function positionOf(moments: readonly Moment[], revision: string | null): number {
  if (revision === null) return moments.length - 1;
  const at = BigInt(/^\d{1,18}$/.test(revision) ? revision : "0");
  let found = 0;
  moments.forEach((moment, index) => {
    if (BigInt(moment.revision) <= at) found = index;
  });
  return found;
}
