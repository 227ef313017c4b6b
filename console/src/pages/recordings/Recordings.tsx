import { useInfiniteQuery } from "@tanstack/react-query";
import { Play, Video } from "lucide-react";
import type { ReactNode } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { request } from "~/api/client";
import { objectLink, vcctl } from "~/api/kinds";
import type { Schemas } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { readableBytes } from "~/components/values";
import { useWords } from "~/i18n/language";
import { clock } from "./asciicast";
import { Replay } from "./Replay";
import { words } from "./words";

type RecordingList = Schemas["RecordingList"];

/** No stream tells of them. */
const LOOK_MS = 15_000;

/** All recorded shells of a project, also of instances that are gone. */
export function Component() {
  const say = useWords(words);
  const { project = "" } = useParams();
  return (
    <div className="flex flex-col gap-3 p-3 sm:p-4">
      <h1 className="font-semibold text-lg">{say("title", { project })}</h1>
      <Recordings project={project} path={`/api/v1/projects/${encodeURIComponent(project)}/recordings`} />
    </div>
  );
}

interface Props {
  project: string;
  /** Of a project or of one instance. */
  path: string;
  /** Its name; none: of all. */
  instance?: string;
}

/** The shells that were recorded, the newest first, and the one that was chosen to be played. */
export function Recordings({ project, path, instance }: Props) {
  const say = useWords(words);
  const [search, setSearch] = useSearchParams();
  const chosen = search.get("recording");
  const choose = (id: string | null) =>
    setSearch((before) => {
      if (id) before.set("recording", id);
      else before.delete("recording");
      return before;
    });
  const query = useInfiniteQuery({
    queryKey: ["recordings", path],
    queryFn: ({ signal, pageParam }) => request<RecordingList>("GET", path, { query: { continue: pageParam }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.metadata?.continue ?? undefined,
    // Who reads further back is not disturbed.
    refetchInterval: ({ state }) => ((state.data?.pages.length ?? 0) < 2 ? LOOK_MS : false),
    enabled: !chosen,
  });
  if (chosen) return <Replay key={chosen} path={path} id={chosen} project={project} onClose={() => choose(null)} />;
  if (query.error) return <Failure error={query.error} onRetry={() => void query.refetch()} />;
  if (!query.data) return <Busy />;
  const items = query.data.pages.flatMap((page) => page.items ?? []);
  return (
    <div className="flex flex-col gap-2">
      <div className="flex flex-wrap items-center gap-2">
        <span className="text-quiet text-xs">{say("hint")}</span>
        <span className="ml-auto flex items-center gap-2">
          <CopyButton command text={vcctl("recordings", "list", instance, "-p", project)} />
          {instance ? (
            <Button asChild>
              <Link to={`/projects/${encodeURIComponent(project)}/recordings`}>{say("allOfProject")}</Link>
            </Button>
          ) : null}
        </span>
      </div>
      {items.length === 0 ? (
        <EmptyState icon={<Video aria-hidden />} title={say("none")}>
          {say("noneText")}
        </EmptyState>
      ) : (
        <ul className="flex flex-col gap-1">
          {items.map((each) => (
            <li
              key={each.id}
              className="flex flex-wrap items-center gap-x-4 gap-y-1 rounded-md border border-line bg-surface px-3 py-2"
            >
              <Button
                icon
                aria-label={say("playOf", { user: each.user, when: each.startedAt })}
                onClick={() => choose(each.id)}
              >
                <Play aria-hidden />
              </Button>
              <span className="min-w-0 break-all font-medium">{each.user}</span>
              <Fact name={say("login")}>
                <code>{each.login}</code>
              </Fact>
              {instance ? null : (
                <Fact name={say("instance")}>
                  <Link className="underline" to={objectLink("instances", project, each.instance)}>
                    {each.instance}
                  </Link>
                </Fact>
              )}
              <Fact name={say("age")}>
                <Age of={each.startedAt} />
              </Fact>
              <Fact name={say("length")}>{clock(each.seconds)}</Fact>
              <span className="text-quiet">{readableBytes(each.bytes)}</span>
              {each.ended ? null : <Badge tone="info">{say("goesOn")}</Badge>}
              {each.brokenOff ? <Badge tone="warn">{say("brokeOff")}</Badge> : null}
            </li>
          ))}
        </ul>
      )}
      {query.hasNextPage ? (
        <Button className="self-center" disabled={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
          {say("more")}
        </Button>
      ) : null}
    </div>
  );
}

const Fact = ({ name, children }: { name: string; children: ReactNode }) => (
  <span>
    <span className="text-quiet">{`${name} `}</span>
    {children}
  </span>
);
