/** What the overview says, of what the lists hold. */
import type { Condition, Resource } from "~/api/types";

export interface Amounts {
  vcpus: number;
  memoryMiB: number;
  diskGiB: number;
}

export const RESOURCES = ["vcpus", "memoryMiB", "diskGiB"] as const;

const NOTHING: Amounts = { vcpus: 0, memoryMiB: 0, diskGiB: 0 };

export function amountsOf(value: unknown): Amounts {
  const given = (value ?? {}) as Partial<Record<keyof Amounts, number>>;
  return { vcpus: given.vcpus ?? 0, memoryMiB: given.memoryMiB ?? 0, diskGiB: given.diskGiB ?? 0 };
}

export const add = (a: Amounts, b: Amounts): Amounts => ({
  vcpus: a.vcpus + b.vcpus,
  memoryMiB: a.memoryMiB + b.memoryMiB,
  diskGiB: a.diskGiB + b.diskGiB,
});

/** Returns what all hosts that answer have for instances, and what is taken of it. */
export function capacityOf(hosts: readonly Resource[]): { allocatable: Amounts; allocated: Amounts } {
  const usable = hosts.filter((host) => readyOf(host)?.status === "True");
  return {
    allocatable: usable.map(({ status }) => amountsOf(status?.allocatable)).reduce(add, NOTHING),
    allocated: usable.map(({ status }) => amountsOf(status?.allocated)).reduce(add, NOTHING),
  };
}

export const readyOf = (object: Resource): Condition | undefined =>
  object.status?.conditions?.find(({ type }) => type === "Ready");

export type Health = "ready" | "waiting" | "failed" | "deleting";

/** Whether an object is as it should be. Without a Ready nobody has looked at it yet, or nobody does. */
export function healthOf(object: Resource): Health {
  if (object.metadata.deletionTimestamp) return "deleting";
  const ready = readyOf(object);
  if (!ready || ready.status === "True") return "ready";
  return ready.status === "False" ? "failed" : "waiting";
}

export function countHealth(objects: readonly Resource[]): Record<Health, number> {
  const counts = { ready: 0, waiting: 0, failed: 0, deleting: 0 };
  for (const object of objects) counts[healthOf(object)] += 1;
  return counts;
}

const changedAt = (object: Resource): string =>
  object.metadata.deletionTimestamp ?? readyOf(object)?.lastTransitionTime ?? object.metadata.creationTimestamp;

/** Returns what is not as it should be, what changed last first. */
export function inMotion(objects: readonly Resource[], most: number): Resource[] {
  return objects
    .filter((object) => healthOf(object) !== "ready")
    .sort((a, b) => changedAt(b).localeCompare(changedAt(a)))
    .slice(0, most);
}

export interface Taker {
  name: string;
  instances: number;
  amounts: Amounts;
}

/** Returns who takes most memory: projects, or within one project its instances. */
export function topTakers(instances: readonly Resource[], project: string | null, most: number): Taker[] {
  const found = new Map<string, Taker>();
  for (const { metadata, status } of instances) {
    const name = project === null ? (metadata.project ?? "") : metadata.name;
    const before = found.get(name) ?? { name, instances: 0, amounts: NOTHING };
    found.set(name, {
      name,
      instances: before.instances + 1,
      amounts: add(before.amounts, amountsOf(status?.allocated)),
    });
  }
  return [...found.values()]
    .sort((a, b) => b.amounts.memoryMiB - a.amounts.memoryMiB || a.name.localeCompare(b.name))
    .slice(0, most);
}

export interface EventSpec {
  regarding: { kind: string; name: string };
  type: "Normal" | "Warning";
  reason: string;
  message: string;
  count?: number;
  lastTime: string;
}

export const specOf = (event: Resource): EventSpec => event.spec as unknown as EventSpec;

export function newestEvents(events: readonly Resource[], most: number): Resource[] {
  return [...events].sort((a, b) => specOf(b).lastTime.localeCompare(specOf(a).lastTime)).slice(0, most);
}
