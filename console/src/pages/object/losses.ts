/** What goes with objects that are deleted, and what names them. Pure. */
import type { Resource, Schemas } from "~/api/types";

/** Objects of one kind: the first of them, and whether there are more. */
export interface Links {
  kind: string;
  links: Pick<Schemas["Link"], "kind" | "project" | "name">[];
  more: boolean;
}

const place = (kind: string, project: string | null | undefined, name: string) => `${kind}/${project ?? ""}/${name}`;

/** Returns an object's identity. */
export const placeOf = ({ kind, metadata }: Resource): string => place(kind, metadata.project, metadata.name);

/** Returns the identities of all that is named. */
export const placesIn = (groups: readonly Links[]): string[] =>
  groups.flatMap(({ links }) => links.map((link) => place(link.kind, link.project, link.name)));

/** Returns the groups without what is in the set, such as what is deleted itself. */
export function without(places: ReadonlySet<string>, groups: readonly Links[]): Links[] {
  return groups
    .map((group) => ({
      ...group,
      links: group.links.filter((link) => !places.has(place(link.kind, link.project, link.name))),
    }))
    .filter((group) => group.links.length > 0 || group.more);
}

/** Returns one group a kind, each object once. */
export function merged(groups: readonly Links[]): Links[] {
  const kinds = new Map<string, { links: Map<string, Links["links"][number]>; more: boolean }>();
  for (const { kind, links, more } of groups) {
    const found = kinds.get(kind) ?? { links: new Map(), more: false };
    for (const link of links) found.links.set(place(link.kind, link.project, link.name), link);
    kinds.set(kind, { links: found.links, more: found.more || more });
  }
  return [...kinds].map(([kind, { links, more }]) => ({ kind, links: [...links.values()], more }));
}
