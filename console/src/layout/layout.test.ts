import { describe, expect, it } from "vitest";
import { parseLabels } from "~/pages/list/bulk";
import { safeTarget } from "~/pages/login/steps";
import { search } from "./Palette";
import { inProject } from "./ProjectSwitcher";

describe("another project", () => {
  const plurals = ["instances", "networks"];
  it.each([
    ["/projects/a/instances", "b", "/projects/b/instances"],
    ["/projects/a/instances/web", "b", "/projects/b/instances"],
    ["/projects/a/instances", null, "/instances"],
    ["/projects/a/topology", null, "/"],
    ["/instances", "b", "/projects/b/instances"],
    ["/hosts", "b", "/hosts"],
    ["/", "b", "/"],
  ])("from %s to %s leads to %s", (from, project, to) => {
    expect(inProject(from, project, plurals)).toBe(to);
  });
});

describe("the palette", () => {
  it("finds what holds all words, what begins with them first", () => {
    const choices = [{ text: "my-web" }, { text: "web-1", detail: "Instance demo" }, { text: "other" }];
    expect(search(choices, "web").map(({ text }) => text)).toEqual(["web-1", "my-web"]);
    expect(search(choices, "demo web").map(({ text }) => text)).toEqual(["web-1"]);
  });
});

describe("after a login", () => {
  it.each(["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", null])(
    "%s leads to the start",
    (to) => {
      expect(safeTarget(to)).toBe("/");
    },
  );

  it("one comes to where one wanted to go", () => {
    expect(safeTarget("/projects/demo/instances?q=web")).toBe("/projects/demo/instances?q=web");
  });
});

describe("labels as they are typed", () => {
  it("are set and taken away", () => {
    expect(parseLabels("env=prod, tier- a.b/c=1")).toEqual({ env: "prod", tier: null, "a.b/c": "1" });
  });

  it.each(["", "env", "=x", "a=b c"])("are refused when they are none: %j", (text) => {
    expect(parseLabels(text)).toBeNull();
  });
});
