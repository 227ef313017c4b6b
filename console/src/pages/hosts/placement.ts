/** Which host carries what, of what hosts and instances say. */
import type { Resource } from "~/api/types";
import { type Amounts, amountsOf, readyOf } from "~/pages/dashboard/facts";

export interface Load {
  host: Resource;
  ready: boolean;
  cordoned: boolean;
  allocatable: Amounts;
  allocated: Amounts;
  /** The fullest of its resources, from 0 on. */
  pressure: number;
  instances: Resource[];
}

const share = (used: number, of: number): number => (of > 0 ? used / of : used > 0 ? 1 : 0);

export function pressureOf(allocated: Amounts, allocatable: Amounts): number {
  return Math.max(
    share(allocated.vcpus, allocatable.vcpus),
    share(allocated.memoryMiB, allocatable.memoryMiB),
    share(allocated.diskGiB, allocatable.diskGiB),
  );
}

const hostOf = (instance: Resource): string => String(instance.status?.host ?? "");

/** Returns each host with its instances, and the instances that no host of these has. */
export function loadOf(
  hosts: readonly Resource[],
  instances: readonly Resource[],
): { loads: Load[]; unplaced: Resource[] } {
  const by = new Map<string, Resource[]>();
  for (const instance of instances) {
    const name = hostOf(instance);
    const found = by.get(name);
    if (found) found.push(instance);
    else by.set(name, [instance]);
  }
  const loads = hosts.map((host) => {
    const allocatable = amountsOf(host.status?.allocatable);
    const allocated = amountsOf(host.status?.allocated);
    return {
      host,
      ready: readyOf(host)?.status === "True",
      cordoned: host.spec?.scheduling === "Disabled",
      allocatable,
      allocated,
      pressure: pressureOf(allocated, allocatable),
      instances: [...(by.get(host.metadata.name) ?? [])].sort((a, b) => a.metadata.name.localeCompare(b.metadata.name)),
    };
  });
  return { loads, unplaced: by.get("") ?? [] };
}

export const SORTS = ["name", "pressure", "instances"] as const;
export type Sort = (typeof SORTS)[number];

export function sortLoads(loads: readonly Load[], sort: Sort): Load[] {
  const byName = (a: Load, b: Load) =>
    a.host.metadata.name.localeCompare(b.host.metadata.name, undefined, { numeric: true });
  return [...loads].sort(
    (a, b) =>
      (sort === "pressure"
        ? b.pressure - a.pressure
        : sort === "instances"
          ? b.instances.length - a.instances.length
          : 0) || byName(a, b),
  );
}
