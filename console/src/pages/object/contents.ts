/** What is in projects: it all goes with them. */
import { request } from "~/api/client";
import { Refused } from "~/api/errors";
import { collectionPath, type KindInfo } from "~/api/kinds";
import { inTurns } from "~/api/turns";
import type { ResourceList } from "~/api/types";
import type { Links } from "./losses";

/** So many of each kind are named. */
const NAMED = 20;

/** Returns what is in a project, as far as one may see it. */
export async function contentsOf(project: string, kinds: readonly KindInfo[], signal: AbortSignal): Promise<Links[]> {
  const inside = kinds.filter(({ scope, verbs }) => scope !== "Global" && verbs.includes("delete"));
  const found = await inTurns(inside, async ({ kind, plural }): Promise<Links> => {
    try {
      const path = collectionPath(plural, project);
      const { items, metadata } = await request<ResourceList>("GET", path, { query: { limit: NAMED }, signal });
      const links = items.map((item) => ({ kind, project, name: item.metadata.name }));
      return { kind, links, more: metadata.continue !== undefined };
    } catch (error) {
      if (error instanceof Refused && (error.code === 403 || error.code === 404))
        return { kind, links: [], more: false };
      throw error;
    }
  });
  return found.filter(({ links }) => links.length > 0);
}
