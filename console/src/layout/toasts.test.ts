import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { useSession } from "~/api/session";
import { toast, useToasts } from "./toasts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

it("go by themselves, later with something to do, and a failure only when it was read", () => {
  toast("good", "done");
  toast("good", "changed", { label: "Undo", run: () => undefined });
  toast("bad", "failed");
  const texts = () => useToasts.getState().items.map(({ text }) => text);
  vi.advanceTimersByTime(4_900);
  expect(texts()).toEqual(["done", "changed", "failed"]);
  vi.advanceTimersByTime(200);
  expect(texts()).toEqual(["changed", "failed"]);
  vi.advanceTimersByTime(10_000);
  expect(texts()).toEqual(["failed"]);
});

it("go with the session: they name and undo what is not for whoever logs in next", () => {
  useSession.setState({ state: "In" });
  toast("bad", "failed");
  useSession.setState({ state: "Out" });
  expect(useToasts.getState().items).toEqual([]);
});
