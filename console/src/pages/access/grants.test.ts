import { expect, it } from "vitest";
import type { Resource } from "~/api/types";
import { bindingOf, grantsOf, groupsOf, ruleText, subjectText } from "./grants";

function make(kind: string, name: string, spec: object, more: object = {}, project?: string): Resource {
  return {
    apiVersion: "vcstack.io/v1",
    kind,
    metadata: { name, project: project ?? null, uid: name, resourceVersion: "1", generation: 1, creationTimestamp: "" },
    spec: { ...spec },
    status: { ...more },
  };
}

const alice = make("User", "alice", {}, { externalGroups: ["staff"] });
const groups = [make("Group", "ops", { members: ["alice", "bob"] }), make("Group", "other", { members: [] })];
const binding = (name: string, subject: object, project?: string) =>
  bindingOf(make("RoleBinding", name, { subject, role: "reader" }, {}, project));

it("tells what somebody was given, and by which group", () => {
  const mine = groupsOf(alice, groups);
  expect(mine).toEqual(["ops", "staff"]);
  const bindings = [
    binding("direct", { kind: "User", name: "alice" }, "demo"),
    binding("by-group", { kind: "Group", name: "staff" }),
    binding("others", { kind: "User", name: "bob" }),
    binding("same-name", { kind: "Group", name: "alice" }),
    binding("program", { kind: "ServiceAccount", name: "ci" }, "demo"),
  ];
  expect(grantsOf(alice, mine, bindings).map(({ object, through }) => [object.metadata.name, through])).toEqual([
    ["direct", null],
    ["by-group", "staff"],
  ]);
});

it("writes subjects as the API does", () => {
  expect(subjectText(binding("b", { kind: "ServiceAccount", name: "ci" }, "demo").subject)).toBe(
    "serviceaccount:demo/ci",
  );
  expect(subjectText(binding("b", { kind: "User", name: "alice" }).subject)).toBe("user:alice");
});

it("says a rule in a line", () => {
  expect(ruleText({ verbs: ["get", "list"], kinds: ["Instance"] })).toBe("get, list: Instance");
  expect(ruleText({ verbs: ["get"], kinds: ["Instance"], subresources: ["console"], labelSelector: "env=dev" })).toBe(
    "get: Instance / console (env=dev)",
  );
});
