import { describe, expect, it } from "vitest";
import type { KindInfo } from "~/api/kinds";
import type { Resource } from "~/api/types";
import { columnsOf } from "./columns";
import { manifestOf, toCsv } from "./export";
import { conditionChoices, filterRows, rowMaker, sorterOf } from "./rows";
import { readState, writeState } from "./state";

const KIND: KindInfo = {
  kind: "Instance",
  plural: "instances",
  singular: "instance",
  shortNames: [],
  scope: "Project",
  category: "compute",
  columns: [
    { name: "HOST", jsonPath: "status.host", type: "text", priority: 0 },
    { name: "MEMORY", jsonPath: "spec.memoryMiB", type: "text", priority: 0 },
    { name: "ADDRESSES", jsonPath: "status.addresses[*].address", type: "text", priority: 0 },
  ],
  conditions: ["Running"],
  verbs: ["get", "create"],
  subresources: [],
  doc: "A machine.",
};
const columns = columnsOf(KIND);

function instance(
  name: string,
  more: { memory?: number; ready?: string; host?: string; labels?: Record<string, string> } = {},
): Resource {
  return {
    apiVersion: "vcstack.io/v1",
    kind: "Instance",
    metadata: {
      name,
      project: "demo",
      uid: `vm-${name}`,
      resourceVersion: "1",
      generation: 1,
      creationTimestamp: "2026-11-23T00:00:00Z",
      labels: more.labels ?? {},
    },
    spec: { memoryMiB: more.memory ?? 512 },
    status: {
      host: more.host,
      addresses: [{ address: "10.0.0.1" }, { address: "10.0.0.2" }],
      conditions: [{ type: "Ready", status: (more.ready ?? "True") as "True" }],
    },
  };
}

const names = (rows: { object: Resource }[]) => rows.map(({ object }) => object.metadata.name);
const make = rowMaker(columns);

describe("the rows of a list", () => {
  const rows = [
    instance("web-10", { memory: 1024, host: "h2", labels: { env: "prod" } }),
    instance("web-2", { memory: 512, ready: "False" }),
    instance("db", { memory: 2048, host: "h1" }),
  ].map(make);

  it("hold what the kind's columns say", () => {
    expect(rows[0]?.texts).toEqual(["h2", "1024", "10.0.0.1, 10.0.0.2"]);
  });

  it("stay the same while their object does", () => {
    const object = instance("a");
    expect(make(object)).toBe(make(object));
  });

  it("are found by every word, in names, columns and labels", () => {
    expect(names(filterRows(rows, "WEB prod", ""))).toEqual(["web-10"]);
    expect(names(filterRows(rows, "h1", ""))).toEqual(["db"]);
    expect(filterRows(rows, "web nothing", "")).toEqual([]);
  });

  it("are found by a condition", () => {
    expect(names(filterRows(rows, "", "Ready:False"))).toEqual(["web-2"]);
    expect(conditionChoices(rows.map(({ object }) => object))).toEqual(["Ready:False", "Ready:True"]);
  });

  it("are sorted as people count, what is absent last", () => {
    expect(names(sorterOf("name", columns)(rows))).toEqual(["db", "web-2", "web-10"]);
    expect(names(sorterOf("-memory", columns)(rows))).toEqual(["db", "web-10", "web-2"]);
    expect(names(sorterOf("host", columns)(rows))).toEqual(["db", "web-10", "web-2"]);
    expect(names(sorterOf("-host", columns)(rows))).toEqual(["web-10", "db", "web-2"]);
  });
});

describe("an export", () => {
  it("makes no formula of a name", () => {
    const row = make(instance("a", { host: '=cmd|"x"' }));
    expect(toCsv([row], columns)).toBe(
      'PROJECT,NAME,HOST,MEMORY,ADDRESSES,CREATED\r\ndemo,a,"\'=cmd|""x""",512,"10.0.0.1, 10.0.0.2",2026-11-23T00:00:00Z\r\n',
    );
  });

  it("holds of a manifest what people write", () => {
    expect(manifestOf(instance("a"))).toEqual({
      apiVersion: "vcstack.io/v1",
      kind: "Instance",
      metadata: { name: "a", project: "demo" },
      spec: { memoryMiB: 512 },
    });
  });
});

describe("how a list is looked at", () => {
  it("comes back from the address", () => {
    const state = { text: "web", label: "env=prod", condition: "Ready:False", sort: "-age", wide: true };
    const parameters = writeState(new URLSearchParams("other=1"), state);
    expect(readState(parameters)).toEqual(state);
    expect(parameters.get("other")).toBe("1");
  });

  it("leaves the address alone when nothing is chosen", () => {
    expect(writeState(new URLSearchParams(), { text: "", sort: "name" }).toString()).toBe("");
  });
});
