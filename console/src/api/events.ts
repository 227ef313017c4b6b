/** Changes as they come, and how they change what is shown. */
import type { Resource } from "./types";

export interface LiveEvent {
  type: "ADDED" | "MODIFIED" | "DELETED";
  object: Resource;
}

export interface Collector {
  add: (event: LiveEvent) => void;
  /** Hand on what waits, now. */
  flush: () => void;
  stop: () => void;
}

/** Ten times a second is live enough for eyes, and leaves the page time to draw. */
const PAUSE_MS = 100;

/** Gather events: the first is handed on at once, those that follow together. */
export function collect(onEvents: (events: LiveEvent[]) => void, pauseMs = PAUSE_MS): Collector {
  let waiting: LiveEvent[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  let notBefore = 0;
  const flush = () => {
    timer = undefined;
    notBefore = performance.now() + pauseMs;
    const events = waiting;
    waiting = [];
    onEvents(events);
  };
  return {
    add(event) {
      waiting.push(event);
      timer ??= setTimeout(flush, Math.max(notBefore - performance.now(), 0));
    },
    flush() {
      clearTimeout(timer);
      if (waiting.length > 0) flush();
    },
    stop() {
      clearTimeout(timer);
      waiting = [];
    },
  };
}

/** What is known of a collection. Replaced as a whole on each change; `byUid` is shared between versions. */
export interface Listing {
  items: Resource[];
  byUid: Map<string, Resource>;
  resourceVersion: string;
  /** Whether all pages have come. */
  complete: boolean;
  /** How many there are, as far as the API said. */
  total: number;
}

export function listingOf(items: Resource[], resourceVersion: string, remaining = 0): Listing {
  const byUid = new Map(items.map((item) => [item.metadata.uid, item]));
  return { items, byUid, resourceVersion, complete: remaining === 0, total: items.length + remaining };
}

/** Returns the listing after these events. */
export function patch(listing: Listing, events: LiveEvent[], resourceVersion: string): Listing {
  const { byUid } = listing;
  for (const { type, object } of events) {
    if (type === "DELETED") byUid.delete(object.metadata.uid);
    else byUid.set(object.metadata.uid, object);
  }
  return { ...listing, items: [...byUid.values()], total: byUid.size, resourceVersion };
}
