/** What the user may do, as the API decides it: for what is better not shown than refused. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { request } from "./client";
import { type KindInfo, useKinds } from "./kinds";
import type { Schemas } from "./types";

/** Returns whether the user may do it; undefined until it is known. */
export function useMay(asked: Partial<Schemas["ReviewRequest"]>): boolean | undefined {
  const query = useQuery({
    queryKey: ["may", asked],
    queryFn: ({ signal }) => request<Schemas["ReviewReply"]>("POST", "/api/v1/access/review", { body: asked, signal }),
    staleTime: 60_000,
  });
  return query.isError ? false : query.data?.allowed;
}

/** Of these everybody may list what is one's own. */
const OWNED: readonly string[] = ["APIKey", "Session"];

const rightsQuery = (project: string | null) => ({
  queryKey: ["rights", project],
  queryFn: async ({ signal }: { signal: AbortSignal }) => {
    const body = project ? { project } : {};
    return (await request<Schemas["RightsReply"]>("POST", "/api/v1/access/rights", { body, signal })).rights;
  },
  staleTime: 60_000,
});

export type Right = Schemas["RightsReply"]["rights"][number];

/** Tells whether one of the rights lets list some objects of the kind at least. */
export function letsList(rights: readonly Right[], { kind }: Pick<KindInfo, "kind">): boolean {
  const has = (texts: readonly string[], text: string) => texts.includes(text) || texts.includes("*");
  return (
    OWNED.includes(kind) ||
    rights.some(({ rule }) => !rule.subresources && has(rule.verbs, "list") && has(rule.kinds, kind))
  );
}

const NO_KINDS: KindInfo[] = [];

/** Returns the kinds that the user may list: those of projects in this one, if it is given. None until it is known. */
export function useListableKinds(project: string | null): KindInfo[] {
  const kinds = useKinds();
  const anywhere = useQuery(rightsQuery(null));
  const inside = useQuery(rightsQuery(project));
  return useMemo(() => {
    // The API refuses by itself: not to know is no reason to hide all.
    if (anywhere.isError || inside.isError) return kinds;
    const [all, here] = [anywhere.data, inside.data];
    if (!all || !here) return NO_KINDS;
    return kinds.filter((kind) => letsList(kind.scope === "Project" ? here : all, kind));
  }, [kinds, anywhere, inside]);
}
