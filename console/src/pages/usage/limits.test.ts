import { expect, it } from "vitest";
import { toneOf } from "~/components/Meter";
import { byPressure, bytesOf } from "./limits";

it("puts first what is nearest to its end", () => {
  const limits = [
    { name: "ports", limit: 10, used: 1 },
    { name: "instances", limit: 2, used: 2 },
    { name: "keys", limit: 0, used: 0 },
    { name: "images", limit: 0, used: 1 },
  ];
  expect(byPressure(limits).map(({ name }) => name)).toEqual(["images", "instances", "ports", "keys"]);
});

it("knows bytes by their names", () => {
  expect(bytesOf("memoryMiB")).toBe(1024 ** 2);
  expect(bytesOf("rootDiskGiB")).toBe(1024 ** 3);
  expect(bytesOf("instances")).toBeNull();
});

it("says by a tone when somebody should look", () => {
  expect([toneOf(0, 0), toneOf(7, 10), toneOf(8, 10), toneOf(10, 10), toneOf(1, 0)]).toEqual([
    "good",
    "good",
    "warn",
    "bad",
    "bad",
  ]);
});
