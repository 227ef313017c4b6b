import { expect, it } from "vitest";
import { titleOf } from "./powers";

it("calls a machine that was to be stopped by what it is, and not running", () => {
  const condition = { type: "Running", status: "True", lastTransitionTime: "2026-11-23T09:00:00Z" } as const;
  expect(titleOf({ ...condition, reason: "Stopped" }, "Stopped")).toBe("Stopped");
  // It was observed before somebody asked for another state.
  expect(titleOf({ ...condition, reason: "Running" }, "Stopped")).toBe("Running");
  expect(titleOf({ ...condition, status: "False", reason: "Stopping" }, "Stopped")).toBe("Stopped");
  expect(titleOf({ ...condition, status: "False", reason: "Crashed" })).toBe("Running");
  expect(titleOf({ ...condition, reason: "Done" }, "Running")).toBe("Running");
  expect(titleOf({ ...condition, type: "DisksReady", reason: "Stopped" }, "Stopped")).toBe("DisksReady");
});
