import { describe, expect, it, vi } from "vitest";
import { collect, listingOf, patch } from "./events";
import { collectionPath, objectLink, vcctl } from "./kinds";
import type { Resource } from "./types";

const object = (name: string, resourceVersion = "1"): Resource => ({
  apiVersion: "vcstack.io/v1",
  kind: "Network",
  metadata: { name, uid: `net-${name}`, resourceVersion, generation: 1, creationTimestamp: "2026-11-23T00:00:00Z" },
});
const names = (items: Resource[]) => items.map(({ metadata }) => metadata.name);

describe("a listing", () => {
  it("is patched by what happened, in order", () => {
    const before = listingOf([object("a"), object("b")], "5");
    const after = patch(
      before,
      [
        { type: "ADDED", object: object("c") },
        { type: "MODIFIED", object: object("a", "7") },
        { type: "DELETED", object: object("b") },
      ],
      "8",
    );
    expect(names(after.items)).toEqual(["a", "c"]);
    expect(after.items[0]?.metadata.resourceVersion).toBe("7");
    expect(after).toMatchObject({ resourceVersion: "8", total: 2 });
    expect(after).not.toBe(before);
  });

  it("is complete when nothing remains", () => {
    expect(listingOf([object("a")], "1", 9)).toMatchObject({ complete: false, total: 10 });
    expect(listingOf([object("a")], "1").complete).toBe(true);
  });
});

describe("changes", () => {
  it("that come close together are handed on together", () => {
    vi.useFakeTimers();
    const seen: number[] = [];
    const collector = collect((events) => seen.push(events.length), 100);
    collector.add({ type: "ADDED", object: object("a") });
    vi.advanceTimersByTime(0);
    for (const name of ["b", "c", "d"]) collector.add({ type: "ADDED", object: object(name) });
    expect(seen).toEqual([1]);
    vi.advanceTimersByTime(100);
    expect(seen).toEqual([1, 3]);
    collector.add({ type: "ADDED", object: object("e") });
    collector.stop();
    vi.advanceTimersByTime(1000);
    expect(seen).toEqual([1, 3]);
    vi.useRealTimers();
  });
});

describe("addresses and commands", () => {
  it("follow the API's", () => {
    expect(collectionPath("hosts")).toBe("/api/v1/hosts");
    expect(collectionPath("instances", "demo")).toBe("/api/v1/projects/demo/instances");
    expect(objectLink("instances", "demo", "web")).toBe("/projects/demo/instances/web");
  });

  it("quote what a shell would take for its own", () => {
    expect(vcctl("delete", "secret", "a; rm -rf /", "--project", "it's")).toBe(
      "vcctl delete secret 'a; rm -rf /' --project 'it'\\''s'",
    );
  });
});
