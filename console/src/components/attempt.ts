import { useState } from "react";

/** What is clicked and may fail: whether it is under way, and what went wrong the last time. */
export function useAttempt(run: () => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const attempt = async () => {
    setBusy(true);
    try {
      await run();
      setError(null);
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return { busy, error, attempt };
}
