import { expect, it } from "vitest";
import { type Links, merged, without } from "./losses";

const group = (kind: string, names: string[], more = false): Links => ({
  kind,
  more,
  links: names.map((name) => ({ kind, project: "demo", name })),
});
const told = (groups: Links[]) =>
  groups.map(({ kind, links, more }) => `${kind}: ${links.map(({ name }) => name)}${more ? " and more" : ""}`);

it("names what is lost with several objects once", () => {
  const groups = [group("Port", ["a", "b"]), group("Subnet", ["v4"], true), group("Port", ["b", "c"])];
  expect(told(merged(groups))).toEqual(["Port: a,b,c", "Subnet: v4 and more"]);
});

it("leaves out what is deleted by name, but not that there is more", () => {
  const groups = [group("Port", ["a", "b"]), group("Subnet", ["v4"]), group("Instance", ["web"], true)];
  const places = new Set(["Port/demo/a", "Subnet/demo/v4", "Instance/demo/web", "Port/other/b"]);
  expect(told(without(places, groups))).toEqual(["Port: b", "Instance:  and more"]);
});
