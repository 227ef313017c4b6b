/** What is done to many objects at once: each by its own request, some at a time, and told as a whole. */
import { messageOf, request, writeObject } from "~/api/client";
import { Refused } from "~/api/errors";
import { type KindInfo, objectPath } from "~/api/kinds";
import { inTurns } from "~/api/turns";
import type { Resource, Schemas } from "~/api/types";
import { contentsOf } from "~/pages/object/contents";
import { type Links, merged, placeOf, placesIn, without } from "~/pages/object/losses";

const MERGE = "application/merge-patch+json";

export interface Outcome {
  done: Resource[];
  failed: { object: Resource; message: string }[];
}

/** Run something for each object; one failure does not keep the others from their turn. */
export async function forEach(
  objects: readonly Resource[],
  run: (object: Resource) => Promise<unknown>,
): Promise<Outcome> {
  const outcome: Outcome = { done: [], failed: [] };
  await inTurns(objects, async (object) => {
    try {
      await run(object);
      outcome.done.push(object);
    } catch (error) {
      outcome.failed.push({ object, message: messageOf(error) });
    }
  });
  return outcome;
}

const pathOf = (kind: KindInfo, { metadata }: Resource) => objectPath(kind.plural, metadata.project, metadata.name);

/** Delete exactly these: an object of the same name that was made meanwhile stays. */
export const deleteAll = (kind: KindInfo, objects: readonly Resource[]): Promise<Outcome> =>
  forEach(objects, (object) => writeObject("DELETE", pathOf(kind, object), { query: { uid: object.metadata.uid } }));

/** So many are asked for what depends on them; for more the question would take longer than the answer is worth. */
export const MOST_ASKED = 100;

/** What depends on objects that are to be deleted, and is not deleted with them by name. */
export interface Dependents {
  /** What goes with them. */
  owned: Links[];
  /** What names them: it keeps them from going, or will miss them. */
  users: Links[];
}

export async function findDependents(
  kind: KindInfo,
  objects: readonly Resource[],
  kinds: readonly KindInfo[],
  signal: AbortSignal,
): Promise<Dependents> {
  const found = await inTurns(objects.slice(0, MOST_ASKED), (object) =>
    request<Schemas["RelatedReply"]>("GET", `${pathOf(kind, object)}/related`, { signal }).catch((error) => {
      // One that is gone meanwhile takes nothing with it.
      if (error instanceof Refused && error.code === 404) return null;
      throw error;
    }),
  );
  const contents =
    kind.kind === "Project"
      ? await inTurns(objects.slice(0, MOST_ASKED), ({ metadata }) => contentsOf(metadata.name, kinds, signal))
      : [];
  const places = new Set(objects.map(placeOf));
  const owned = without(places, merged([...found.flatMap((each) => each?.owned ?? []), ...contents.flat()]));
  const gone = new Set([...places, ...placesIn(owned)]);
  return { owned, users: without(gone, merged(found.flatMap((each) => each?.users ?? []))) };
}

export type Labels = Record<string, string | null>;

export const labelAll = (kind: KindInfo, objects: readonly Resource[], labels: Labels): Promise<Outcome> =>
  forEach(objects, (object) =>
    writeObject("PATCH", pathOf(kind, object), { body: { metadata: { labels } }, contentType: MERGE }),
  );

/** Give back the labels that objects had before. */
export const unlabelAll = (kind: KindInfo, objects: readonly Resource[], labels: Labels): Promise<Outcome> =>
  forEach(objects, (object) => {
    const before = object.metadata.labels ?? {};
    const back = Object.fromEntries(Object.keys(labels).map((key) => [key, before[key] ?? null]));
    return writeObject("PATCH", pathOf(kind, object), { body: { metadata: { labels: back } }, contentType: MERGE });
  });

/** Returns the labels that a text means: `env=prod tier=web old-`; null when it cannot be read. */
export function parseLabels(text: string): Labels | null {
  const labels: Labels = {};
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const given = /^([A-Za-z0-9][\w./-]*)=([\w.-]*)$/.exec(word);
    const gone = /^([A-Za-z0-9][\w./-]*)-$/.exec(word);
    if (given?.[1]) labels[given[1]] = given[2] ?? "";
    else if (gone?.[1]) labels[gone[1]] = null;
    else return null;
  }
  return Object.keys(labels).length > 0 ? labels : null;
}
