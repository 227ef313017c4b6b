import type { ReactNode } from "react";
import type { Condition, Resource } from "~/api/types";
import { useWords } from "~/i18n/language";
import { useIsWithin } from "./Age";
import { Badge, type Tone } from "./Badge";
import { words } from "./words";

const TONES: Record<Condition["status"], Tone> = { True: "good", False: "bad", Unknown: "warn" };
/** Reasons that say that others are not as far yet. They are a failure when it takes too long. */
const STEP = /(NotReady|NotUp|Pending|Waiting|Yet)$/;
const STEP_MS = 30_000;
/** Reasons that say that what somebody asked for takes its time, or waits for them. */
const ASKED = /^(Stopping|Unplugging|RebootRequired|RecreateRequired)$/;

/** Returns how grave a condition is; what is on its way since a moment is no failure yet. */
export function toneOf({ status, reason }: Pick<Condition, "status" | "reason">, isYoung: boolean): Tone {
  if (status === "False" && ASKED.test(reason ?? "")) return "info";
  const isStep = status === "Unknown" || (status === "False" && STEP.test(reason ?? ""));
  return isStep && isYoung ? "info" : (TONES[status] ?? "quiet");
}

/** What a condition says, in its colour. */
export function ConditionBadge({ condition, children }: { condition: Condition; children: ReactNode }) {
  const isYoung = useIsWithin(condition.lastTransitionTime, STEP_MS);
  return <Badge tone={toneOf(condition, isYoung)}>{children}</Badge>;
}

/** Whether an object is as it should be, and if not the reason in a word. */
export function ReadyBadge({ object }: { object: Resource }) {
  const say = useWords(words);
  if (object.metadata.deletionTimestamp) return <Badge tone="warn">{say("deleting")}</Badge>;
  const ready = object.status?.conditions?.find(({ type }) => type === "Ready");
  if (!ready) return null;
  return (
    <span title={ready.message} className="min-w-0 truncate">
      <ConditionBadge condition={ready}>
        {ready.status === "True" ? "Ready" : (ready.reason ?? ready.status)}
      </ConditionBadge>
    </span>
  );
}
