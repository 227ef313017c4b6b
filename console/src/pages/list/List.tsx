import { useQuery } from "@tanstack/react-query";
import { Ban, SearchX, Shapes } from "lucide-react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useParams } from "react-router";
import { Refused } from "~/api/errors";
import { collectionPath, type KindInfo, kindsQuery, useKind } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { columnsOf } from "./columns";
import { conditionChoices, filterRows, rowMaker, sorterOf } from "./rows";
import { useListState } from "./state";
import { Table } from "./Table";
import { Toolbar } from "./Toolbar";
import { words } from "./words";

const NOTHING: ReadonlySet<string> = new Set();

/** The list of any kind. */
export function Component() {
  const say = useWords(words);
  const { plural = "", project } = useParams();
  const kinds = useQuery(kindsQuery);
  const kind = useKind(plural);
  if (kinds.isPending) return <Busy />;
  if (kinds.error) return <Failure error={kinds.error} onRetry={() => void kinds.refetch()} />;
  if (!kind || (project && kind.scope === "Global")) {
    return (
      <EmptyState icon={<Shapes aria-hidden />} title={say("noKindTitle")}>
        {say("noKindText", { plural })}
      </EmptyState>
    );
  }
  return <KindList key={`${project ?? ""}/${plural}`} kind={kind} project={project ?? null} />;
}

function KindList({ kind, project }: { kind: KindInfo; project: string | null }) {
  const say = useWords(words);
  const [state, change] = useListState();
  const [selected, setSelected] = useState(NOTHING);
  const list = useLiveList(collectionPath(kind.plural, project), { labelSelector: state.label || undefined });
  const columns = useMemo(() => columnsOf(kind), [kind]);
  const makeRow = useMemo(() => rowMaker(columns), [columns]);
  const sort = useMemo(() => sorterOf(state.sort, columns), [state.sort, columns]);
  // Sorted first: what is typed then only takes rows away.
  const sorted = useMemo(() => sort(list.items.map(makeRow)), [sort, list.items, makeRow]);
  const rows = useMemo(() => filterRows(sorted, state.text, state.condition), [sorted, state.text, state.condition]);
  const found = useMemo(() => conditionChoices(list.items).join(), [list.items]);
  const conditions = useMemo(() => found.split(",").filter(Boolean), [found]);
  // The parts of the page that do not change with each row are given rows only when they ask.
  const shown = useRef(rows);
  shown.current = rows;
  const getRows = useCallback(() => shown.current, []);
  const hasReady = kind.conditions.length > 0;
  const withProject = project === null && kind.scope !== "Global";

  // What is gone is selected no more.
  useEffect(() => {
    setSelected((before) => {
      if (before.size === 0) return before;
      const there = new Set(list.items.map(({ metadata }) => metadata.uid));
      const kept = [...before].filter((id) => there.has(id));
      return kept.length === before.size ? before : new Set(kept);
    });
  }, [list.items]);

  const onSort = useCallback((by: string) => change({ sort: by }), [change]);
  const isRefused = list.error instanceof Refused && list.error.code === 403;
  const filtered = state.text !== "" || state.condition !== "" || state.label !== "";
  return (
    <div className="flex h-full flex-col">
      <Toolbar
        kind={kind}
        project={project}
        complete={list.complete}
        total={list.total}
        isKnown={list.items.length > 0 || !list.error}
        shown={rows.length}
        text={state.text}
        label={state.label}
        condition={state.condition}
        wide={state.wide}
        change={change}
        getRows={getRows}
        columns={columns}
        conditions={conditions}
        selected={selected}
        onSelect={setSelected}
      />
      {list.error && !isRefused ? (
        <div className="p-3">
          <Failure error={list.error} onRetry={list.retry} />
        </div>
      ) : null}
      {list.loading ? (
        <Busy />
      ) : rows.length > 0 ? (
        <Table
          kind={kind}
          rows={rows}
          columns={columns}
          withProject={withProject}
          hasReady={hasReady}
          wide={state.wide}
          sort={state.sort}
          onSort={onSort}
          selected={selected}
          onSelect={setSelected}
        />
      ) : isRefused ? (
        <EmptyState icon={<Ban aria-hidden />} title={say("refusedTitle", { kind: kind.kind })}>
          <p>{list.error?.message}</p>
          <p>{project ? say("refusedInProject", { project }) : say("refusedText")}</p>
        </EmptyState>
      ) : filtered ? (
        <EmptyState
          icon={<SearchX aria-hidden />}
          title={say("noMatchTitle")}
          actions={<Button onClick={() => change({ text: "", condition: "", label: "" })}>{say("clear")}</Button>}
        >
          {say("noMatchText", { total: list.total })}
        </EmptyState>
      ) : list.error ? null : (
        <Empty kind={kind} project={project} />
      )}
    </div>
  );
}

function Empty({ kind, project }: { kind: KindInfo; project: string | null }) {
  const say = useWords(words);
  const command = `vcctl explain ${kind.singular}${project ? ` --project ${project}` : ""}`;
  const doc = kind.doc;
  if (!kind.verbs.includes("create")) {
    return (
      <EmptyState icon={<Shapes aria-hidden />} title={say("emptyTitle", { kind: kind.kind })}>
        {say("emptySystem", { doc })}
      </EmptyState>
    );
  }
  if (kind.scope === "Project" && !project) {
    return (
      <EmptyState icon={<Shapes aria-hidden />} title={say("emptyTitle", { kind: kind.kind })}>
        {say("emptyAll", { doc })}
      </EmptyState>
    );
  }
  return (
    <EmptyState icon={<Shapes aria-hidden />} title={say("emptyTitle", { kind: kind.kind })}>
      <p>{say("emptyText", { doc })}</p>
      <p className="mt-2 inline-flex items-center gap-1">
        <code className="rounded bg-raised px-2 py-1 font-mono">{command}</code>
        <CopyButton text={command} command />
      </p>
    </EmptyState>
  );
}
