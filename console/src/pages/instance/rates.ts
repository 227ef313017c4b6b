/** From counters to what happens: the difference of two observations of one run. */
import type { Schemas } from "~/api/types";

export type Metrics = Schemas["InstanceMetrics"];

export interface Rates {
  at: number;
  /** Of all its CPUs, in percent. */
  cpu: number;
  /** Bytes that the guest uses; of those that it takes of its host where the guest does not tell. */
  memory: number;
  readBytes: number;
  writtenBytes: number;
  receivedBytes: number;
  sentBytes: number;
}

/** Whether the guest itself says how much of its memory it uses. */
export function tellsMemory(metrics: Metrics | null): boolean {
  return typeof metrics?.usableBytes === "number";
}

const sum = (values: number[]): number => values.reduce((all, each) => all + each, 0);

/** Returns what happened each second between two observations; null when they are of different runs. */
export function ratesBetween(before: Metrics, after: Metrics): Rates | null {
  const at = Date.parse(after.observedAt);
  const seconds = (at - Date.parse(before.observedAt)) / 1000;
  if (before.machine !== after.machine || seconds <= 0) return null;
  const perSecond = (pick: (metrics: Metrics) => number) => Math.max(0, pick(after) - pick(before)) / seconds;
  const disks = (pick: (disk: Schemas["DiskMetrics"]) => number) =>
    perSecond((metrics) => sum((metrics.disks ?? []).map(pick)));
  const cards = (pick: (card: Schemas["InterfaceMetrics"]) => number) =>
    perSecond((metrics) => sum((metrics.networkInterfaces ?? []).map(pick)));
  const usable = after.usableBytes;
  return {
    at,
    cpu: Math.min(100, perSecond(({ cpuNanoseconds }) => cpuNanoseconds) / 1e7 / after.vcpus),
    memory: usable === null || usable === undefined ? after.residentBytes : Math.max(0, after.memoryBytes - usable),
    readBytes: disks(({ readBytes }) => readBytes),
    writtenBytes: disks(({ writtenBytes }) => writtenBytes),
    receivedBytes: cards(({ receivedBytes }) => receivedBytes),
    sentBytes: cards(({ sentBytes }) => sentBytes),
  };
}
