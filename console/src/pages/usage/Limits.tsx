import { useQuery } from "@tanstack/react-query";
import { request } from "~/api/client";
import { collectionPath } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import type { Schemas } from "~/api/types";
import { Busy } from "~/components/Busy";
import { Failure } from "~/components/Failure";
import { Meter } from "~/components/Meter";
import { readableBytes } from "~/components/values";
import { useWords } from "~/i18n/language";
import { byPressure, bytesOf, type Limit } from "./limits";
import { words } from "./words";

type InForce = Schemas["QuotasInForce"];

/** Returns a number of a limit as people say it. */
export function amountText(name: string, value: number): string {
  const unit = bytesOf(name);
  return unit === null ? String(value) : readableBytes(value * unit);
}

/** Returns all limits that hold for a project; asked for again when what is used changed. */
export function useProjectUsage(project: string) {
  const instances = useLiveList(collectionPath("instances", project));
  const quotas = useLiveList(collectionPath("quotas", project));
  // What the stream tells of counts as the reason to ask again: the figures themselves are no object.
  const seen = `${instances.items.length} ${quotas.items.map(({ metadata }) => metadata.resourceVersion).join(" ")}`;
  return useQuery({
    queryKey: ["usage", project, seen],
    queryFn: ({ signal }) =>
      request<InForce>("GET", `/api/v1/projects/${encodeURIComponent(project)}/usage`, { signal }),
    placeholderData: (before) => before,
    enabled: !instances.loading,
  });
}

export function LimitMeter({ limit }: { limit: Omit<Limit, "largest"> }) {
  const say = useWords(words);
  const { name, used } = limit;
  const left = limit.limit - used;
  const rest =
    left > 0
      ? say("left", { left: amountText(name, left) })
      : left === 0
        ? say("full")
        : say("over", { over: amountText(name, -left) });
  return (
    <Meter
      name={name}
      label={name}
      used={used}
      of={limit.limit}
      text={`${say("usedOf", { used: amountText(name, used), limit: amountText(name, limit.limit) })} · ${rest}`}
    />
  );
}

/** The limits of a project that are nearest to their end. */
export function ProjectLimits({ project, most, empty }: { project: string; most: number; empty: string }) {
  const usage = useProjectUsage(project);
  if (usage.error) return <Failure error={usage.error} onRetry={() => void usage.refetch()} />;
  if (!usage.data) return <Busy />;
  const limits = byPressure(
    usage.data.items.flatMap((quota) => quota.items.map((limit) => ({ ...limit, of: quota.name }))),
  );
  if (limits.length === 0) return <p className="text-quiet">{empty}</p>;
  return (
    <ul className="flex flex-col gap-3">
      {limits.slice(0, most).map((limit) => (
        <li key={`${limit.of}/${limit.name}`}>
          <LimitMeter limit={limit} />
        </li>
      ))}
    </ul>
  );
}
