import { act, renderHook } from "@testing-library/react";
import { expect, it } from "vitest";
import { useAttempt } from "./attempt";

it("tells what is under way and what went wrong, until it goes well", async () => {
  let end = (_: unknown) => {};
  const run = () =>
    new Promise<void>((resolve, reject) => {
      end = (error) => (error ? reject(error) : resolve());
    });
  const { result } = renderHook(() => useAttempt(run));
  expect(result.current).toMatchObject({ busy: false, error: null });
  let tried = Promise.resolve();
  const begin = () =>
    act(() => {
      tried = result.current.attempt();
    });
  const finish = (error: unknown) =>
    act(async () => {
      end(error);
      await tried;
    });
  begin();
  expect(result.current.busy).toBe(true);
  await finish("refused");
  expect(result.current).toMatchObject({ busy: false, error: "refused" });
  begin();
  expect(result.current).toMatchObject({ busy: true, error: "refused" });
  await finish(null);
  expect(result.current).toMatchObject({ busy: false, error: null });
});
