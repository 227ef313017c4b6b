/** A project's networks and what is on them, and where each is drawn. Nothing here knows how it is drawn. */
import type { Resource } from "~/api/types";

export interface NetworkNode {
  id: string;
  /** PROJECT/NAME for one that another project lends. */
  name: string;
  project: string;
  /** What it is called in its own project. */
  own: string;
  lent: boolean;
  object: Resource | null;
  subnets: { name: string; cidr: string }[];
  /** Ports of this project on it that are attached to nothing. */
  idle: number;
  /** Instances that are not drawn, for there are too many. */
  hidden: number;
  x: number;
  y: number;
  width: number;
}

export interface InstanceNode {
  id: string;
  object: Resource;
  links: { network: string; port: string; addresses: string[] }[];
  x: number;
  y: number;
}

export interface Graph {
  networks: NetworkNode[];
  instances: InstanceNode[];
  /** Instances without any network. */
  apart: number;
}

export const NODE_WIDTH = 200;
export const NODE_HEIGHT = 64;
export const NETWORK_HEIGHT = 84;
const GAP = 28;
const ROW = NODE_HEIGHT + 56;
const COLUMNS = 4;
/** More than that are a crowd, and a list says more than a drawing. */
export const MOST_DRAWN = 60;

interface PortFacts {
  network: string;
  instance: string | null;
  addresses: string[];
  name: string;
}

function factsOf(port: Resource): PortFacts {
  const status = port.status as { instance?: string | null; addresses?: { address: string }[] } | undefined;
  return {
    name: port.metadata.name,
    network: String(port.spec?.network ?? ""),
    instance: status?.instance ?? null,
    addresses: (status?.addresses ?? []).map(({ address }) => address),
  };
}

const byName = (a: Resource, b: Resource) =>
  a.metadata.name.localeCompare(b.metadata.name, undefined, { numeric: true });

/** Returns what is to be drawn of a project. */
export function buildGraph(
  project: string,
  networks: readonly Resource[],
  subnets: readonly Resource[],
  ports: readonly Resource[],
  instances: readonly Resource[],
): Graph {
  const facts = ports.map(factsOf);
  const own = new Map([...networks].sort(byName).map((network) => [network.metadata.name, network]));
  const names = [...new Set([...own.keys(), ...facts.map(({ network }) => network).filter(Boolean)])];
  const links = new Map<string, PortFacts[]>();
  for (const fact of facts) {
    if (!fact.instance) continue;
    const found = links.get(fact.instance);
    if (found) found.push(fact);
    else links.set(fact.instance, [fact]);
  }
  const there = new Set(instances.map(({ metadata }) => metadata.name));
  const homes = new Map<string, InstanceNode[]>(names.map((name) => [name, []]));
  let apart = 0;
  for (const object of [...instances].sort(byName)) {
    const mine = links.get(object.metadata.name) ?? [];
    const first = mine[0];
    if (!first) {
      apart += 1;
      continue;
    }
    homes.get(first.network)?.push({
      id: `instance/${object.metadata.name}`,
      object,
      links: mine.map(({ network, name, addresses }) => ({ network, port: name, addresses })),
      x: 0,
      y: 0,
    });
  }
  const drawn: InstanceNode[] = [];
  const nodes: NetworkNode[] = [];
  let x = 0;
  for (const name of names) {
    const members = homes.get(name) ?? [];
    const shown = members.slice(0, MOST_DRAWN);
    const columns = Math.max(1, Math.min(COLUMNS, shown.length));
    const width = columns * NODE_WIDTH + (columns - 1) * GAP;
    shown.forEach((node, index) => {
      node.x = x + (index % columns) * (NODE_WIDTH + GAP);
      node.y = NETWORK_HEIGHT + 60 + Math.floor(index / columns) * ROW;
      drawn.push(node);
    });
    const [lender, lentName] = name.includes("/") ? (name.split("/", 2) as [string, string]) : [project, name];
    nodes.push({
      id: `network/${name}`,
      name,
      project: lender,
      own: lentName,
      lent: !own.has(name),
      object: own.get(name) ?? null,
      subnets: subnets
        .filter(({ spec }) => spec?.network === name)
        .map(({ metadata, spec }) => ({ name: metadata.name, cidr: String(spec?.cidr ?? "") })),
      idle: facts.filter((fact) => fact.network === name && !(fact.instance && there.has(fact.instance))).length,
      hidden: members.length - shown.length,
      x,
      y: 0,
      width,
    });
    x += width + 2 * GAP;
  }
  return { networks: nodes, instances: drawn, apart };
}
