import { describe, expect, it } from "vitest";
import type { Resource } from "~/api/types";
import { addPreset, clean, compare, isWide, parsePorts, portsText, type Rule, rulesOf } from "./rules";

const ssh: Rule = { name: "ssh", direction: "Ingress", protocol: "TCP", portMin: 22 };

it("have a protocol even where the API leaves the default out", () => {
  const group = { spec: { rules: [{ name: "from-members", direction: "Ingress" }, ssh] } } as unknown as Resource;
  expect(rulesOf(group).map(({ protocol }) => protocol)).toEqual(["Any", "TCP"]);
  expect(rulesOf({ ...group, spec: {} })).toEqual([]);
});

describe("presets", () => {
  it("take names that are free", () => {
    const names = (rules: Rule[]) => rules.map(({ name }) => name);
    expect(names(addPreset([ssh], "ssh", "web"))).toEqual(["ssh", "ssh-2"]);
    expect(names(addPreset(addPreset([], "ping", "web"), "ping", "web"))).toEqual([
      "ping",
      "ping-v6",
      "ping-2",
      "ping-v6-2",
    ]);
  });
  it("of members mean the group that they are added to", () => {
    expect(addPreset([], "members", "web")[0]?.remoteSecurityGroup).toBe("web");
  });
});

describe("a rule", () => {
  it("loses what its protocol does not have", () => {
    expect(clean({ ...ssh, protocol: "Any", icmpType: 8 })).toEqual({
      name: "ssh",
      direction: "Ingress",
      protocol: "Any",
    });
    expect(clean({ name: " p ", direction: "Ingress", protocol: "ICMP", icmpType: 0, portMin: 5 })).toEqual({
      name: "p",
      direction: "Ingress",
      protocol: "ICMP",
      icmpType: 0,
    });
    expect(clean({ ...ssh, portMax: 22, remoteCidr: "10.0.0.0/8", remoteSecurityGroup: "web" })).toEqual({
      ...ssh,
      remoteSecurityGroup: "web",
    });
  });
  it("has ports as people write them", () => {
    expect(parsePorts(" 8000 - 8100 ")).toEqual({ portMin: 8000, portMax: 8100 });
    expect(parsePorts("22")).toEqual({ portMin: 22, portMax: null });
    expect(parsePorts("")).toEqual({ portMin: null, portMax: null });
    for (const wrong of ["0", "70000", "90-80", "ssh", "1,2"]) expect(parsePorts(wrong), wrong).toBeNull();
    expect([
      portsText(ssh),
      portsText({ ...ssh, portMin: 1, portMax: 9 }),
      portsText({ ...ssh, portMin: null }),
    ]).toEqual(["22", "1-9", ""]);
  });
  it("is wide when it lets everybody in to more than the web", () => {
    expect(isWide(ssh)).toBe(true);
    expect(isWide({ ...ssh, remoteCidr: "::/0" })).toBe(true);
    expect(isWide({ ...ssh, remoteCidr: "10.0.0.0/8" })).toBe(false);
    expect(isWide({ ...ssh, portMin: 443 })).toBe(false);
    expect(isWide({ ...ssh, direction: "Egress" })).toBe(false);
  });
});

it("compares rules by name, whatever their order", () => {
  const before: Rule[] = [ssh, { ...ssh, name: "gone" }, { ...ssh, name: "same", portMax: null }];
  const after: Rule[] = [
    { ...ssh, name: "same" },
    { ...ssh, portMin: 2222 },
    { ...ssh, name: "new" },
  ];
  expect(compare(before, after).map(({ name, change }) => [name, change])).toEqual([
    ["gone", "removed"],
    ["new", "added"],
    ["ssh", "changed"],
  ]);
  expect(compare(before, before)).toEqual([]);
});
