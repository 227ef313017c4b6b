import type { ReactNode } from "react";
import { classes } from "./classes";

interface MeterProps {
  label: ReactNode;
  /** Said instead of the bar, e.g. "3 of 8". */
  text: string;
  used: number;
  of: number;
  name: string;
}

/** Above this share somebody should look; above the whole something is wrong or was lowered. */
const NEARLY_FULL = 0.8;

export function toneOf(used: number, of: number): "good" | "warn" | "bad" {
  if (used >= of) return used > 0 ? "bad" : "good";
  return used / of >= NEARLY_FULL ? "warn" : "good";
}

const FILLS = { good: "bg-accent", warn: "bg-warn", bad: "bg-bad" };

/** How much of something is taken, as a bar with its words. */
export function Meter({ label, text, used, of, name }: MeterProps) {
  const share = of > 0 ? Math.min(used / of, 1) : used > 0 ? 1 : 0;
  return (
    <div className="flex min-w-0 flex-col gap-1">
      <div className="flex items-baseline justify-between gap-2">
        <span className="min-w-0 truncate font-medium">{label}</span>
        <span className="shrink-0 text-quiet text-xs tabular-nums">{text}</span>
      </div>
      <meter aria-label={name} className="sr-only" min={0} max={Math.max(of, used, 1)} value={used} />
      <div aria-hidden className="h-2 overflow-hidden rounded-full bg-raised">
        <div className={classes("h-full rounded-full", FILLS[toneOf(used, of)])} style={{ width: `${share * 100}%` }} />
      </div>
    </div>
  );
}
