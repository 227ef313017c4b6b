import { expect, it } from "vitest";
import { flagsOf, queryOf, readFilters } from "./filters";

it("reads from an address what is a filter, and nothing else", () => {
  const parameters = new URLSearchParams("subject=user:alice&verb=&chain=x&outcome=Denied");
  expect(readFilters(parameters)).toEqual({ subject: "user:alice", outcome: "Denied" });
});

it("asks for times with an offset, and leaves out what is none", () => {
  const query = queryOf({ kind: "Instance", since: "2026-11-23T10:00", until: "soon" });
  expect(query).toEqual({ kind: "Instance", since: new Date("2026-11-23T10:00").toISOString() });
  expect(query.since).toMatch(/Z$/);
});

it("says the same to vcctl", () => {
  expect(flagsOf({ subject: "admin", requestId: "abc12345" })).toEqual(["--user", "admin", "--request", "abc12345"]);
  expect(flagsOf({ kind: "Instance", name: "web" })).toEqual(["instance/web"]);
});
