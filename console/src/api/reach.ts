/** Whether the API answers: every request and the live stream say what they see. */
import { create } from "zustand";

interface Reach {
  answers: boolean;
  /** Since when it does not. */
  since: number | null;
  /** Whether what is shown may be older than what is there: the stream is broken, or catches up. */
  behind: boolean;
}

export const useReach = create<Reach>()(() => ({ answers: true, since: null, behind: false }));

export function noteAnswer(): void {
  if (!useReach.getState().answers) useReach.setState({ answers: true, since: null });
}

export function noteSilence(): void {
  if (useReach.getState().answers) useReach.setState({ answers: false, since: Date.now() });
}
