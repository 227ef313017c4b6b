import { describe, expect, it } from "vitest";
import { offersAt } from "~/yaml/assist";
import { compare, missing, worst } from "./changes";
import { check } from "./check";
import { defaultsBy, fieldOf, isStandIn, type JsonSchema, schemaAt, secretsIn, takesOf } from "./schema";

const ROOT: JsonSchema = {
  type: "object",
  required: ["metadata", "spec"],
  properties: {
    metadata: { type: "object", properties: { name: { type: "string", pattern: "^[a-z]+$" } }, required: ["name"] },
    spec: { $ref: "#/$defs/Spec" },
  },
  $defs: {
    Spec: {
      type: "object",
      required: ["flavor"],
      properties: {
        flavor: { type: "string", "x-vcstack-takes": "Reboot", "x-vcstack-refers-to": "Flavor" },
        power: { anyOf: [{ $ref: "#/$defs/Power" }, { type: "null" }], description: "What it is to be." },
        cpus: { type: "integer", minimum: 1, maximum: 8 },
        nets: { type: "array", items: { $ref: "#/$defs/Net" }, maxItems: 2 },
        values: { type: "object", additionalProperties: { type: "string", "x-vcstack-sensitive": true } },
        placement: { "x-vcstack-takes": "Immutable", type: "object", properties: { zone: { type: "string" } } },
      },
    },
    Power: { type: "string", enum: ["Running", "Stopped"] },
    Net: { type: "object", properties: { name: { type: "string" }, mtu: { type: "integer" } } },
  },
};

describe("a kind's schema", () => {
  it("is followed through references and null", () => {
    expect(schemaAt(ROOT, ["spec", "power"])).toMatchObject({
      enum: ["Running", "Stopped"],
      description: "What it is to be.",
    });
    expect(schemaAt(ROOT, ["spec", "nets", 0, "mtu"])?.type).toBe("integer");
    expect(schemaAt(ROOT, ["spec", "nothing"])).toBeUndefined();
  });

  it("says what a change takes, by the nearest marker above", () => {
    expect(takesOf(ROOT, ["spec", "placement", "zone"])).toBe("Immutable");
    expect(takesOf(ROOT, ["spec", "cpus"])).toBe("Live");
  });

  it("finds secrets and tells them from stand-ins", () => {
    const value = { spec: { values: { a: "b", c: "***:0123456789ab" } } };
    expect(secretsIn(value, ROOT, ROOT).map(fieldOf)).toEqual(["spec.values.a", "spec.values.c"]);
    expect([isStandIn("***:0123456789ab"), isStandIn("***"), isStandIn("b"), isStandIn("***:xyz")]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  it("writes paths as the API does", () => {
    expect(fieldOf(["metadata", "labels", "example.com/a"])).toBe("metadata.labels[example.com/a]");
    expect(fieldOf(["spec", "nets", 0, "mtu"])).toBe("spec.nets[0].mtu");
  });
});

describe("checking", () => {
  const wrong = (spec: Record<string, unknown>, name = "web") =>
    check({ metadata: { name }, spec }, ROOT).map(({ path, rule, expected }) => [fieldOf(path), rule, expected]);

  it("finds nothing wrong where nothing is", () => {
    expect(wrong({ flavor: "s", power: null, nets: [{ name: "a", mtu: 1 }], values: { any: "x" } })).toEqual([]);
  });

  it.each([
    [{ flavour: "s", flavor: "s" }, ["spec.flavour", "unknown", "flavor"]],
    [{}, ["spec.flavor", "required", "flavor"]],
    [{ flavor: 7 }, ["spec.flavor", "type", "string"]],
    [{ flavor: "s", power: "On" }, ["spec.power", "choice", "Running, Stopped"]],
    [{ flavor: "s", cpus: 0 }, ["spec.cpus", "least", "1"]],
    [{ flavor: "s", cpus: 9 }, ["spec.cpus", "most", "8"]],
    [{ flavor: "s", cpus: 1.5 }, ["spec.cpus", "type", "integer"]],
    [{ flavor: "s", nets: [{}, {}, {}] }, ["spec.nets", "most", "2"]],
    [{ flavor: "s", nets: [{ mtu: "x" }] }, ["spec.nets[0].mtu", "type", "integer"]],
    [{ flavor: "s", nets: {} }, ["spec.nets", "type", "list"]],
  ])("says what is wrong with %j", (spec, expected) => {
    expect(wrong(spec)).toEqual([expected]);
  });

  it("holds names to their pattern", () => {
    expect(wrong({ flavor: "s" }, "UP")).toEqual([["metadata.name", "pattern", "^[a-z]+$"]]);
  });
});

describe("a field that depends on another one", () => {
  const CHOICES = {
    idle: { description: "When it ends.", value: { type: "string", pattern: "^[1-9][0-9]*[smhd]$", default: "8h" } },
    mfa: { description: "Whether it is asked for.", value: { type: "boolean", default: false } },
  };
  const root: JsonSchema = {
    type: "object",
    properties: {
      spec: {
        type: "object",
        required: ["setting", "value"],
        properties: {
          setting: { type: "string", description: "What is set." },
          value: {
            anyOf: [{ type: "boolean" }, { type: "string" }],
            "x-vcstack-depends-on": { field: "setting", choices: CHOICES },
          },
        },
      },
    },
  };
  const wrong = (setting: string, value: unknown) =>
    check({ spec: { setting, value } }, root).map(({ path, rule }) => [fieldOf(path), rule]);

  it("is checked as what the other one says", () => {
    expect(wrong("idle", "8h")).toEqual([]);
    expect(wrong("idle", "eight hours")).toEqual([["spec.value", "pattern"]]);
    expect(wrong("mfa", "8h")).toEqual([["spec.value", "type"]]);
    for (const setting of ["none", "constructor"]) expect(wrong(setting, "8h")).toEqual([["spec.setting", "choice"]]);
  });

  it("is described, and so is the other one", () => {
    const value = { spec: { setting: "mfa" } };
    expect(schemaAt(root, ["spec", "value"], value)).toMatchObject({ type: "boolean", default: false });
    expect(schemaAt(root, ["spec", "setting"], value)).toMatchObject({
      description: "Whether it is asked for.",
      enum: ["idle", "mfa"],
    });
    expect(schemaAt(root, ["spec", "value"], { spec: {} })?.anyOf).toHaveLength(2);
  });

  it("has a default for each choice", () => {
    const spec = schemaAt(root, ["spec"]) ?? {};
    expect(defaultsBy(spec, "setting", "idle")).toEqual([["value", "8h"]]);
    expect(defaultsBy(spec, "value", "idle")).toEqual([]);
  });

  it("is offered in the editor, as what it depends on is", () => {
    const offers = (text: string) => offersAt(text.replace("|", ""), text.indexOf("|"), root);
    expect(offers("spec:\n  setting: |").map(({ label, info }) => [label, info])).toEqual([
      ["idle", "When it ends."],
      ["mfa", "Whether it is asked for."],
    ]);
    expect(offers("spec:\n  setting: mfa\n  value: |").map(({ label }) => label)).toEqual(["true", "false"]);
    expect(offers("spec:\n  setting: idle\n  value: |").map(({ label }) => label)).toEqual(["8h"]);
  });
});

describe("comparing", () => {
  const object = (spec: Record<string, unknown>, labels = {}) => ({ metadata: { labels }, spec });

  it("tells each field with what the change takes", () => {
    const before = object({ flavor: "s", nets: [{ name: "a", mtu: 1 }, { name: "b" }] }, { env: "test" });
    const after = object({ flavor: "l", nets: [{ name: "b" }, { name: "a", mtu: 2 }, { name: "c" }] });
    const found = compare(ROOT, before, after);
    expect(found.map(({ path, takes }) => [path, takes])).toEqual([
      ["metadata.labels.env", "Live"],
      ["spec.flavor", "Reboot"],
      ["spec.nets[a].mtu", "Live"],
      ["spec.nets[c]", "Live"],
    ]);
    expect(worst(found)).toBe("Reboot");
  });

  it("finds nothing between the same", () => {
    expect(compare(ROOT, object({ flavor: "s" }), object({ flavor: "s" }))).toEqual([]);
  });

  it("knows what a manifest has no more", () => {
    expect(missing(ROOT, object({ flavor: "s", cpus: 1 }, { a: "b" }), object({ flavor: "l" }))).toEqual([
      "metadata.labels.a",
      "spec.cpus",
    ]);
  });
});
