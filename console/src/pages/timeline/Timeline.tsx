import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useMemo, useState } from "react";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";
import { request } from "~/api/client";
import { Refused } from "~/api/errors";
import { collectionPath, type KindInfo, objectLink, objectPath, useKind, useKinds, vcctl } from "~/api/kinds";
import { useLiveObject } from "~/api/lists";
import type { Resource } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { PlanDialog } from "~/pages/object/PlanDialog";
import { manifestOf } from "~/pages/object/plan";
import { same } from "~/schema/changes";
import { useKindDescription } from "~/schema/schema";
import { write } from "~/yaml/document";
import {
  type Moment,
  nextOf,
  type Page,
  positionOf,
  reachOf,
  sinceReach,
  type Touched,
  touchedBetween,
} from "./moments";
import { RollbackDialog } from "./Rollback";
import { words } from "./words";

const Comparison = lazy(() => import("~/yaml/Comparison"));
const PAGE = 100;
const REPLACE = { force: true, replace: true };

/** What an object, or all of a project, was at any two times; and how to make it so again. */
export function Component() {
  const { plural, project, name } = useParams();
  return plural && name ? (
    <OfObject key={`${project}/${plural}/${name}`} plural={plural} project={project ?? null} name={name} />
  ) : (
    <OfProject key={project} project={project ?? ""} />
  );
}

/** All moments that are loaded, the oldest first. */
function useMoments(path: string, query: Record<string, string | undefined> = {}) {
  const found = useInfiniteQuery({
    queryKey: ["timeline", path, query],
    queryFn: ({ pageParam, signal }) =>
      request<Page<Moment>>("GET", path, { query: { limit: PAGE, before: pageParam, ...query }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => nextOf(page, PAGE),
    // Who looks at the past is told of what comes meanwhile.
    refetchInterval: 10_000,
  });
  const { data, hasNextPage } = found;
  const moments = useMemo(() => {
    const pages = data?.pages ?? [];
    const all = pages.flatMap(({ items }) => items).reverse();
    return sinceReach(all, pages.at(-1)?.metadata.reach, !hasNextPage);
  }, [data, hasNextPage]);
  return { ...found, moments };
}

function OfObject({ plural, project, name }: { plural: string; project: string | null; name: string }) {
  const say = useWords(words);
  const kind = useKind(plural);
  const [withStatus, setWithStatus] = useState(false);
  const path = objectPath(plural, project, name);
  const query = useMoments(`${path}/history`);
  const moments = useMemo(
    () => query.moments.filter(({ operation }) => withStatus || operation !== "StatusUpdated"),
    [query.moments, withStatus],
  );
  const [from, to, move] = useRange(moments);
  return (
    <Frame title={say("title", { name: `${kind?.kind ?? ""} ${name}` })} back={objectLink(plural, project, name)}>
      <label className="flex items-center gap-2 self-start">
        <input type="checkbox" checked={withStatus} onChange={({ target }) => setWithStatus(target.checked)} />
        {say("withStatus")}
      </label>
      <Found query={query} moments={moments}>
        <Slider moments={moments} from={from} to={to} onMove={move} />
        {kind && moments[from] && moments[to] ? (
          <Between
            kind={kind}
            project={project}
            name={name}
            before={moments[from].revision}
            after={moments[to].revision}
          />
        ) : null}
      </Found>
    </Frame>
  );
}

function OfProject({ project }: { project: string }) {
  const say = useWords(words);
  const kinds = useKinds();
  const query = useMoments(`${objectPath("projects", null, project)}/timeline`);
  const [from, to, move] = useRange(query.moments);
  const [shown, setShown] = useState<Touched | null>(null);
  const { moments } = query;
  const [before, after] = [moments[from]?.revision, moments[to]?.revision];
  const touched = before && after ? touchedBetween(moments, before, after) : [];
  const chosen = shown && touched.find((each) => each.kind === shown.kind && each.name === shown.name);
  const kind = kinds.find((each) => each.kind === chosen?.kind);
  const navigate = useNavigate();
  const [search] = useSearchParams();
  const planned = /^\d{1,18}$/.exec(search.get("plan") ?? "")?.[0] ?? null;
  // In the address, so that undoing works from wherever one is by then.
  const setPlanned = (revision: string | null) => {
    const address = `${objectLink("projects", null, project)}/timeline`;
    navigate({ pathname: address, search: revision === null ? "" : `?plan=${revision}` }, { replace: true });
  };
  return (
    <Frame
      title={say("title", { name: say("project", { name: project }) })}
      back={objectLink("projects", null, project)}
    >
      <Found query={query} moments={moments}>
        <Slider moments={moments} from={from} to={to} onMove={move} />
        <section aria-label={say("objects")} className="flex flex-col gap-1">
          <div className="flex flex-wrap items-center gap-2">
            <h2 className="flex-1 basis-full font-semibold sm:basis-0">{say("objects")}</h2>
            {before ? (
              <Button look="primary" onClick={() => setPlanned(before)}>
                {say("projectBack")}
              </Button>
            ) : null}
          </div>
          {touched.length === 0 ? <p className="text-quiet">{say("same")}</p> : null}
          <ul className="flex flex-col gap-1">
            {touched.map((each) => (
              <li key={`${each.kind}/${each.name}`} className="flex flex-wrap items-center gap-2">
                <Badge tone={each.how === "gone" ? "bad" : each.how === "made" ? "good" : "info"}>
                  {say(each.how)}
                </Badge>
                <span className="min-w-0 break-words">{`${each.kind} ${each.name}`}</span>
                <Button aria-pressed={each === chosen} onClick={() => setShown(each)}>
                  {say("show")}
                  <span className="sr-only">{` ${each.kind} ${each.name}`}</span>
                </Button>
              </li>
            ))}
          </ul>
        </section>
        {chosen && kind && before && after ? (
          <Between kind={kind} project={chosen.project} name={chosen.name} before={before} after={after} />
        ) : null}
      </Found>
      {planned ? (
        <RollbackDialog
          key={planned}
          project={project}
          revision={planned}
          onClose={() => {
            setPlanned(null);
            void query.refetch();
          }}
          onUndo={setPlanned}
        />
      ) : null}
    </Frame>
  );
}

function Frame({ title, back, children }: { title: string; back: string; children: React.ReactNode }) {
  const say = useWords(words);
  return (
    <div className="flex flex-col gap-3 p-3">
      <header className="flex flex-wrap items-center gap-2">
        <h1 className="min-w-0 flex-1 break-words font-semibold text-base">{title}</h1>
        <Button asChild>
          <Link to={back}>{say("back")}</Link>
        </Button>
      </header>
      {children}
    </div>
  );
}

interface FoundProps {
  query: ReturnType<typeof useMoments>;
  moments: readonly Moment[];
  children: React.ReactNode;
}

function Found({ query, moments, children }: FoundProps) {
  const say = useWords(words);
  if (query.error) return <Failure error={query.error} onRetry={() => void query.refetch()} />;
  if (query.isPending) return <Busy />;
  const page = query.data?.pages.at(-1);
  const removed = page && reachOf(page);
  return (
    <>
      {moments.length === 0 ? <EmptyState title={say("none")} /> : children}
      {removed && !query.hasNextPage ? (
        <p className="text-quiet">{say("olderRemoved", { revision: removed })}</p>
      ) : null}
      {query.hasNextPage ? (
        <Button className="self-start" disabled={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
          {say("older")}
        </Button>
      ) : null}
    </>
  );
}

/** The two points, in the address: from and to are revisions, so a link shows the same later. */
function useRange(moments: readonly Moment[]): [number, number, (from: number, to: number) => void] {
  const [search, setSearch] = useSearchParams();
  const to = positionOf(moments, search.get("to"));
  const wanted = search.get("from");
  const from = Math.min(wanted === null ? Math.max(0, to - 1) : positionOf(moments, wanted), to);
  const move = (first: number, second: number) =>
    setSearch(
      (before) => {
        before.set("from", moments[Math.min(first, second)]?.revision ?? "");
        before.set("to", moments[Math.max(first, second)]?.revision ?? "");
        return before;
      },
      { replace: true },
    );
  return [from, to, move];
}

interface SliderProps {
  moments: readonly Moment[];
  from: number;
  to: number;
  onMove: (from: number, to: number) => void;
}

function Slider({ moments, from, to, onMove }: SliderProps) {
  const say = useWords(words);
  const last = moments.length - 1;
  const textOf = ({ revision, operation, actor }: Moment) => `${operation || say("oldest")}, ${actor}, ${revision}`;
  return (
    <div className="grid gap-3 rounded-md border border-line bg-surface p-3 md:grid-cols-2">
      {(["sliderBefore", "sliderAfter"] as const).map((which) => {
        const isFirst = which === "sliderBefore";
        const at = isFirst ? from : to;
        const moment = moments[at];
        if (!moment) return null;
        return (
          <div key={which} className="flex min-w-0 flex-col gap-1">
            <input
              type="range"
              aria-label={say(which)}
              aria-valuetext={textOf(moment)}
              min={0}
              max={last}
              value={at}
              className="w-full accent-(--accent)"
              onChange={({ target }) => {
                const next = Number(target.value);
                if (isFirst) onMove(next, Math.max(next, to));
                else onMove(Math.min(from, next), next);
              }}
            />
            <p className="flex flex-wrap items-center gap-2">
              <Badge tone="info">{moment.operation || say("oldest")}</Badge>
              <span className="min-w-0 break-words">
                {moment.kind ? `${moment.kind} ${moment.name}` : ""}
                {moment.actor ? ` ${say("by", { actor: moment.actor, manager: moment.manager })}` : ""}
              </span>
              <span className="text-quiet">
                {`${say("revision", { revision: moment.revision })} · `}
                <Age of={moment.time} />
              </span>
            </p>
          </div>
        );
      })}
    </div>
  );
}

/** Returns the object as it was, null when it was not there. */
function usePast(path: string, revision: string) {
  return useQuery({
    queryKey: ["past", path, revision],
    queryFn: async ({ signal }) => {
      try {
        return await request<Resource>("GET", path, { query: { atRevision: revision }, signal });
      } catch (error) {
        if (error instanceof Refused && error.code === 404) return null;
        throw error;
      }
    },
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: (before) => before,
  });
}

interface BetweenProps {
  kind: KindInfo;
  project: string | null;
  name: string;
  before: string;
  after: string;
}

/** One object at two times side by side, and the way back. */
function Between({ kind, project, name, before, after }: BetweenProps) {
  const say = useWords(words);
  const path = objectPath(kind.plural, project, name);
  const first = usePast(path, before);
  const second = usePast(path, after);
  const live = useLiveObject(collectionPath(kind.plural, project), name);
  const description = useKindDescription(kind.plural);
  const [planned, setPlanned] = useState(false);
  const error = first.error ?? second.error;
  if (error) return <Failure error={error} />;
  if (first.isPending || second.isPending || live.loading) return <Busy />;
  const [was, became] = [first.data, second.data];
  const texts = [was, became].map((object) => (object ? write(manifestOf(object)) : "")) as [string, string];
  const isNow = was != null && live.object !== undefined && same(manifestOf(was), manifestOf(live.object));
  const labels: [string, string] = [
    `${say("before")}: ${say("revision", { revision: before })}`,
    `${say("after")}: ${say("revision", { revision: after })}`,
  ];
  const where = project ? ["-p", project] : [];
  return (
    <section className="flex min-w-0 flex-col gap-2">
      <div className="flex flex-wrap items-center gap-2">
        <h2 className="min-w-0 flex-1 break-words font-semibold">{`${kind.kind} ${name}`}</h2>
        {isNow ? <span className="text-quiet">{say("nowSame")}</span> : null}
        {was && kind.verbs.includes("update") ? (
          <Button look="primary" disabled={isNow || !description.data} onClick={() => setPlanned(true)}>
            {say("rollBack")}
          </Button>
        ) : null}
      </div>
      {was === null ? <p className="text-quiet">{`${labels[0]}: ${say("thereWasNone")}`}</p> : null}
      {became === null ? <p className="text-quiet">{`${labels[1]}: ${say("thereWasNone")}`}</p> : null}
      {texts[0] === texts[1] ? (
        <p className="text-quiet">{say("same")}</p>
      ) : (
        <Suspense fallback={<Busy />}>
          <Comparison before={texts[0]} after={texts[1]} labels={labels} />
        </Suspense>
      )}
      {planned && was && description.data ? (
        <PlanDialog
          kind={kind}
          schema={description.data.schema}
          wanted={manifestOf(was)}
          live={live.object}
          how={REPLACE}
          command={vcctl("rollback", `${kind.singular}/${name}`, "--to-revision", before, ...where)}
          onClose={() => setPlanned(false)}
          onApplied={() => {
            setPlanned(false);
            toast("good", say("rolledBack", { kind: kind.kind, name, revision: before }));
          }}
        />
      ) : null}
    </section>
  );
}
