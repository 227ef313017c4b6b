import { expect, it, vi } from "vitest";
import { localTime } from "./Age";

it("a moment is shown as the clocks here show it", () => {
  vi.stubEnv("TZ", "Asia/Shanghai");
  expect(localTime("2026-11-22T20:04:05.123Z")).toBe("2026-11-23 04:04:05");
});
