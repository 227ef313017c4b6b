/** Plans and what carries them out: nothing is saved that was not shown first. */
import { MANAGER, request, writeObject } from "~/api/client";
import { Refused } from "~/api/errors";
import { collectionPath, type KindInfo, objectPath } from "~/api/kinds";
import type { ErrorStatus, Resource } from "~/api/types";
import { type FieldChange, missing } from "~/schema/changes";
import type { JsonSchema } from "~/schema/schema";

/** A manifest, as far as it is one. */
export interface Wanted {
  apiVersion?: string;
  kind?: string;
  metadata?: { name?: string; project?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: Record<string, unknown>;
}

export interface PlannedItem {
  action: "Create" | "Update" | "Unchanged" | "Refused";
  kind: string;
  project?: string;
  name: string;
  resourceVersion?: string;
  changes: FieldChange[];
  refusal?: ErrorStatus;
  warnings: string[];
}

export interface Plan {
  items: PlannedItem[];
  refusal?: ErrorStatus;
}

export interface How {
  /** Take fields over that others own. */
  force: boolean;
  /** Make the object just so, whoever owns what is not there any more. */
  replace: boolean;
}

export const GENTLY: How = { force: false, replace: false };

const jsonApply = "application/apply-patch+json";

export function plan(items: readonly Wanted[], { force, replace }: How, signal?: AbortSignal): Promise<Plan> {
  const body = { items, fieldManager: MANAGER, force, replace };
  return request<Plan>("POST", "/api/v1/plan", { body, ...(signal ? { signal } : {}) });
}

/** Returns the object as it is after what was planned was done; refused when it changed since. */
export function carryOut(kind: KindInfo, wanted: Wanted, item: PlannedItem, how: How): Promise<Resource> {
  // An object that is not there has no version 0 either: should it be there by now, it is refused.
  const body = withVersion(wanted, item.resourceVersion ?? "0");
  const path = pathOf(kind, wanted);
  if (how.replace && item.resourceVersion) return writeObject("PUT", path, { body });
  return writeObject("PATCH", path, {
    query: how.force ? { force: true } : {},
    body,
    contentType: jsonApply,
  });
}

/** Returns whether the object changed between plan and apply. */
export const isStale = (error: unknown): boolean =>
  error instanceof Refused &&
  error.code === 409 &&
  (error.status.details?.causes ?? []).some(({ field }) => field === "metadata.resourceVersion");

/** Returns the fields that are gone from the manifest and would stay all the same, since others own them. */
export function staying(schema: JsonSchema, live: Resource | undefined, wanted: Wanted, item: PlannedItem): string[] {
  if (!live) return [];
  const planned = new Set(item.changes.map(({ path }) => path));
  return missing(schema, live, wanted as Resource).filter((path) => !planned.has(path));
}

export function pathOf(kind: KindInfo, wanted: Wanted): string {
  return objectPath(kind.plural, wanted.metadata?.project, wanted.metadata?.name ?? "");
}

const withVersion = (wanted: Wanted, resourceVersion: string) => ({
  ...wanted,
  metadata: { ...wanted.metadata, resourceVersion },
});

/** Returns what people write of an object: without what the cloud adds. */
export function manifestOf(object: Resource): Wanted & { apiVersion: string; kind: string } {
  const { name, project, labels, annotations } = object.metadata;
  const present = (map?: Record<string, string>) => map && Object.keys(map).length > 0;
  return {
    apiVersion: object.apiVersion,
    kind: object.kind,
    metadata: {
      name,
      ...(project ? { project } : {}),
      ...(present(labels) ? { labels: labels as Record<string, string> } : {}),
      ...(present(annotations) ? { annotations: annotations as Record<string, string> } : {}),
    },
    spec: object.spec ?? {},
  };
}

/** Names of a kind's objects that may be named from a project. */
export async function namesOf(kinds: readonly KindInfo[], kind: string, project: string | null): Promise<string[]> {
  const found = kinds.find((each) => each.kind === kind);
  if (!found) return [];
  const places: (string | null)[] = found.scope === "Global" ? [null] : project ? [project] : [];
  if (found.scope === "GlobalOrProject") places.push(null);
  const lists = await Promise.all(
    places.map((place) =>
      request<{ items: Resource[] }>("GET", collectionPath(found.plural, place), { query: { limit: 500 } }).then(
        ({ items }) => items.filter(({ metadata }) => place !== null || !metadata.project),
        () => [],
      ),
    ),
  );
  return [...new Set(lists.flat().map(({ metadata }) => metadata.name))].sort();
}
