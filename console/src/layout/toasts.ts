/** Short messages at the edge of the page, each with at most one thing to do about it. */
import { create } from "zustand";
import { useSession } from "~/api/session";

export interface Toast {
  id: number;
  tone: "good" | "bad" | "info";
  text: string;
  /** What can be done, such as to undo it. */
  action?: { label: string; run: () => void };
}

interface Toasts {
  items: Toast[];
  dismiss: (id: number) => void;
}

let last = 0;
export const useToasts = create<Toasts>()((set) => ({
  items: [],
  dismiss: (id) => set(({ items }) => ({ items: items.filter((each) => each.id !== id) })),
}));

// What they name and can undo is nothing for whoever logs in next.
useSession.subscribe((now, before) => {
  if (now.state === "Out" && before.state !== "Out") useToasts.setState({ items: [] });
});

/** Show a message. It goes by itself; one with something to do stays longer, a failure until it is dismissed. */
export function toast(tone: Toast["tone"], text: string, action?: Toast["action"]): void {
  const id = ++last;
  useToasts.setState(({ items }) => ({
    items: [...items.slice(-3), { id, tone, text, ...(action ? { action } : {}) }],
  }));
  if (tone !== "bad") dismissIn(action ? 15 : 5, id);
}

/** Second by second, so that it is still there after a time in which nobody saw it: the machine slept, or stood still. */
function dismissIn(seconds: number, id: number): void {
  if (seconds === 0) useToasts.getState().dismiss(id);
  else setTimeout(() => dismissIn(seconds - 1, id), 1_000);
}
