import { expect, it } from "vitest";
import type { Resource } from "~/api/types";
import { buildGraph, MOST_DRAWN } from "./graph";

function make(kind: string, name: string, spec: object = {}, status: object = {}): Resource {
  return {
    apiVersion: "vcstack.io/v1",
    kind,
    metadata: { name, project: "demo", uid: name, resourceVersion: "1", generation: 1, creationTimestamp: "" },
    spec: { ...spec },
    status: { ...status },
  };
}

const port = (name: string, network: string, instance?: string, address?: string) =>
  make("Port", name, { network }, { instance, addresses: address ? [{ address, subnet: "s" }] : [] });

const networks = [make("Network", "web"), make("Network", "empty")];
const subnets = [make("Subnet", "web-v4", { network: "web", cidr: "10.0.0.0/24" })];
const ports = [
  port("a-eth0", "web", "a", "10.0.0.5"),
  port("b-eth0", "web", "b", "10.0.0.6"),
  port("b-eth1", "shared/back", "b", "10.9.0.6"),
  port("spare", "web"),
  port("ghost-eth0", "web", "ghost"),
];
const instances = [make("Instance", "b"), make("Instance", "a"), make("Instance", "alone")];

it("draws networks with their subnets, and instances under the first that they are on", () => {
  const graph = buildGraph("demo", networks, subnets, ports, instances);
  expect(graph.networks.map(({ name, lent, idle }) => [name, lent, idle])).toEqual([
    ["empty", false, 0],
    ["web", false, 2],
    ["shared/back", true, 0],
  ]);
  const web = graph.networks[1];
  expect(web?.subnets).toEqual([{ name: "web-v4", cidr: "10.0.0.0/24" }]);
  expect(graph.networks[2]).toMatchObject({ project: "shared", own: "back" });
  expect(graph.instances.map(({ object, links }) => [object.metadata.name, links.map((link) => link.network)])).toEqual(
    [
      ["a", ["web"]],
      ["b", ["web", "shared/back"]],
    ],
  );
  expect(graph.apart).toBe(1);
});

it("puts nothing above another", () => {
  const many = Array.from({ length: 30 }, (_, i) => make("Instance", `i${i}`));
  const graph = buildGraph(
    "demo",
    networks,
    [],
    many.map((each) => port(`${each.metadata.name}-p`, "web", each.metadata.name)),
    many,
  );
  const places = graph.instances.map(({ x, y }) => `${x} ${y}`);
  expect(new Set(places).size).toBe(30);
  const [first, second] = graph.networks;
  expect((first?.x ?? 0) + (first?.width ?? 0)).toBeLessThan(second?.x ?? 0);
});

it("draws of a crowd only some, and says how many it left out", () => {
  const many = Array.from({ length: MOST_DRAWN + 5 }, (_, i) => make("Instance", `i${i}`));
  const graph = buildGraph(
    "demo",
    networks,
    [],
    many.map((each) => port(`${each.metadata.name}-p`, "web", each.metadata.name)),
    many,
  );
  expect(graph.instances).toHaveLength(MOST_DRAWN);
  expect(graph.networks.find(({ name }) => name === "web")?.hidden).toBe(5);
});
