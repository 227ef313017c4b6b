/** Short messages at the edge of the page, each with at most one thing to do about it. */
import { create } from "zustand";

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

/** Show a message. It goes by itself; one with something to do stays longer, a failure until it is dismissed. */
export function toast(tone: Toast["tone"], text: string, action?: Toast["action"]): void {
  const id = ++last;
  useToasts.setState(({ items }) => ({
    items: [...items.slice(-3), { id, tone, text, ...(action ? { action } : {}) }],
  }));
  if (tone !== "bad") setTimeout(() => useToasts.getState().dismiss(id), action ? 15_000 : 5_000);
}
