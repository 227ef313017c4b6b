import { useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { FileDown, ScrollText, ShieldAlert, ShieldCheck, Video } from "lucide-react";
import { useMemo, useState } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { authorizedFetch, messageOf, request } from "~/api/client";
import { refusalOf } from "~/api/errors";
import { objectLink, useKinds, vcctl } from "~/api/kinds";
import { useMe } from "~/api/me";
import { useMay } from "~/api/rights";
import type { Schemas } from "~/api/types";
import { localTime } from "~/components/Age";
import { Badge, type Tone } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { Card } from "~/components/Card";
import { CopyButton } from "~/components/CopyButton";
import { classes } from "~/components/classes";
import { Dialog } from "~/components/Dialog";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { Field, INPUT, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { type FIELDS, type Filters, flagsOf, OUTCOMES, queryOf, readFilters } from "./filters";
import { words } from "./words";

interface AuditRecord {
  chain: string;
  seq: number;
  time: string;
  subject: string;
  verb: string;
  kind?: string;
  name?: string;
  project?: string;
  outcome: string;
  status?: number;
  peer?: string;
}
interface Page {
  metadata: { continue?: string };
  items: AuditRecord[];
}

/** No watch tells of records: they come from the archive, which has them some seconds after they happened. */
const LOOK_MS = 5_000;
const TONES: Record<string, Tone> = { Allowed: "good", Denied: "bad", Failed: "warn" };

/** Who did what, to be searched, verified and exported. */
export function Component() {
  const say = useWords(words);
  const { project } = useParams();
  const me = useMe();
  const [parameters, setParameters] = useSearchParams();
  const filters = useMemo(() => readFilters(parameters), [parameters]);
  const [shown, setShown] = useState<AuditRecord | null>(null);
  const path = project ? `/api/v1/projects/${encodeURIComponent(project)}/audit` : "/api/v1/audit";
  const records = useInfiniteQuery({
    queryKey: ["audit", path, filters],
    queryFn: ({ signal, pageParam }) =>
      request<Page>("GET", path, { query: { ...queryOf(filters), continue: pageParam }, signal }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.metadata.continue,
    // Who reads further back is not disturbed.
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) < 2 ? LOOK_MS : false),
  });
  const items = records.data?.pages.flatMap((page) => page.items) ?? [];
  const change = (field: (typeof FIELDS)[number], value: string) =>
    setParameters(
      (before) => {
        const after = new URLSearchParams(before);
        if (value) after.set(field, value);
        else after.delete(field);
        return after;
      },
      { replace: true },
    );
  const where = project ? ["--project", project] : [];
  return (
    <div className="flex flex-col gap-4 p-3 sm:p-4">
      <div className="flex flex-wrap items-center gap-2">
        <h1 className="mr-auto font-semibold text-lg">{project ? say("titleOf", { project }) : say("title")}</h1>
        <CopyButton command text={vcctl("audit", "list", ...where, ...flagsOf(filters))} />
        {project ? <RecordingsLink project={project} /> : null}
        <Export filters={filters} project={project} />
      </div>
      {!project && me?.allProjects ? <Verify /> : null}
      <FilterForm filters={filters} change={change} onClear={() => setParameters({}, { replace: true })} />
      {records.error ? <Failure error={records.error} onRetry={() => void records.refetch()} /> : null}
      {records.isPending && !records.error ? <Busy /> : null}
      {records.data && items.length === 0 ? (
        <EmptyState icon={<ScrollText aria-hidden />} title={say("none")}>
          {say("noneText")}
        </EmptyState>
      ) : null}
      {items.length > 0 ? <Records items={items} onShow={setShown} /> : null}
      {records.hasNextPage ? (
        <Button
          className="self-center"
          disabled={records.isFetchingNextPage}
          onClick={() => void records.fetchNextPage()}
        >
          {say("more")}
        </Button>
      ) : null}
      <Dialog
        side
        open={shown !== null}
        onOpenChange={() => setShown(null)}
        title={shown ? say("details", { seq: shown.seq, chain: shown.chain }) : ""}
        actions={shown ? <CopyButton text={JSON.stringify(shown, null, 2)} /> : null}
      >
        <section
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard
          tabIndex={0}
          aria-label={say("show")}
          className="overflow-auto rounded-md border border-line bg-ground p-3 whitespace-pre-wrap break-all font-mono text-xs"
        >
          {shown ? JSON.stringify(shown, null, 2) : ""}
        </section>
      </Dialog>
    </div>
  );
}

/** Leads who may see them to what shells in the project's instances showed. */
function RecordingsLink({ project }: { project: string }) {
  const say = useWords(words);
  if (!useMay({ verb: "get", kind: "Project", subresource: "recordings", name: project })) return null;
  return (
    <Button asChild>
      <Link to={`/projects/${encodeURIComponent(project)}/recordings`}>
        <Video aria-hidden />
        {say("recordings")}
      </Link>
    </Button>
  );
}

function FilterForm({
  filters,
  change,
  onClear,
}: {
  filters: Filters;
  change: (field: (typeof FIELDS)[number], value: string) => void;
  onClear: () => void;
}) {
  const say = useWords(words);
  const kinds = useKinds();
  const text = (field: "subject" | "verb" | "name" | "requestId", help?: string) => (
    <Field label={say(field)} help={help}>
      {(control) => (
        // Asked for when it is complete, not at each letter.
        <Input
          key={filters[field] ?? ""}
          defaultValue={filters[field] ?? ""}
          onBlur={(event) => change(field, event.target.value.trim())}
          onKeyDown={(event) => {
            if (event.key === "Enter") change(field, event.currentTarget.value.trim());
          }}
          {...control}
        />
      )}
    </Field>
  );
  const choice = (field: "kind" | "outcome", of: readonly string[]) => (
    <Field label={say(field)}>
      {(control) => (
        <select
          className={INPUT}
          value={filters[field] ?? ""}
          onChange={(e) => change(field, e.target.value)}
          {...control}
        >
          <option value="">{say("any")}</option>
          {of.map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
  const time = (field: "since" | "until") => (
    <Field label={say(field)}>
      {(control) => (
        <Input
          type="datetime-local"
          value={filters[field] ?? ""}
          onChange={(e) => change(field, e.target.value)}
          {...control}
        />
      )}
    </Field>
  );
  return (
    <div className="grid grid-cols-2 gap-3 rounded-lg border border-line bg-surface p-3 md:grid-cols-4">
      {text("subject", say("subjectHelp"))}
      {text("verb")}
      {choice("kind", kinds.map(({ kind }) => kind).sort())}
      {text("name")}
      {choice("outcome", OUTCOMES)}
      {time("since")}
      {time("until")}
      {text("requestId")}
      {Object.keys(filters).length > 0 ? (
        <Button className="col-span-2 justify-self-start" onClick={onClear}>
          {say("clear")}
        </Button>
      ) : null}
    </div>
  );
}

function Records({ items, onShow }: { items: AuditRecord[]; onShow: (record: AuditRecord) => void }) {
  const say = useWords(words);
  const kinds = useKinds();
  const cell = "px-2 py-1.5 text-left align-top";
  const linkOf = ({ kind, project, name }: AuditRecord) => {
    const plural = kinds.find((each) => each.kind === kind)?.plural;
    return plural && name ? objectLink(plural, project, name) : null;
  };
  return (
    <section
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard
      tabIndex={0}
      aria-label={say("title")}
      className="overflow-x-auto rounded-lg border border-line bg-surface"
    >
      <table className="w-full border-collapse">
        <thead className="text-quiet text-xs">
          <tr className="border-line border-b">
            <th scope="col" className={cell}>
              {say("time")}
            </th>
            <th scope="col" className={cell}>
              {say("subject")}
            </th>
            <th scope="col" className={cell}>
              {say("verb")}
            </th>
            <th scope="col" className={cell}>
              {say("object")}
            </th>
            <th scope="col" className={cell}>
              {say("outcome")}
            </th>
            <th scope="col" className={classes(cell, "max-md:hidden")}>
              {say("peer")}
            </th>
          </tr>
        </thead>
        <tbody>
          {items.map((record) => {
            const link = linkOf(record);
            const text = [record.kind, [record.project, record.name].filter(Boolean).join("/")]
              .filter(Boolean)
              .join(" ");
            return (
              <tr key={`${record.chain} ${record.seq}`} className="border-line border-b last:border-b-0">
                <td className={classes(cell, "whitespace-nowrap")}>
                  <button
                    type="button"
                    className="cursor-pointer text-accent underline"
                    title={say("show")}
                    onClick={() => onShow(record)}
                  >
                    <time dateTime={record.time}>{localTime(record.time)}</time>
                  </button>
                </td>
                <td className={classes(cell, "min-w-28 break-all")}>{record.subject}</td>
                <td className={cell}>{record.verb}</td>
                <td className={classes(cell, "min-w-28 break-all")}>
                  {link ? (
                    <Link to={link} className="text-accent underline">
                      {text}
                    </Link>
                  ) : (
                    text
                  )}
                </td>
                <td className={cell}>
                  <Badge tone={TONES[record.outcome] ?? "quiet"}>
                    {`${record.outcome} ${record.status ?? ""}`.trim()}
                  </Badge>
                </td>
                <td className={classes(cell, "max-md:hidden")}>{record.peer}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function Export({ filters, project }: { filters: Filters; project: string | undefined }) {
  const say = useWords(words);
  const run = useMutation({
    mutationFn: async () => {
      const url = new URL("/api/v1/audit/export", globalThis.location.origin);
      const query = { ...queryOf(filters), ...(project ? { project } : {}) };
      for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
      const answer = await authorizedFetch(new Request(url));
      if (!answer.ok) throw await refusalOf(answer);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await answer.blob());
      link.download = "audit.jsonl";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    },
    onError: (error) => toast("bad", messageOf(error)),
  });
  return (
    <Button title={say("exportHelp")} disabled={run.isPending} onClick={() => run.mutate()}>
      <FileDown aria-hidden />
      {say("export")}
    </Button>
  );
}

function Verify() {
  const say = useWords(words);
  const run = useMutation({
    mutationFn: () => request<Schemas["VerificationReport"]>("GET", "/api/v1/audit/verify"),
    onError: (error) => toast("bad", messageOf(error)),
  });
  const report = run.data;
  return (
    <Card
      title={say("verify")}
      aside={
        <span className="flex items-center gap-2">
          <CopyButton command text={vcctl("audit", "verify")} />
          <Button disabled={run.isPending} onClick={() => run.mutate()}>
            {say("verify")}
          </Button>
        </span>
      }
    >
      <p className="text-quiet">{say("verifyText")}</p>
      <div role="status">
        {run.isPending ? say("verifying") : null}
        {report && !run.isPending ? (
          <p
            className={classes(
              "flex items-center gap-2 rounded-md p-3",
              report.intact ? "bg-good-ground text-good" : "bg-bad-ground text-bad",
            )}
          >
            {report.intact ? (
              <ShieldCheck aria-hidden className="size-5 shrink-0" />
            ) : (
              <ShieldAlert aria-hidden className="size-5 shrink-0" />
            )}
            {report.intact
              ? say("intact", { records: report.records, chains: report.chains.length })
              : say("broken", { records: report.records, count: report.findings.length })}
          </p>
        ) : null}
      </div>
      {report && !report.intact ? (
        <ul className="flex flex-col gap-1">
          {report.findings.slice(0, 20).map((finding) => (
            <li key={`${finding.chain} ${finding.seq} ${finding.problem}`} className="break-words">
              <Badge tone="bad">{finding.problem}</Badge> {say("details", { seq: finding.seq, chain: finding.chain })}
              {": "}
              {finding.message}
            </li>
          ))}
        </ul>
      ) : null}
      {report ? (
        <ul className="text-quiet text-xs">
          {report.chains.map((chain) => (
            <li key={chain.chain} className="break-all">
              {say("chain", { chain: chain.chain, first: chain.first, last: chain.last })}
            </li>
          ))}
        </ul>
      ) : null}
    </Card>
  );
}
