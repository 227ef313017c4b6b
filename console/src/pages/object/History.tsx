import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { request } from "~/api/client";
import { type KindInfo, objectLink, objectPath, vcctl } from "~/api/kinds";
import type { Resource } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { nextOf, type Page, reachOf } from "~/pages/timeline/moments";
import { words } from "./words";

export interface Revision {
  revision: string;
  uid: string;
  operation: string;
  actor: string;
  manager: string;
  time: string;
  diff: { path: string; old?: unknown; new?: unknown }[];
}

const PAGE = 50;

/** The revisions of an object, the newest first. */
export function useHistory(path: string, version = "") {
  return useInfiniteQuery({
    queryKey: ["history", path, version],
    queryFn: ({ pageParam, signal }) =>
      request<Page<Revision>>("GET", `${path}/history`, { query: { limit: PAGE, before: pageParam }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => nextOf(page, PAGE),
    placeholderData: (before) => before,
  });
}

export function History({ kind, object }: { kind: KindInfo; object: Resource }) {
  const say = useWords(words);
  const { name, project, resourceVersion } = object.metadata;
  const query = useHistory(objectPath(kind.plural, project, name), resourceVersion);
  if (query.error) return <Failure error={query.error} onRetry={() => void query.refetch()} />;
  if (!query.data) return <Busy />;
  const revisions = query.data.pages.flatMap(({ items }) => items);
  const page = query.data.pages.at(-1);
  const removed = page && reachOf(page);
  if (revisions.length === 0) return <EmptyState title={say("noHistory")} />;
  const timeline = `${objectLink(kind.plural, project, name)}/timeline`;
  return (
    <div className="flex flex-col gap-2">
      <CopyButton
        className="self-end"
        command
        text={vcctl("history", `${kind.singular}/${name}`, ...(project ? ["-p", project] : []))}
      />
      <ol className="flex flex-col gap-1">
        {revisions.map((each) => (
          <li
            key={each.revision}
            className="flex flex-wrap items-baseline gap-x-3 gap-y-1 rounded-md border border-line bg-surface px-3 py-2"
          >
            <Badge tone={each.operation === "StatusUpdated" ? "quiet" : "info"}>{each.operation}</Badge>
            <span>{each.actor}</span>
            <span className="text-quiet">{say("by_manager", { manager: each.manager })}</span>
            <span className="min-w-0 flex-1 basis-60 break-words font-mono text-[13px] text-quiet">
              {each.diff
                .slice(0, 6)
                .map(({ path }) => path)
                .join(", ")}
              {each.diff.length > 6 ? " …" : ""}
            </span>
            <Age of={each.time} />
            <Link className="underline" to={`${timeline}?to=${each.revision}`}>
              {say("compare")}
            </Link>
          </li>
        ))}
      </ol>
      {removed && !query.hasNextPage ? (
        <p className="self-center text-quiet">{say("olderRemoved", { revision: removed })}</p>
      ) : null}
      {query.hasNextPage ? (
        <Button className="self-center" disabled={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
          {say("olderOnes")}
        </Button>
      ) : null}
    </div>
  );
}
