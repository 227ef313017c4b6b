/** The kinds that this cloud has, as the API describes them: nothing generic knows one by name. */
import { useQuery } from "@tanstack/react-query";
import { request } from "./client";
import type { Resource } from "./types";

export interface KindColumn {
  name: string;
  jsonPath: string;
  type: string;
  /** 0: always shown; larger: when there is room. */
  priority: number;
  /** Shown when the value is absent. */
  default?: string;
}

export interface KindInfo {
  kind: string;
  plural: string;
  singular: string;
  shortNames: string[];
  scope: "Global" | "Project" | "GlobalOrProject";
  category: string;
  columns: KindColumn[];
  /** What Ready sums up; none: the kind has no Ready. */
  conditions: string[];
  verbs: string[];
  subresources: string[];
  doc: string;
}

export const kindsQuery = {
  queryKey: ["kinds"],
  queryFn: async ({ signal }: { signal: AbortSignal }) =>
    (await request<{ items: KindInfo[] }>("GET", "/api/v1/kinds", { signal })).items,
  staleTime: Number.POSITIVE_INFINITY,
} as const;

export function useKinds(): KindInfo[] {
  return useQuery(kindsQuery).data ?? [];
}

/** Returns the kind of that plural, undefined while kinds are loaded or when there is none. */
export function useKind(plural: string | undefined): KindInfo | undefined {
  return useKinds().find((kind) => kind.plural === plural);
}

const part = encodeURIComponent;

/** Returns the API's path of a collection. Without a project: of all projects, or of a global kind. */
export function collectionPath(plural: string, project?: string | null): string {
  return project ? `/api/v1/projects/${part(project)}/${plural}` : `/api/v1/${plural}`;
}

export function objectPath(plural: string, project: string | null | undefined, name: string): string {
  return `${collectionPath(plural, project)}/${part(name)}`;
}

/** Returns the console's own address of a list; addresses below /console are those below /api/v1. */
export function listLink(plural: string, project?: string | null): string {
  return project ? `/projects/${part(project)}/${plural}` : `/${plural}`;
}

export function launchLink(project: string | null): string {
  return listLink("launch", project);
}

export function objectLink(plural: string, project: string | null | undefined, name: string): string {
  return `${listLink(plural, project)}/${part(name)}`;
}

export const linkOf = (kind: KindInfo, object: Resource): string =>
  objectLink(kind.plural, object.metadata.project, object.metadata.name);

/** Returns vcctl's words for a command about an object, quoted where a shell needs it. */
export function vcctl(...words: (string | null | undefined)[]): string {
  return ["vcctl", ...words.filter((word) => word !== null && word !== undefined && word !== "")]
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word as string) ? word : `'${(word as string).replaceAll("'", "'\\''")}'`))
    .join(" ");
}
