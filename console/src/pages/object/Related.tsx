import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { request } from "~/api/client";
import { type KindInfo, objectLink, objectPath, useKinds } from "~/api/kinds";
import type { Resource, Schemas } from "~/api/types";
import { Badge, type Tone } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { words } from "./words";

export type RelatedReply = Schemas["RelatedReply"];
type RelatedLink = Schemas["Link"];
const TONES: Record<string, Tone> = { True: "good", False: "bad", Unknown: "warn" };
const ROW = 64;

export function useRelated(kind: KindInfo, object: Resource) {
  const { name, project, resourceVersion } = object.metadata;
  const path = `${objectPath(kind.plural, project, name)}/related`;
  return useQuery({
    queryKey: ["related", path, resourceVersion],
    queryFn: ({ signal }) => request<RelatedReply>("GET", path, { signal }),
    placeholderData: (before) => before,
    // What is connected changes without the object itself.
    refetchInterval: 15_000,
  });
}

/** What an object is connected with, drawn: what leads to it on the left, what it leads to on the right. */
export function Related({ kind, object }: { kind: KindInfo; object: Resource }) {
  const say = useWords(words);
  const query = useRelated(kind, object);
  if (query.error) return <Failure error={query.error} onRetry={() => void query.refetch()} />;
  if (!query.data) return <Busy />;
  const { owners = [], owned = [], references = [], users = [] } = query.data;
  const left: Column[] = [
    { title: say("owners"), links: owners },
    { title: say("users"), links: users.flatMap(({ links }) => links), more: users },
  ];
  const right: Column[] = [
    { title: say("references"), links: references },
    { title: say("owned"), links: owned.flatMap(({ links }) => links), more: owned },
  ];
  if ([...left, ...right].every(({ links }) => links.length === 0)) return <EmptyState title={say("noRelated")} />;
  const height = Math.max(heightOf(left), heightOf(right), ROW);
  return (
    <div className="grid items-center gap-4 md:grid-cols-[1fr_4rem_auto_4rem_1fr] md:gap-0">
      <Side columns={left} />
      <Lines columns={left} height={height} isLeft />
      <div className="order-first rounded-md border-2 border-accent bg-surface px-3 py-2 text-center md:order-none">
        <p className="text-quiet text-xs">{kind.kind}</p>
        <p className="max-w-48 break-words font-semibold">{object.metadata.name}</p>
      </div>
      <Lines columns={right} height={height} />
      <Side columns={right} />
    </div>
  );
}

interface Column {
  title: string;
  links: RelatedLink[];
  more?: { kind: string; more?: boolean }[];
}

const TITLE = 28;
const MORE = 24;
const hasMore = ({ more = [] }: Column) => more.some((group) => group.more);
const heightOfColumn = (column: Column) =>
  column.links.length === 0 ? 0 : TITLE + column.links.length * ROW + (hasMore(column) ? MORE : 0);
const heightOf = (columns: readonly Column[]) => columns.reduce((sum, column) => sum + heightOfColumn(column), 0);

function Side({ columns }: { columns: Column[] }) {
  const say = useWords(words);
  return (
    <div className="min-w-0">
      {columns
        .filter(({ links }) => links.length > 0)
        .map((column) => (
          <section key={column.title} aria-label={column.title}>
            <h3 className="truncate text-quiet" style={{ height: TITLE }}>
              {column.title}
            </h3>
            <ul>
              {column.links.map((link) => (
                <Node key={`${link.kind}/${link.project}/${link.name}/${link.path}`} link={link} />
              ))}
            </ul>
            {hasMore(column) ? (
              <p className="text-quiet" style={{ height: MORE }}>
                {say("moreOf", {
                  kinds: [...new Set((column.more ?? []).filter(({ more }) => more).map((each) => each.kind))].join(
                    ", ",
                  ),
                })}
              </p>
            ) : null}
          </section>
        ))}
    </div>
  );
}

function Node({ link }: { link: RelatedLink }) {
  const say = useWords(words);
  const plural = useKinds().find(({ kind }) => kind === link.kind)?.plural;
  const label = (
    <>
      <span className="block truncate text-quiet text-xs">{`${link.kind} · ${link.path}`}</span>
      <span className="flex items-center gap-2">
        <span className="truncate font-medium">{link.name}</span>
        {link.ready ? (
          <Badge tone={TONES[link.ready] ?? "quiet"}>{link.ready === "True" ? "Ready" : link.ready}</Badge>
        ) : null}
      </span>
    </>
  );
  const look = "block h-14 min-w-0 rounded-md border bg-surface px-2 py-1";
  return (
    <li style={{ height: ROW }}>
      {link.uid && plural ? (
        <Link className={`${look} border-line hover:bg-raised`} to={objectLink(plural, link.project, link.name)}>
          {label}
        </Link>
      ) : (
        <div className={`${look} border-bad border-dashed`} title={say("missing")}>
          {label}
          <span className="sr-only">{say("missing")}</span>
        </div>
      )}
    </li>
  );
}

/** The connections as curves; the lists beside them say the same. */
function Lines({ columns, height, isLeft = false }: { columns: Column[]; height: number; isLeft?: boolean }) {
  const own = heightOf(columns);
  let y = (height - own) / 2;
  const ends: number[] = [];
  for (const column of columns) {
    if (column.links.length === 0) continue;
    y += TITLE;
    for (const _ of column.links) {
      ends.push(y + 28);
      y += ROW;
    }
    if (hasMore(column)) y += MORE;
  }
  const middle = height / 2;
  return (
    <svg
      aria-hidden
      className="hidden w-16 text-line md:block"
      viewBox={`0 0 64 ${height}`}
      style={{ height }}
      preserveAspectRatio="none"
    >
      {ends.map((end) => (
        <path
          key={end}
          d={
            isLeft ? `M0 ${end} C32 ${end} 32 ${middle} 64 ${middle}` : `M0 ${middle} C32 ${middle} 32 ${end} 64 ${end}`
          }
          fill="none"
          stroke="currentColor"
          strokeWidth={2}
        />
      ))}
    </svg>
  );
}
