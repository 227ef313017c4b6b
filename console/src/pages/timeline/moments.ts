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
