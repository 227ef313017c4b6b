import { useQuery } from "@tanstack/react-query";
import { api } from "./client";
import type { Me } from "./types";

export const meQuery = {
  queryKey: ["me"],
  queryFn: async ({ signal }: { signal: AbortSignal }): Promise<Me> => {
    const { data } = await api.GET("/api/v1/me", { signal });
    return data as Me;
  },
  staleTime: 60_000,
} as const;

/** Returns who is signed in and what was given to them. */
export const useMe = (): Me | undefined => useQuery(meQuery).data;
