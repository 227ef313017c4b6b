import { expect, it } from "vitest";
import { type Moment, nextOf, positionOf, reachOf, sinceReach, touchedBetween } from "./moments";

const moment = (revision: number, operation: string, name: string): Moment => ({
  revision: String(revision),
  operation,
  actor: "alice",
  manager: "console",
  time: "2026-11-23T00:00:00Z",
  kind: "Network",
  project: "demo",
  name,
  diff: [],
});
const MOMENTS = [
  moment(1, "Created", "a"),
  moment(3, "Updated", "a"),
  moment(5, "Created", "b"),
  moment(7, "Updated", "b"),
  moment(8, "Created", "c"),
  moment(9, "Deleted", "c"),
  moment(10, "Deleted", "a"),
];
const between = (after: number, until: number) =>
  touchedBetween(MOMENTS, String(after), String(until)).map(({ name, how }) => `${name} ${how}`);

it("tells what became of each object between two points", () => {
  expect(between(1, 3)).toEqual(["a changed"]);
  expect(between(3, 7)).toEqual(["b made"]);
  expect(between(5, 7)).toEqual(["b changed"]);
  expect(between(1, 10)).toEqual(["a gone", "b made"]);
});

it("says nothing of what came and went in between, or of nothing", () => {
  expect(between(7, 9)).toEqual([]);
  expect(between(3, 3)).toEqual([]);
});

it("finds the moment that a revision falls into", () => {
  expect(positionOf(MOMENTS, null)).toBe(6);
  expect(positionOf(MOMENTS, "4")).toBe(1);
  expect(positionOf(MOMENTS, "0")).toBe(0);
  expect(positionOf(MOMENTS, "nonsense")).toBe(0);
});

it("knows what the cloud itself made", () => {
  const moments = [{ ...moment(2, "Created", "default"), actor: "system:controller:project" }, ...MOMENTS.slice(2)];
  expect(touchedBetween(moments, "1", "8").map(({ name, isSystems }) => [name, isSystems])).toEqual([
    ["default", true],
    ["b", false],
    ["c", false],
  ]);
});

it("pages on to what is older, and not beyond what was removed", () => {
  const items = MOMENTS.slice(1, 3).reverse();
  expect(nextOf({ kind: "Timeline", items, metadata: {} }, 2)).toBeUndefined();
  expect(nextOf({ kind: "Timeline", items, metadata: { before: "3" } }, 2)).toBe("3");
  expect(nextOf({ kind: "History", items, metadata: {} }, 2)).toBe("3");
  expect(nextOf({ kind: "History", items, metadata: {} }, 3)).toBeUndefined();
  expect(nextOf({ kind: "History", items, metadata: { reach: { revision: "3" } } }, 2)).toBeUndefined();
  expect(nextOf({ kind: "History", items, metadata: { reach: { revision: "2" } } }, 2)).toBe("3");
});

it("lets a project's past begin where it can be told", () => {
  const since = (reach: { revision: string; time?: string } | undefined, isAll: boolean) =>
    sinceReach(MOMENTS, reach, isAll).map(({ revision }) => revision);
  const time = "2026-11-23T00:00:00Z";
  const all = ["1", "3", "5", "7", "8", "9", "10"];
  expect(since(undefined, true)).toEqual(all);
  expect(since({ revision: "0" }, true)).toEqual(all);
  expect(since({ revision: "6", time }, false)).toEqual(["6", "7", "8", "9", "10"]);
  expect(since({ revision: "5", time }, false)).toEqual(["5", "7", "8", "9", "10"]);
  expect(since({ revision: "0", time }, false)).toEqual(all);
  expect(since({ revision: "0", time }, true)).toEqual(["0", ...all]);
  expect(touchedBetween(sinceReach(MOMENTS, { revision: "6", time }, true), "6", "7").map(({ how }) => how)).toEqual([
    "changed",
  ]);
});

it("says from where on nothing is missing, if anything may be", () => {
  const page = (kind: string, reach: string, operation: string) => ({
    kind,
    items: [{ operation }],
    metadata: { reach: { revision: reach } },
  });
  expect(reachOf(page("History", "4", "Updated"))).toBe("4");
  expect(reachOf(page("History", "4", "Created"))).toBeUndefined();
  expect(reachOf(page("Timeline", "4", "Created"))).toBe("4");
  expect(reachOf(page("Timeline", "0", "Updated"))).toBeUndefined();
  expect(reachOf({ kind: "History", items: [], metadata: {} })).toBeUndefined();
});
