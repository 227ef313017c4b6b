import { describe, expect, it } from "vitest";
import { withoutSecrets } from "~/pages/object/draft";
import type { JsonSchema } from "~/schema/schema";
import { helpAt, offersAt, referenceAt } from "./assist";
import { change, isDeep, isLarge, pathOfField, placeAt, rangeOf, read, takeIn, write } from "./document";

const SCHEMA: JsonSchema = {
  type: "object",
  properties: {
    kind: { type: "string", const: "Instance" },
    metadata: { type: "object", properties: { name: { type: "string" } } },
    spec: {
      type: "object",
      required: ["flavor"],
      properties: {
        flavor: {
          type: "string",
          description: "Its size.",
          "x-vcstack-refers-to": "Flavor",
          "x-vcstack-takes": "Reboot",
        },
        power: { type: "string", enum: ["Running", "Stopped"] },
        password: { type: "string", "x-vcstack-sensitive": true },
        nets: {
          type: "array",
          items: { type: "object", properties: { name: { type: "string" }, network: { type: "string" } } },
        },
        keys: { type: "array", items: { type: "string", "x-vcstack-refers-to": "SSHKey" } },
      },
    },
  },
};
const TEXT = `kind: Instance # a comment
spec:
  flavor: small
  nets:
    - name: eth0
      network: web
    - name: eth1
  keys:
    - me
`;

const at = (text: string) => {
  const offset = text.indexOf("|");
  return [text.replace("|", ""), offset] as const;
};

describe("a manifest's text", () => {
  it("is changed where it has to be, comments stay", () => {
    const changed = change(change(TEXT, ["spec", "nets", 1, "network"], "db"), ["spec", "flavor"], "large");
    expect(changed).toContain("# a comment");
    expect(read(changed).value).toMatchObject({
      spec: { flavor: "large", nets: [{}, { name: "eth1", network: "db" }] },
    });
  });

  it("gets what is missing on the way, and loses what becomes empty", () => {
    const made = change("kind: A\n", ["metadata", "labels", "a"], "b");
    expect(read(made).value).toEqual({ kind: "A", metadata: { labels: { a: "b" } } });
    expect(read(change(made, ["metadata", "labels", "a"], undefined)).value).toEqual({ kind: "A", metadata: {} });
  });

  it("tells where a field stands, and of a missing one what is above it", () => {
    const { document } = read(TEXT);
    const text = (path: (string | number)[]) => TEXT.slice(...rangeOf(document, path));
    expect(text(["spec", "flavor"])).toBe("flavor: small");
    expect(text(["spec", "nets", 0, "network"])).toBe("network: web");
    expect(text(["spec", "nothing"])).toBe("spec");
  });

  it("understands fields as the API names them", () => {
    const { value } = read(TEXT);
    expect(pathOfField("spec.nets[eth1].name", value)).toEqual(["spec", "nets", 1, "name"]);
    expect(pathOfField("spec.nets[0].network", value)).toEqual(["spec", "nets", 0, "network"]);
    expect(pathOfField("spec.nets[gone].network", value)).toEqual(["spec", "nets"]);
  });

  it.each(["a: [", "a: 1\na: 2", "- a", "a: 1\n---\nb: 2", "&a [*a]", "7"])("says that %j is no manifest", (text) => {
    expect(read(text).marks.length).toBeGreaterThan(0);
    expect(read(text).value).toBeNull();
  });

  it("is read when asked for only once it is long, and tells of a hundred faults at most", () => {
    expect(isLarge(TEXT)).toBe(false);
    expect(isLarge("a".repeat(100_001))).toBe(true);
    expect(isLarge("a\n".repeat(2_001))).toBe(true);
    expect(isLarge("a\n".repeat(2_000))).toBe(false);
    expect(read("a: b: c\n".repeat(500)).marks).toHaveLength(100);
  });

  it("does not grow without end", () => {
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[..."bcdefghi"].map((c, i) => `${c}: &${c} [${Array(9).fill(`*${"abcdefgh"[i]}`)}]`).join("\n")}\n`;
    expect(read(bomb).marks.length).toBeGreaterThan(0);
  });
});

describe("the editor", () => {
  it("knows the place while something is half typed", () => {
    expect(placeAt(...at("spec:\n  fla|"))).toMatchObject({ path: ["spec"], key: "fla", isValue: false });
    expect(placeAt(...at("spec:\n  flavor: sm|"))).toMatchObject({
      path: ["spec", "flavor"],
      key: "flavor",
      isValue: true,
    });
    expect(placeAt(...at("spec:\n  nets:\n    - name: a\n      ne|"))).toMatchObject({ path: ["spec", "nets", 0] });
    expect(placeAt(...at("spec:\n  nets:\n    - name: a\n    - na|"))).toMatchObject({ path: ["spec", "nets", 1] });
  });

  it("offers the names that fit and are not there yet", () => {
    const labels = (text: string) => offersAt(...at(text), SCHEMA).map(({ label }) => label);
    expect(labels("spec:\n  flavor: small\n  |")).toEqual(["power", "password", "nets", "keys"]);
    expect(labels("|")).toEqual(["kind", "metadata", "spec"]);
    expect(labels("spec:\n  nets:\n    - name: a\n      |")).toEqual(["network"]);
  });

  it("offers values, and knows what is named", () => {
    expect(offersAt(...at("spec:\n  power: |"), SCHEMA).map(({ label }) => label)).toEqual(["Running", "Stopped"]);
    expect(referenceAt(...at("spec:\n  flavor: |"), SCHEMA)).toBe("Flavor");
    expect(referenceAt(...at("spec:\n  keys:\n    - m|"), SCHEMA)).toBe("SSHKey");
    expect(referenceAt(...at("spec:\n  power: |"), SCHEMA)).toBeNull();
  });

  it("explains a field by its docstring", () => {
    expect(helpAt(...at("spec:\n  fla|vor: small\n"), SCHEMA)).toMatchObject({
      name: "flavor",
      doc: "Its size.",
      takes: "Reboot",
      refersTo: "Flavor",
    });
  });
});

describe("a draft", () => {
  it("has no secrets: the stand-in that was there, or nothing", () => {
    const base = 'spec:\n  flavor: a\n  password: "***:0123456789ab"\n';
    const typed = "spec:\n  flavor: b\n  password: canary # canary\n";
    const kept = withoutSecrets(typed, base, SCHEMA);
    expect(kept).not.toContain("canary");
    expect(read(kept ?? "").value).toEqual({ spec: { flavor: "b", password: "***:0123456789ab" } });
    expect(withoutSecrets(typed, "", SCHEMA)).not.toContain("password");
    expect(withoutSecrets("spec:\n  password: canary\n  x: [", base, SCHEMA)).toBeNull();
  });
});

describe("what others changed meanwhile", () => {
  it("comes in beside what was typed, which stays with its comments; what both changed stays as typed", () => {
    const base = "metadata:\n  name: a\nspec:\n  flavor: s\n  power: Running\n  keys: [x]\n";
    const mine = "metadata:\n  name: a\nspec:\n  flavor: m # mine\n  power: Running\n";
    const theirs = "metadata:\n  name: a\n  labels:\n    tier: gold\nspec:\n  flavor: l\n  keys: [x, y]\n";
    const merged = takeIn(mine, base, theirs);
    expect(read(merged).value).toEqual({ metadata: { name: "a", labels: { tier: "gold" } }, spec: { flavor: "m" } });
    expect(merged).toContain("# mine");
    expect(takeIn(base, base, theirs)).toContain("- y");
  });
});

it("is coloured as long as it is not nested deeper than anybody writes", () => {
  expect(isDeep(`a: ${"[".repeat(900)}`)).toBe(true);
  expect(isDeep(`a: ${"[{}, [1]], [".repeat(20)}`)).toBe(false);
  expect(isDeep(`${"- ".repeat(900)}x`)).toBe(true);
  expect(isDeep("metadata:\n  name: x\n")).toBe(false);
});

it("means the same to readers for whom other characters end lines: nobody's text goes on as another object", () => {
  const evil = 'x\u2028---\u2028{"kind":"RoleBinding"}\u2029\u0085a\u009fb\ufeff';
  const value = {
    metadata: { labels: { "a\u2028b": "c" } },
    spec: { description: evil, lines: "a\n\u2028b\n", e: "é—😀" },
  };
  const text = write(value);
  expect(text).not.toMatch(/[\x7f-\x9f\u2028\u2029\ufeff]/);
  expect(text).toContain("é—😀");
  expect(text).toContain('description: "x\\u2028---\\u2028{');
  expect(read(text).value).toEqual(value);
});
