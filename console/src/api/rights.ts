/** What the user may do, as the API decides it: for what is better not shown than refused. */
import { useQuery } from "@tanstack/react-query";
import { request } from "./client";
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
