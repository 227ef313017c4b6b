import { describe, expect, it } from "vitest";
import { plain } from "./Log";
import { type Metrics, ratesBetween, tellsMemory } from "./rates";

const metrics = (seconds: number, counter: number, more: Partial<Metrics> = {}): Metrics => ({
  observedAt: new Date(1_700_000_000_000 + seconds * 1000).toISOString(),
  machine: "1",
  vcpus: 2,
  cpuNanoseconds: counter * 1e9,
  memoryBytes: 1000,
  usableBytes: null,
  residentBytes: 600,
  disks: [
    { device: "vda", readBytes: counter * 10, writtenBytes: 0, readRequests: 0, writeRequests: 0 },
    { device: "vdb", readBytes: counter * 30, writtenBytes: counter, readRequests: 0, writeRequests: 0 },
  ],
  networkInterfaces: [{ mac: "a", receivedBytes: counter * 100, sentBytes: 0, receivedPackets: 0, sentPackets: 0 }],
  ...more,
});

describe("rates", () => {
  it("are differences by second, of all disks and cards", () => {
    const found = ratesBetween(metrics(0, 1), metrics(2, 3));
    expect(found).toMatchObject({
      cpu: 50,
      memory: 600,
      readBytes: 40,
      writtenBytes: 1,
      receivedBytes: 100,
      sentBytes: 0,
    });
  });

  it("are none across a start, and none of the same moment", () => {
    expect(ratesBetween(metrics(0, 1), metrics(2, 3, { machine: "2" }))).toBeNull();
    expect(ratesBetween(metrics(0, 1), metrics(0, 1))).toBeNull();
  });

  it("believe the guest about its memory, if it tells", () => {
    expect([null, 700].map((usableBytes) => tellsMemory(metrics(0, 1, { usableBytes })))).toEqual([false, true]);
    expect(ratesBetween(metrics(0, 1), metrics(2, 3, { usableBytes: 700 }))?.memory).toBe(300);
  });

  it("are never below nothing and never above all CPUs", () => {
    const found = ratesBetween(metrics(0, 5), metrics(1, 5, { networkInterfaces: [], cpuNanoseconds: 99e9 }));
    expect(found).toMatchObject({ cpu: 100, receivedBytes: 0 });
  });
});

describe("a log", () => {
  it("loses what moves cursors, and keeps lines", () => {
    expect(plain("\u001b[2J\u001b[1;31mred\u001b[0m\r\nnext\u0007 \u001b(Bone\tx\n")).toBe("red\nnext one\tx\n");
  });
});
