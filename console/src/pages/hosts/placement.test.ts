import { expect, it } from "vitest";
import type { Resource } from "~/api/types";
import { loadOf, pressureOf, sortLoads } from "./placement";

function make(kind: string, name: string, spec: object, status: object): Resource {
  return {
    apiVersion: "vcstack.io/v1",
    kind,
    metadata: { name, uid: name, resourceVersion: "1", generation: 1, creationTimestamp: "" },
    spec: { ...spec },
    status: { ...status },
  };
}

const allocatable = { vcpus: 8, memoryMiB: 1000, diskGiB: 100 };
const hosts = [
  make(
    "Host",
    "h10",
    {},
    {
      allocatable,
      allocated: { vcpus: 1, memoryMiB: 900, diskGiB: 1 },
      conditions: [{ type: "Ready", status: "True" }],
    },
  ),
  make("Host", "h2", { scheduling: "Disabled" }, { allocatable, allocated: { vcpus: 2, memoryMiB: 10, diskGiB: 1 } }),
];
const instances = [
  make("Instance", "b", {}, { host: "h2" }),
  make("Instance", "a", {}, { host: "h2" }),
  make("Instance", "c", {}, { host: "h10" }),
  make("Instance", "waits", {}, {}),
];

it("tells of each host what it carries", () => {
  const { loads, unplaced } = loadOf(hosts, instances);
  expect(
    loads.map((load) => [
      load.host.metadata.name,
      load.ready,
      load.cordoned,
      load.instances.map((i) => i.metadata.name),
    ]),
  ).toEqual([
    ["h10", true, false, ["c"]],
    ["h2", false, true, ["a", "b"]],
  ]);
  expect(unplaced.map(({ metadata }) => metadata.name)).toEqual(["waits"]);
});

it("takes the fullest resource for the load", () => {
  expect(pressureOf({ vcpus: 1, memoryMiB: 900, diskGiB: 1 }, allocatable)).toBe(0.9);
  expect(pressureOf({ vcpus: 0, memoryMiB: 0, diskGiB: 0 }, { vcpus: 0, memoryMiB: 0, diskGiB: 0 })).toBe(0);
});

it("sorts names as people count, and otherwise what is most first", () => {
  const { loads } = loadOf(hosts, instances);
  const names = (sort: "name" | "pressure" | "instances") =>
    sortLoads(loads, sort).map(({ host }) => host.metadata.name);
  expect(names("name")).toEqual(["h2", "h10"]);
  expect(names("pressure")).toEqual(["h10", "h2"]);
  expect(names("instances")).toEqual(["h2", "h10"]);
});
