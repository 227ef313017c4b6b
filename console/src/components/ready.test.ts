import { expect, it } from "vitest";
import { toneOf } from "./ReadyBadge";

it("shows steps on the way as such for a while, and a failure as one at once", () => {
  expect(toneOf({ status: "Unknown", reason: "ScheduledPending" }, true)).toBe("info");
  expect(toneOf({ status: "False", reason: "PortNotReady" }, true)).toBe("info");
  expect(toneOf({ status: "False", reason: "PortNotReady" }, false)).toBe("bad");
  expect(toneOf({ status: "Unknown", reason: "NewGeneration" }, false)).toBe("warn");
  expect(toneOf({ status: "False", reason: "NoHost" }, true)).toBe("bad");
  expect(toneOf({ status: "False", reason: "Stopping" }, false)).toBe("info");
  expect(toneOf({ status: "True", reason: "AllTrue" }, true)).toBe("good");
});
