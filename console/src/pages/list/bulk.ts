/** What is done to many objects at once: each by its own request, some at a time, and told as a whole. */
import { messageOf, request } from "~/api/client";
import { type KindInfo, objectPath } from "~/api/kinds";
import type { Resource } from "~/api/types";

const AT_A_TIME = 6;
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
  const waiting = [...objects];
  const work = async () => {
    for (let object = waiting.shift(); object; object = waiting.shift()) {
      try {
        await run(object);
        outcome.done.push(object);
      } catch (error) {
        outcome.failed.push({ object, message: messageOf(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
  return outcome;
}

const pathOf = (kind: KindInfo, { metadata }: Resource) => objectPath(kind.plural, metadata.project, metadata.name);

/** Delete exactly these: an object of the same name that was made meanwhile stays. */
export const deleteAll = (kind: KindInfo, objects: readonly Resource[]): Promise<Outcome> =>
  forEach(objects, (object) => request("DELETE", pathOf(kind, object), { query: { uid: object.metadata.uid } }));

export type Labels = Record<string, string | null>;

export const labelAll = (kind: KindInfo, objects: readonly Resource[], labels: Labels): Promise<Outcome> =>
  forEach(objects, (object) =>
    request("PATCH", pathOf(kind, object), { body: { metadata: { labels } }, contentType: MERGE }),
  );

/** Give back the labels that objects had before. */
export const unlabelAll = (kind: KindInfo, objects: readonly Resource[], labels: Labels): Promise<Outcome> =>
  forEach(objects, (object) => {
    const before = object.metadata.labels ?? {};
    const back = Object.fromEntries(Object.keys(labels).map((key) => [key, before[key] ?? null]));
    return request("PATCH", pathOf(kind, object), { body: { metadata: { labels: back } }, contentType: MERGE });
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
