/** The cache of what the server said. Whoever is not signed in sees nothing of it. */
import { QueryClient } from "@tanstack/react-query";
import { Refused, Unreachable } from "./errors";
import { useSession } from "./session";

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      // What is live is patched by the stream; the rest is asked for again when it is looked at again.
      staleTime: 10_000,
      refetchOnWindowFocus: false,
      networkMode: "always",
      retry: (count, error) =>
        error instanceof Unreachable || (error instanceof Refused && (error.code === 503 || error.code === 429))
          ? count < 30
          : false,
      retryDelay: (attempt) => Math.min(500 * 2 ** attempt, 5_000),
    },
    mutations: { networkMode: "always", retry: false },
  },
});

// Nothing of one user's may be seen by the next in the same tab.
useSession.subscribe((now, before) => {
  if (now.state === "Out" && before.state !== "Out") queryClient.clear();
});
