import { useQuery } from "@tanstack/react-query";
import { Tag, Trash2 } from "lucide-react";
import { type FormEvent, useState } from "react";
import { type KindInfo, useKinds, vcctl } from "~/api/kinds";
import type { Resource } from "~/api/types";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { Field, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { Losses } from "~/pages/object/Delete";
import {
  deleteAll,
  findDependents,
  type Labels,
  labelAll,
  MOST_ASKED,
  type Outcome,
  parseLabels,
  unlabelAll,
} from "./bulk";
import { words } from "./words";

const NAMED = 12;
/** From so many on, the number has to be typed: a click too many shall not end that much. */
const MANY = 6;

interface BulkActionsProps {
  kind: KindInfo;
  /** What is selected, when something is to be done to it. */
  getObjects: () => Resource[];
  onDone: () => void;
}

/** What can be done to all that are selected. */
export function BulkActions(props: BulkActionsProps) {
  const say = useWords(words);
  const [open, setOpen] = useState<"Delete" | "Label" | null>(null);
  const { verbs } = props.kind;
  const close = () => setOpen(null);
  return (
    <>
      {verbs.includes("update") ? (
        <Button onClick={() => setOpen("Label")}>
          <Tag aria-hidden />
          {say("setLabel")}
        </Button>
      ) : null}
      {verbs.includes("delete") ? (
        <Button look="danger" onClick={() => setOpen("Delete")}>
          <Trash2 aria-hidden />
          {say("delete")}
        </Button>
      ) : null}
      {open === "Delete" ? <DeleteDialog {...props} onClose={close} /> : null}
      {open === "Label" ? <LabelDialog {...props} onClose={close} /> : null}
    </>
  );
}

const titleOf = ({ metadata }: Resource) => (metadata.project ? `${metadata.project}/${metadata.name}` : metadata.name);

function tellFailures(outcome: Outcome): void {
  const [first] = outcome.failed;
  if (!first) return;
  const more = outcome.failed.length > 1 ? ` (+${outcome.failed.length - 1})` : "";
  toast("bad", `${titleOf(first.object)}: ${first.message}${more}`);
}

/** Asks before it deletes, and names what is lost. */
export function DeleteDialog({ kind, getObjects, onDone, onClose }: BulkActionsProps & { onClose: () => void }) {
  const say = useWords(words);
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  // What was selected when the question was asked, whatever comes and goes behind it.
  const [asked] = useState(getObjects);
  const kinds = useKinds();
  const dependents = useQuery({
    queryKey: ["dependents", kind.plural, asked.map(({ metadata }) => metadata.uid)],
    queryFn: ({ signal }) => findDependents(kind, asked, kinds, signal),
    enabled: kinds.length > 0,
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const { owned = [], users = [] } = dependents.data ?? {};
  const hasLosses = owned.length > 0 || users.length > 0 || kind.kind === "Project" || kind.kind === "Domain";
  const mustType = asked.length >= MANY || hasLosses;
  const sure = !dependents.isPending && (!mustType || typed.trim() === String(asked.length));
  const projects = new Set(asked.map(({ metadata }) => metadata.project ?? ""));
  const [project] = projects;
  const command = vcctl(
    "delete",
    kind.singular,
    ...asked.map(({ metadata }) => metadata.name),
    ...(project && projects.size === 1 ? ["--project", project] : []),
  );
  const run = async () => {
    setBusy(true);
    const outcome = await deleteAll(kind, asked);
    if (outcome.done.length > 0) toast("info", say("deletedText", { count: outcome.done.length, kind: kind.kind }));
    tellFailures(outcome);
    onClose();
    onDone();
  };
  return (
    <Dialog
      open
      onOpenChange={(open) => !open && onClose()}
      title={say("deleteTitle", { count: asked.length, kind: kind.kind })}
      description={kind.doc}
      actions={
        <>
          {projects.size === 1 ? <CopyButton text={command} command /> : null}
          <Button onClick={onClose}>{say("cancel")}</Button>
          <Button look="danger" disabled={!sure || busy} onClick={() => void run()}>
            {say("deleteNow", { count: asked.length })}
          </Button>
        </>
      }
    >
      <p>{say("deleteText")}</p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached with the keyboard (WCAG 2.1.1) */}
      <ul tabIndex={0} className="max-h-48 overflow-y-auto rounded-md bg-raised p-2 font-mono">
        {asked.slice(0, NAMED).map((object) => (
          <li key={object.metadata.uid} className="break-all">
            {titleOf(object)}
          </li>
        ))}
        {asked.length > NAMED ? <li>{say("andMore", { count: asked.length - NAMED })}</li> : null}
      </ul>
      {dependents.isPending ? <Busy label={say("looking")} /> : null}
      {dependents.error ? <Failure error={dependents.error} onRetry={() => void dependents.refetch()} /> : null}
      {owned.length > 0 ? <Losses title={say("goWithThem")} groups={owned} /> : null}
      {users.length > 0 ? <Losses title={say("nameThem")} groups={users} /> : null}
      {asked.length > MOST_ASKED ? <p className="text-quiet">{say("firstOnly", { count: MOST_ASKED })}</p> : null}
      {mustType ? (
        <Field label={say("typeCount", { count: asked.length })}>
          {(control) => (
            <Input {...control} inputMode="numeric" value={typed} onChange={(event) => setTyped(event.target.value)} />
          )}
        </Field>
      ) : null}
    </Dialog>
  );
}

function LabelDialog({ kind, getObjects, onDone, onClose }: BulkActionsProps & { onClose: () => void }) {
  const say = useWords(words);
  const [asked] = useState(getObjects);
  const [wrong, setWrong] = useState(false);
  const [busy, setBusy] = useState(false);
  const undo = (labels: Labels) => void unlabelAll(kind, asked, labels).then(tellFailures);
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const labels = parseLabels(String(new FormData(event.currentTarget).get("labels") ?? ""));
    setWrong(labels === null);
    if (labels === null) return;
    setBusy(true);
    const outcome = await labelAll(kind, asked, labels);
    if (outcome.done.length > 0) {
      const text = say("labelledText", { count: outcome.done.length, kind: kind.kind });
      toast("good", text, { label: say("undo"), run: () => undo(labels) });
    }
    tellFailures(outcome);
    onClose();
    onDone();
  };
  return (
    <Dialog
      open
      onOpenChange={(open) => !open && onClose()}
      title={say("labelTitle", { count: asked.length, kind: kind.kind })}
    >
      <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-3">
        <Field label={say("labels")} help={say("labelsHelp")} error={wrong ? say("labelsWrong") : undefined}>
          {(control) => <Input {...control} name="labels" placeholder="env=prod" spellCheck={false} autoFocus />}
        </Field>
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>{say("cancel")}</Button>
          <Button look="primary" type="submit" disabled={busy}>
            {say("setLabel")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
