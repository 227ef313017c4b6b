import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { type KindInfo, vcctl } from "~/api/kinds";
import type { Resource } from "~/api/types";
import { Badge, type Tone } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import type { FieldChange } from "~/schema/changes";
import type { JsonSchema, Takes } from "~/schema/schema";
import { carryOut, GENTLY, type How, isStale, type PlannedItem, plan, staying, type Wanted } from "./plan";
import { words } from "./words";

const TAKES: Record<Takes, Tone> = { Live: "good", Reboot: "warn", Recreate: "bad", Immutable: "bad" };
const ACTIONS: Record<PlannedItem["action"], Tone> = {
  Create: "good",
  Update: "info",
  Unchanged: "quiet",
  Refused: "bad",
};

interface PlanDialogProps {
  kind: KindInfo;
  schema: JsonSchema;
  wanted: Wanted;
  live: Resource | undefined;
  /** How it is to be done at first. */
  how?: How;
  /** The command that does the same. */
  command?: string;
  /** Takes in what others changed since the manifest was begun; given while there is such, which applying would undo. */
  onTakeIn?: () => void;
  onClose: () => void;
  onApplied: (object: Resource, item: PlannedItem) => void;
}

/** Shows what saving would do, and saves. */
export function PlanDialog(props: PlanDialogProps) {
  const { kind, schema, wanted, live, onTakeIn, onClose, onApplied } = props;
  const say = useWords(words);
  const [how, setHow] = useState<How>(props.how ?? GENTLY);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const query = useQuery({
    queryKey: ["plan", wanted, how, live?.metadata.resourceVersion],
    queryFn: async () => (await plan([wanted], how)).items[0],
    gcTime: 0,
    staleTime: 0,
    retry: false,
  });
  const item = query.data;
  const stays = item && !how.replace ? staying(schema, live, wanted, item) : [];
  const conflicts = item?.refusal?.code === 409 && !how.replace;
  const can = item && (item.action === "Create" || item.action === "Update") && !query.isFetching && !onTakeIn;
  const apply = async () => {
    if (!item) return;
    setBusy(true);
    setError(null);
    try {
      onApplied(await carryOut(kind, wanted, item, how), item);
    } catch (failure) {
      if (isStale(failure)) {
        setError(new Error(say("stale")));
        void query.refetch();
      } else setError(failure);
    } finally {
      setBusy(false);
    }
  };
  const command = props.command ?? vcctl("apply", "-f", `${wanted.metadata?.name ?? "manifest"}.yaml`);
  return (
    <Dialog
      open
      onOpenChange={(open) => open || onClose()}
      title={say("planTitle")}
      className="max-w-3xl"
      actions={
        <>
          <CopyButton text={command} command />
          <Button onClick={onClose}>{say("cancel")}</Button>
          <Button look="primary" disabled={!can || busy} onClick={() => void apply()}>
            {say("apply")}
          </Button>
        </>
      }
    >
      {onTakeIn ? (
        <div role="alert" className="flex flex-wrap items-center gap-2 rounded-md bg-warn-ground p-2 text-warn">
          <p className="flex-1">{`${say("changedMeanwhile")} ${say("takeInFirst")}`}</p>
          <Button onClick={onTakeIn}>{say("takeIn")}</Button>
        </div>
      ) : null}
      {query.isPending ? <Busy label={say("planning")} /> : null}
      {query.error ? <Failure error={query.error} onRetry={() => void query.refetch()} /> : null}
      {item ? <PlanView item={item} /> : null}
      {conflicts || how.force ? (
        <Choice checked={how.force} onChange={(force) => setHow({ ...how, force })}>
          {say("takeOver")}
        </Choice>
      ) : null}
      {stays.length > 0 ? <p className="text-quiet">{say("stays", { fields: stays.join(", ") })}</p> : null}
      {live && (stays.length > 0 || how.replace) && props.how === undefined ? (
        <Choice checked={how.replace} onChange={(replace) => setHow({ ...how, replace })}>
          {say("removeToo")}
        </Choice>
      ) : null}
      {error ? <Failure error={error} /> : null}
    </Dialog>
  );
}

function Choice(props: { checked: boolean; onChange: (checked: boolean) => void; children: string }) {
  return (
    <label className="flex items-start gap-2">
      <input
        type="checkbox"
        className="mt-1"
        checked={props.checked}
        onChange={({ target }) => props.onChange(target.checked)}
      />
      {props.children}
    </label>
  );
}

/** What a plan says of one object. */
export function PlanView({ item }: { item: PlannedItem }) {
  const say = useWords(words);
  return (
    <section className="flex flex-col gap-2">
      <h3 className="flex flex-wrap items-center gap-2 font-medium">
        {`${item.kind} ${item.name}`}
        <Badge tone={ACTIONS[item.action]}>{say(item.action)}</Badge>
      </h3>
      {item.refusal ? <Refusal item={item} /> : null}
      {item.warnings.map((warning) => (
        <p key={warning} className="rounded-md bg-warn-ground p-2 text-warn">
          {warning}
        </p>
      ))}
      {item.changes.length > 0 ? <Changes changes={item.changes} isNew={item.action === "Create"} /> : null}
    </section>
  );
}

function Refusal({ item }: { item: PlannedItem }) {
  const causes = item.refusal?.details?.causes ?? [];
  return (
    <div role="alert" className="rounded-md bg-bad-ground p-2 text-bad">
      <p className="break-words">{item.refusal?.message}</p>
      {causes.length > 1 ? (
        <ul className="list-disc pl-5">
          {causes.map(({ field, message }) => (
            <li key={field + message} className="break-words">
              {`${field}: ${message}`}
            </li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}

export function Changes({ changes, isNew }: { changes: readonly FieldChange[]; isNew: boolean }) {
  const say = useWords(words);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard
    <section className="overflow-x-auto rounded-md border border-line" aria-label={say("planTitle")} tabIndex={0}>
      <table className="w-full text-left">
        <thead className="bg-raised text-quiet text-xs">
          <tr>
            <th className="px-2 py-1 font-medium">{say("field")}</th>
            {isNew ? null : <th className="px-2 py-1 font-medium">{say("from")}</th>}
            <th className="px-2 py-1 font-medium">{say("to")}</th>
            {isNew ? null : <th className="px-2 py-1 font-medium">{say("takes")}</th>}
          </tr>
        </thead>
        <tbody>
          {changes.map(({ path, from, to, takes }) => (
            <tr key={path} className="border-line border-t align-top">
              <td className="px-2 py-1 font-mono text-[13px]">{path}</td>
              {isNew ? null : (
                <td className="px-2 py-1">
                  <Value of={from} />
                </td>
              )}
              <td className="px-2 py-1">
                <Value of={to} />
              </td>
              {isNew ? null : (
                <td className="px-2 py-1">
                  <Badge tone={TAKES[takes]}>{say(takes)}</Badge>
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** A value as it is written, cut off. */
function Value({ of }: { of: unknown }) {
  if (of === undefined || of === null) return <span className="text-quiet">{"—"}</span>;
  const text = typeof of === "object" ? JSON.stringify(of, null, 1) : String(of);
  return (
    <code className="whitespace-pre-wrap break-all font-mono text-[13px]">
      {text.length > 600 ? `${text.slice(0, 600)}…` : text}
    </code>
  );
}
