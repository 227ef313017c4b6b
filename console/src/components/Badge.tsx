import type { ReactNode } from "react";
import { classes } from "./classes";

export type Tone = "good" | "warn" | "bad" | "info" | "quiet";
const TONES: Record<Tone, string> = {
  good: "bg-good-ground text-good",
  warn: "bg-warn-ground text-warn",
  bad: "bg-bad-ground text-bad",
  info: "bg-info-ground text-info",
  quiet: "bg-raised text-quiet",
};

/** A word with a colour; the colour never says more than the word. */
export const Badge = ({ tone = "quiet", children }: { tone?: Tone; children: ReactNode }) => (
  <span className={classes("inline-flex items-center gap-1 rounded px-1.5 py-0.5 font-medium text-xs", TONES[tone])}>
    {children}
  </span>
);
