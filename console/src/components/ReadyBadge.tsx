import type { Resource } from "~/api/types";
import { Badge, type Tone } from "./Badge";

const TONES: Record<string, Tone> = { True: "good", False: "bad", Unknown: "warn" };

/** Whether an object is as it should be, and if not the reason in a word. */
export function ReadyBadge({ object }: { object: Resource }) {
  if (object.metadata.deletionTimestamp) return <Badge tone="warn">{"Deleting"}</Badge>;
  const ready = object.status?.conditions?.find(({ type }) => type === "Ready");
  if (!ready) return null;
  return (
    <span title={ready.message} className="min-w-0 truncate">
      <Badge tone={TONES[ready.status] ?? "quiet"}>
        {ready.status === "True" ? "Ready" : (ready.reason ?? ready.status)}
      </Badge>
    </span>
  );
}
