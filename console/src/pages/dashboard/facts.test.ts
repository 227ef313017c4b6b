import { describe, expect, it } from "vitest";
import type { Resource } from "~/api/types";
import { capacityOf, countHealth, inMotion, newestEvents, topTakers } from "./facts";

function make(name: string, more: Partial<Resource["metadata"]>, status: Record<string, unknown>): Resource {
  return {
    apiVersion: "vcstack.io/v1",
    kind: "Instance",
    metadata: {
      name,
      uid: name,
      resourceVersion: "1",
      generation: 1,
      creationTimestamp: "2026-11-23T09:00:00Z",
      ...more,
    },
    spec: {},
    status,
  };
}

const ready = (status: string, at = "2026-11-23T09:00:00Z") => ({
  conditions: [{ type: "Ready", status, reason: "R", lastTransitionTime: at }],
});

describe("the capacity", () => {
  it("is what hosts that answer have", () => {
    const allocatable = { vcpus: 8, memoryMiB: 4096, diskGiB: 100 };
    const hosts = [
      make("h1", {}, { ...ready("True"), allocatable, allocated: { vcpus: 2, memoryMiB: 512, diskGiB: 4 } }),
      make("h2", {}, { ...ready("False"), allocatable, allocated: { vcpus: 8, memoryMiB: 4096, diskGiB: 100 } }),
      make("h3", {}, {}),
    ];
    expect(capacityOf(hosts)).toEqual({ allocatable, allocated: { vcpus: 2, memoryMiB: 512, diskGiB: 4 } });
    expect(capacityOf([]).allocatable.vcpus).toBe(0);
  });
});

describe("what is in motion", () => {
  const objects = [
    make("good", {}, ready("True")),
    make("old", {}, ready("False", "2026-11-23T08:00:00Z")),
    make("new", {}, ready("Unknown", "2026-11-23T10:00:00Z")),
    make("going", { deletionTimestamp: "2026-11-23T09:30:00Z" }, ready("True")),
  ];
  it("is all that is not ready, newest first", () => {
    expect(inMotion(objects, 10).map(({ metadata }) => metadata.name)).toEqual(["new", "going", "old"]);
    expect(inMotion(objects, 1)).toHaveLength(1);
  });
  it("is counted by what is the matter", () => {
    expect(countHealth(objects)).toEqual({ ready: 1, waiting: 1, failed: 1, deleting: 1 });
  });
});

describe("who takes most", () => {
  const instances = [
    make("a", { project: "demo" }, { allocated: { vcpus: 1, memoryMiB: 256 } }),
    make("b", { project: "shop" }, { allocated: { vcpus: 2, memoryMiB: 512 } }),
    make("c", { project: "demo" }, { allocated: { vcpus: 1, memoryMiB: 512 } }),
    make("d", { project: "idle" }, {}),
  ];
  it("are projects in the cloud, instances in a project", () => {
    expect(topTakers(instances, null, 2).map(({ name, instances: count }) => [name, count])).toEqual([
      ["demo", 2],
      ["shop", 1],
    ]);
    expect(topTakers(instances, "demo", 1).map(({ name }) => name)).toEqual(["b"]);
  });
});

it("shows the newest events", () => {
  const event = (name: string, lastTime: string): Resource => ({ ...make(name, {}, {}), spec: { lastTime } });
  const events = [
    event("1", "2026-11-23T09:00:00Z"),
    event("3", "2026-11-23T11:00:00Z"),
    event("2", "2026-11-23T10:00:00Z"),
  ];
  expect(newestEvents(events, 2).map(({ metadata }) => metadata.name)).toEqual(["3", "2"]);
});
