import type { Condition } from "~/api/types";
import type { PowerState } from "./types";

const STATES: readonly string[] = ["Running", "Stopped", "Paused"] satisfies PowerState[];

/** Returns what a condition is called: Running is true of a machine that was to be stopped and is, and false of one that still runs. */
export function titleOf({ type, status, reason = "" }: Condition, wanted: PowerState = "Running"): string {
  if (type !== "Running") return type;
  if (status === "True") return STATES.includes(reason) ? reason : type;
  return wanted;
}
