/** Collections and objects that follow what happens: read once, patched by the live stream from then on. */
import { type QueryKey, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";
import { request } from "./client";
import { Refused } from "./errors";
import { type Listing, listingOf, patch } from "./events";
import { live } from "./live";
import { queryClient } from "./queries";
import { useSession } from "./session";
import type { Resource, ResourceList } from "./types";

export interface Selection {
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
}

/** The first page fills a screen at once, the others come behind. */
const FIRST_PAGE = 100;
const NEXT_PAGE = 1_000;
/** Followed for that long after nobody looks any more: somebody may come back. */
const LINGER_MS = 30_000;
const NO_ITEMS: Resource[] = [];

interface Following {
  users: number;
  stop: () => void;
  end?: ReturnType<typeof setTimeout>;
}
const followed = new Map<string, Following>();
// With a session its stream ends: whoever logs in next, perhaps at once, follows anew.
useSession.subscribe((now, before) => {
  if (now.state === "Out" && before.state !== "Out") followed.clear();
});

async function load(path: string, selection: Selection, key: QueryKey, signal: AbortSignal): Promise<Listing> {
  const page = (more: Record<string, string | number | undefined>) =>
    request<ResourceList>("GET", path, { query: { ...selection, ...more }, signal });
  let answer = await page({ limit: FIRST_PAGE });
  const version = answer.metadata.resourceVersion;
  const items = answer.items;
  const isFirst = queryClient.getQueryData(key) === undefined;
  while (answer.metadata.continue) {
    const remaining = answer.metadata.remainingItemCount ?? 1;
    if (isFirst) queryClient.setQueryData(key, listingOf([...items], version, remaining));
    answer = await page({ limit: NEXT_PAGE, continue: answer.metadata.continue });
    items.push(...answer.items);
  }
  return listingOf(items, version);
}

function follow(path: string, selection: Selection, key: QueryKey): () => void {
  const name = JSON.stringify(key);
  let found = followed.get(name);
  if (!found) {
    const listing = queryClient.getQueryData<Listing>(key);
    if (!listing) return () => undefined;
    const stop = live.watch({
      path,
      ...(selection.labelSelector ? { labelSelector: selection.labelSelector } : {}),
      ...(selection.fieldSelector ? { fieldSelector: selection.fieldSelector } : {}),
      resourceVersion: listing.resourceVersion,
      onEvents: (events, version) =>
        queryClient.setQueryData<Listing>(key, (before) => before && patch(before, events, version)),
      onEnd: () => {
        followed.delete(name);
        void queryClient.invalidateQueries({ queryKey: key, exact: true });
      },
    });
    found = { users: 0, stop };
    followed.set(name, found);
  }
  const following = found;
  clearTimeout(following.end);
  following.users += 1;
  return () => {
    following.users -= 1;
    if (following.users > 0) return;
    following.end = setTimeout(() => {
      following.stop();
      if (followed.get(name) === following) followed.delete(name);
    }, LINGER_MS);
  };
}

export interface LiveList {
  items: Resource[];
  /** Nothing is there yet. */
  loading: boolean;
  /** Whether all pages have come. */
  complete: boolean;
  total: number;
  error: Error | null;
  retry: () => void;
}

/** Returns what is in a collection, now and from now on; a path of null: nothing. */
export function useLiveList(path: string | null, selection: Selection = {}): LiveList {
  const { labelSelector, fieldSelector } = selection;
  const key = useMemo<QueryKey>(
    () => ["list", path, labelSelector ?? "", fieldSelector ?? ""],
    [path, labelSelector, fieldSelector],
  );
  const query = useQuery<Listing, Error>({
    queryKey: key,
    queryFn: ({ signal }) => load(path ?? "", { labelSelector, fieldSelector }, key, signal),
    enabled: path !== null,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 5 * 60_000,
    structuralSharing: false,
  });
  const ready = query.data?.complete === true && !query.isFetching;
  useEffect(() => {
    if (!ready || path === null) return;
    return follow(path, { labelSelector, fieldSelector }, key);
  }, [ready, path, labelSelector, fieldSelector, key]);
  return {
    items: query.data?.items ?? NO_ITEMS,
    loading: query.isPending && path !== null,
    complete: query.data?.complete ?? false,
    total: query.data?.total ?? 0,
    error: query.error,
    retry: () => void query.refetch(),
  };
}

export interface LiveObject<T> {
  object: T | undefined;
  loading: boolean;
  /** It is not there, or not any more. */
  gone: boolean;
  error: Error | null;
}

/** Returns one object of a collection, now and from now on. */
export function useLiveObject<T extends Resource = Resource>(collection: string | null, name: string): LiveObject<T> {
  const { items, loading, error } = useLiveList(collection, { fieldSelector: `metadata.name=${name}` });
  const object = items[0] as T | undefined;
  return {
    object,
    loading,
    gone: !loading && object === undefined && (error === null || (error instanceof Refused && error.code === 404)),
    error,
  };
}
