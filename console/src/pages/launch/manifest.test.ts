import { describe, expect, it } from "vitest";
import { freeName, instanceOf, isName, NOTHING, networkOf } from "./manifest";

describe("the wizard's manifest", () => {
  it("has what was chosen, and nothing of what was not", () => {
    const chosen = { ...NOTHING, name: "web", image: "tiny", flavor: "small", networks: ["a", "b"] };
    expect(instanceOf("demo", chosen)).toEqual({
      apiVersion: "vcstack.io/v1",
      kind: "Instance",
      metadata: { project: "demo", name: "web" },
      spec: {
        flavor: "small",
        image: "tiny",
        networkInterfaces: [
          { name: "eth0", network: "a" },
          { name: "eth1", network: "b" },
        ],
      },
    });
  });

  it("puts groups on each card and leaves blanks out", () => {
    const chosen = {
      ...NOTHING,
      networks: ["a"],
      securityGroups: ["ssh"],
      sshKeys: ["me"],
      userData: " \n",
      zone: " z1 ",
    };
    expect(instanceOf("demo", chosen).spec).toMatchObject({
      networkInterfaces: [{ name: "eth0", network: "a", securityGroups: ["ssh"] }],
      sshKeys: ["me"],
      placement: { zone: "z1" },
    });
    expect(instanceOf("demo", chosen).spec).not.toHaveProperty("userData");
  });

  it("makes a network with its addresses", () => {
    expect(networkOf("demo", "main", "10.0.0.0/24").map(({ kind }) => kind)).toEqual(["Network", "Subnet"]);
  });
});

describe("names", () => {
  it("are DNS labels", () => {
    expect(["a", "web-1", "0"].every(isName)).toBe(true);
    expect(["", "-a", "a-", "A", "a b", "x".repeat(64)].some(isName)).toBe(false);
  });

  it("are proposed free", () => {
    expect(freeName("tiny", new Set(["tiny-1", "tiny-2"]))).toBe("tiny-3");
    expect(freeName("No label!", new Set())).toBe("instance-1");
  });
});
