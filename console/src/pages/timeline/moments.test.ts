import { expect, it } from "vitest";
import { type Moment, positionOf, touchedBetween } from "./moments";

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
