import { useQuery } from "@tanstack/react-query";
import { lazy, type ReactNode, Suspense, useDeferredValue, useEffect, useMemo, useRef, useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { messageOf, writeObject } from "~/api/client";
import { collectionPath, listLink, objectLink, objectPath, useKinds, vcctl } from "~/api/kinds";
import { useLiveObject } from "~/api/lists";
import { meQuery } from "~/api/me";
import type { Resource } from "~/api/types";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { classes } from "~/components/classes";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { useProject } from "~/layout/scope";
import { toast } from "~/layout/toasts";
import { same } from "~/schema/changes";
import { check, type Problem } from "~/schema/check";
import { fieldOf, type KindDescription, type Path, useKindDescription } from "~/schema/schema";
import { change, isLarge, type Manifest, type Mark, pathOfField, rangeOf, read, takeIn, write } from "~/yaml/document";
import { dropDraft, findDraft, keepDraft, valueAt } from "./draft";
import { Form } from "./Form";
import { PlanDialog } from "./PlanDialog";
import { GENTLY, manifestOf, namesOf, plan, type Wanted } from "./plan";
import { words } from "./words";

const Editor = lazy(() => import("~/yaml/Editor"));
/** After the last letter, before the API is asked what it thinks. */
const PAUSE_MS = 700;
const NOTHING: ReadonlySet<string> = new Set();

/** Makes an object (address ending in _new) or changes one (…/edit), by form and YAML over one text. */
export function Component() {
  const say = useWords(words);
  const { plural = "", project, name } = useParams();
  const description = useKindDescription(plural);
  const me = useQuery(meQuery);
  const last = useProject();
  const home = project ?? (description.data?.scope === "Project" ? last : null);
  const live = useLiveObject(name ? collectionPath(plural, project) : null, name ?? "");
  if (description.isPending || me.isPending || (name && live.loading)) return <Busy />;
  if (description.error) return <Failure error={description.error} onRetry={() => void description.refetch()} />;
  const kind = description.data;
  if (me.error) return <Failure error={me.error} onRetry={() => void me.refetch()} />;
  if (name && live.error) return <Failure error={live.error} />;
  if (name && !live.object) {
    return (
      <EmptyState
        title={say("goneTitle", { kind: kind.kind, name })}
        actions={
          <Button asChild>
            <Link to={listLink(plural, project)}>{say("toList", { kind: kind.kind })}</Link>
          </Button>
        }
      >
        {say("goneText")}
      </EmptyState>
    );
  }
  return <Workbench key={`${home}/${name}`} kind={kind} live={live.object} project={home} writer={me.data.subject} />;
}

function firstText(kind: KindDescription, live: Resource | undefined, project: string | null): string {
  if (live) return write(manifestOf(live));
  const { metadata: _, ...example } = kind.example as unknown as Wanted;
  const metadata = { name: "", ...(kind.scope !== "Global" && project ? { project } : {}) };
  return write({ apiVersion: kind.apiVersion, kind: kind.kind, metadata, spec: example.spec ?? {} });
}

interface WorkbenchProps {
  kind: KindDescription;
  live: Resource | undefined;
  project: string | null;
  /** Whose drafts are kept and found. */
  writer: string;
}

function Workbench({ kind, live, project, writer }: WorkbenchProps) {
  const say = useWords(words);
  const navigate = useNavigate();
  const kinds = useKinds();
  const { schema } = kind;
  const path = live
    ? objectPath(kind.plural, live.metadata.project, live.metadata.name)
    : `${collectionPath(kind.plural, project)}/_new`;
  const place = `${writer}:${path}`;
  const [draft] = useState(() => findDraft(place));
  const [base, setBase] = useState(() => draft?.base ?? firstText(kind, live, project));
  const [text, setText] = useState(() => draft?.text ?? base);
  const [restored, setRestored] = useState(draft !== null && draft.text !== draft.base);
  const [tab, setTab] = useState<"form" | "yaml">("form");
  const [planned, setPlanned] = useState<Wanted | null>(null);
  const [caret, setCaret] = useState<{ at: number } | undefined>();

  const [asked, setAsked] = useState<string | null>(null);
  const isLong = useMemo(() => isLarge(text), [text]);
  const isUnread = isLong && text !== asked;
  const manifest = useMemo<Manifest>(
    () => (isUnread ? { text, value: null, marks: [], document: null } : read(text)),
    [text, isUnread],
  );
  // The form stays as it was while the text is no YAML.
  const lastValue = useRef(manifest.value);
  if (manifest.value) lastValue.current = manifest.value;
  const local = useMemo(
    () => (manifest.value ? check(manifest.value, schema).map((problem) => told(problem, say)) : []),
    [manifest.value, schema, say],
  );
  const remote = useOpinion(kind, manifest, local.length === 0 && text !== base);
  const [left, setLeft] = useState<ReadonlySet<string>>(NOTHING);
  const [attempts, setAttempts] = useState(0);
  const begun = useMemo(() => (isLarge(base) ? null : read(base).value), [base]);
  // Nobody is blamed for what they had no chance to fill in yet.
  const due = useMemo(
    () =>
      local.filter(
        ({ field, path }) =>
          attempts > 0 || left.has(field) || !same(valueAt(begun, path), valueAt(manifest.value, path)),
      ),
    [local, attempts, left, begun, manifest.value],
  );
  const problems = useMemo(() => [...due, ...remote], [due, remote]);
  const fields = useRef<HTMLFieldSetElement>(null);
  useEffect(() => {
    if (attempts > 0) fields.current?.querySelector<HTMLElement>("[aria-invalid]")?.focus();
  }, [attempts]);
  const marks = useMemo<Mark[]>(
    () => [
      ...manifest.marks,
      ...problems.map(({ path, field, message }) => {
        const [from, to] = rangeOf(manifest.document, path);
        return { from, to, message: `${field}: ${message}` };
      }),
    ],
    [manifest, problems],
  );
  const errors = useMemo(() => new Map(problems.map(({ field, message }) => [field, message])), [problems]);

  useEffect(() => {
    const timer = setTimeout(() => keepDraft(place, { text, base }, schema), 300);
    return () => clearTimeout(timer);
  }, [place, text, base, schema]);

  const newest = useMemo(() => (live ? write(manifestOf(live)) : null), [live]);
  const changedMeanwhile = newest !== null && newest !== base;
  const begin = (from: string) => {
    setBase(from);
    setText(from);
    setRestored(false);
    setLeft(NOTHING);
    setAttempts(0);
    dropDraft(place);
  };
  const mergeNewest = (from: string) => {
    const merged = takeIn(text, base, from);
    setBase(from);
    setText(merged);
    return read(merged).value as Wanted | null;
  };
  useEffect(() => {
    // Nothing was typed yet: the newest is shown.
    if (newest !== null && newest !== base && text === base) {
      setBase(newest);
      setText(newest);
    }
  }, [newest, base, text]);

  const title = live
    ? say("editTitle", { kind: kind.kind, name: live.metadata.name })
    : say("newTitle", { kind: kind.kind });
  const isBroken = manifest.value === null;
  const value = manifest.value ?? lastValue.current ?? {};
  const editForm = (path: Path, to: unknown) => setText((before) => change(before, path, to));
  const where = project ? ["-p", project] : [];
  const command = live
    ? vcctl("edit", `${kind.singular}/${live.metadata.name}`, ...where)
    : vcctl("apply", "-f", `${String((value.metadata as Wanted["metadata"])?.name || kind.singular)}.yaml`);

  return (
    <div className="flex h-full min-h-0 flex-col">
      <header className="flex flex-wrap items-center gap-2 border-line border-b bg-surface px-3 py-2">
        <h1 className="min-w-0 flex-1 basis-full truncate sm:basis-0 font-semibold text-base">{title}</h1>
        <fieldset className="flex gap-1 lg:hidden" aria-label={say("sections")}>
          {(["form", "yaml"] as const).map((each) => (
            <Button
              key={each}
              look={tab === each ? "plain" : "quiet"}
              aria-pressed={tab === each}
              onClick={() => setTab(each)}
            >
              {say(each)}
            </Button>
          ))}
        </fieldset>
        <CopyButton text={command} command />
        <Button onClick={() => navigate(-1)}>{say("cancel")}</Button>
        <Button
          look="primary"
          disabled={isBroken || due.length > 0}
          onClick={() => (local.length > 0 ? setAttempts((n) => n + 1) : setPlanned(manifest.value as Wanted))}
        >
          {say("plan")}
        </Button>
      </header>
      {restored ? (
        <Notice
          text={say("draft")}
          action={say("discard")}
          onAction={() => begin(newest ?? firstText(kind, live, project))}
        />
      ) : null}
      {changedMeanwhile && text !== base ? (
        <Notice text={say("changedMeanwhile")} action={say("takeNewest")} onAction={() => begin(newest)}>
          {isBroken ? null : <Button onClick={() => mergeNewest(newest)}>{say("takeIn")}</Button>}
        </Notice>
      ) : null}
      {isUnread ? <Notice text={say("unread")} action={say("check")} onAction={() => setAsked(text)} /> : null}
      <Problems
        marks={marks}
        text={text}
        onGo={(at) => {
          setTab("yaml");
          setCaret({ at });
        }}
      />
      <div className="grid min-h-0 flex-1 grid-rows-1 lg:grid-cols-2">
        <div className={classes("min-h-0 overflow-y-auto", tab === "yaml" && "hidden lg:block")}>
          {isBroken && !isLong ? <p className="p-3 text-warn">{say("brokenYaml")}</p> : null}
          {isLong ? (
            <p className="p-3 text-quiet">{say("noForm")}</p>
          ) : (
            <fieldset ref={fields} disabled={isBroken} className="min-w-0">
              <Form
                kind={kind}
                value={value}
                root={schema}
                project={project}
                isNew={!live}
                change={editForm}
                leave={(path) => setLeft((before) => new Set(before).add(fieldOf(path)))}
                errors={errors}
              />
            </fieldset>
          )}
        </div>
        <div className={classes("min-h-0 border-line lg:border-l", tab === "form" && "hidden lg:block")}>
          <Suspense fallback={<Busy />}>
            <Editor
              className="h-full min-h-80"
              text={text}
              onChange={setText}
              onTooLong={() => toast("bad", say("tooLong"))}
              schema={schema}
              marks={marks}
              label={say("yaml")}
              namesOf={(of) => namesOf(kinds, of, project)}
              {...(caret ? { caret } : {})}
            />
          </Suspense>
        </div>
      </div>
      {planned ? (
        <PlanDialog
          kind={kind}
          schema={schema}
          wanted={planned}
          live={live}
          command={command}
          {...(changedMeanwhile ? { onTakeIn: () => setPlanned(mergeNewest(newest)) } : {})}
          onClose={() => setPlanned(null)}
          onApplied={(object, item) => {
            dropDraft(place);
            setPlanned(null);
            toast(
              "good",
              say(item.action === "Create" ? "made" : "applied", { kind: kind.kind, name: object.metadata.name }),
              live && item.action === "Update" ? undoOf(kind, live, object, say("undo")) : undefined,
            );
            navigate(objectLink(kind.plural, object.metadata.project, object.metadata.name));
          }}
        />
      ) : null}
    </div>
  );
}

/** Returns what makes an object again as it was; refused when it has changed since. */
function undoOf(kind: KindDescription, before: Resource, after: Resource, label: string) {
  const run = () => {
    const manifest = manifestOf(before);
    const body = { ...manifest, metadata: { ...manifest.metadata, resourceVersion: after.metadata.resourceVersion } };
    writeObject("PUT", objectPath(kind.plural, before.metadata.project, before.metadata.name), { body }).catch(
      (error) => toast("bad", messageOf(error)),
    );
  };
  return { label, run };
}

interface Told {
  path: Path;
  field: string;
  message: string;
}

/** Of names; nobody should have to read it. */
const LABEL = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

function told({ path, rule, expected }: Problem, say: ReturnType<typeof useWords<keyof typeof words.en>>): Told {
  return { path, field: fieldOf(path), message: expected === LABEL ? say("label") : say(rule, { expected }) };
}

/** What the API thinks of the text, asked while nobody types. */
function useOpinion(kind: KindDescription, manifest: Manifest, isAsked: boolean): Told[] {
  const value = useDeferredValue(manifest.value);
  const [settled, setSettled] = useState<Record<string, unknown> | null>(null);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [value]);
  const isReady = isAsked && settled !== null && settled === manifest.value;
  const query = useQuery({
    queryKey: ["opinion", kind.plural, settled],
    queryFn: async ({ signal }) => (await plan([settled as Wanted], { ...GENTLY, force: true }, signal)).items[0],
    enabled: isReady,
    gcTime: 0,
    retry: false,
  });
  return useMemo(() => {
    const causes = isReady ? (query.data?.refusal?.details?.causes ?? []) : [];
    return causes
      .filter(({ field }) => field !== "metadata.resourceVersion")
      .map(({ field, message }) => ({ field, message, path: pathOfField(field, settled) }));
  }, [isReady, query.data, settled]);
}

interface NoticeProps {
  text: string;
  action: string;
  onAction: () => void;
  children?: ReactNode;
}

function Notice({ text, action, onAction, children }: NoticeProps) {
  return (
    <div role="status" className="flex flex-wrap items-center gap-2 bg-warn-ground px-3 py-1 text-warn">
      <span className="flex-1">{text}</span>
      {children}
      <Button onClick={onAction}>{action}</Button>
    </div>
  );
}

const MOST_TOLD = 20;

function Problems({ marks, text, onGo }: { marks: readonly Mark[]; text: string; onGo: (at: number) => void }) {
  const say = useWords(words);
  if (marks.length === 0) return null;
  // Some faults, such as brackets that stay open, come many times over.
  const told = new Map(marks.map((mark) => [`${mark.from} ${mark.message}`, mark]));
  return (
    <section aria-label={say("problems")} className="max-h-32 overflow-y-auto bg-bad-ground px-3 py-1 text-bad">
      <ul>
        {[...told].slice(0, MOST_TOLD).map(([key, { from, message }]) => (
          <li key={key} className="flex items-baseline gap-2">
            <button type="button" className="shrink-0 cursor-pointer underline" onClick={() => onGo(from)}>
              {say("goTo", { line: text.slice(0, from).split("\n").length })}
            </button>
            <span className="min-w-0 break-words">{message}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
