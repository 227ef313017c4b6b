import { collectionPath } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import type { Resource } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { words } from "./words";

interface EventSpec {
  type: string;
  reason: string;
  message: string;
  count?: number;
  actor?: string;
  lastTime?: string;
}

/** What was reported of an object, the newest first, as it comes. */
export function Events({ object }: { object: Resource }) {
  const say = useWords(words);
  const { uid, project } = object.metadata;
  const list = useLiveList(collectionPath("events", project), { fieldSelector: `spec.regarding.uid=${uid}` });
  if (list.loading) return <Busy />;
  if (list.error) return <Failure error={list.error} onRetry={list.retry} />;
  const events = list.items
    .map(({ metadata, spec }) => ({ id: metadata.uid, ...(spec as unknown as EventSpec) }))
    .sort((a, b) => String(b.lastTime).localeCompare(String(a.lastTime)));
  if (events.length === 0) return <EmptyState title={say("noEvents")} />;
  return (
    <ul className="flex flex-col gap-1">
      {events.map(({ id, type, reason, message, count = 1, actor, lastTime }) => (
        <li key={id} className="flex flex-wrap items-baseline gap-2 rounded-md border border-line bg-surface px-3 py-2">
          <Badge tone={type === "Warning" ? "warn" : "quiet"}>{say(type === "Warning" ? "warning" : "normal")}</Badge>
          <span className="font-medium">{reason}</span>
          <span className="min-w-0 flex-1 basis-60 break-words">{message}</span>
          <span className="text-quiet">
            {count > 1 ? `${say("times", { count })} · ` : ""}
            {actor ? `${actor} · ` : ""}
            <Age of={lastTime} />
          </span>
        </li>
      ))}
    </ul>
  );
}
