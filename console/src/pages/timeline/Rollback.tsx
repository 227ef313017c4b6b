import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useKinds, vcctl } from "~/api/kinds";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { ConfirmName } from "~/components/ConfirmName";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { Losses } from "~/pages/object/Delete";
import { PlanView } from "~/pages/object/PlanDialog";
import { goBack, type Outcome, planWayBack, type Step, type WayBack } from "./wayback";
import { words } from "./words";

interface RollbackDialogProps {
  project: string;
  revision: string;
  onClose: () => void;
  /** Asks for the way back from what was done. */
  onUndo: (revision: string) => void;
}

/** Shows in one plan all that makes a project as it was, and does it. */
export function RollbackDialog({ project, revision, onClose, onUndo }: RollbackDialogProps) {
  const say = useWords(words);
  const kinds = useKinds();
  const [typed, setTyped] = useState("");
  const [done, setDone] = useState<number | null>(null);
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const query = useQuery({
    queryKey: ["wayback", project, revision],
    queryFn: ({ signal }) => planWayBack(project, revision, kinds, signal),
    enabled: kinds.length > 0,
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
  });
  const way = query.data;
  const newest = way?.newest;
  const possible = way?.makings.filter(({ item }) => item.action !== "Refused") ?? [];
  const count = possible.length + (way?.leavings.length ?? 0);
  const isSure = (way?.leavings.length ?? 0) === 0 || typed === project;
  const apply = async () => {
    if (!way) return;
    setDone(0);
    const found = await goBack(way, setDone);
    setDone(null);
    if (found.failed.length + found.leftOut.length > 0) {
      setOutcome(found);
      return;
    }
    const undo = newest ? { label: say("undo"), run: () => onUndo(newest) } : undefined;
    toast("good", say("wentBack", { name: project, revision }), undo);
    onClose();
  };
  const again = () => {
    setOutcome(null);
    setTyped("");
    void query.refetch();
  };
  return (
    <Dialog
      open
      onOpenChange={(open) => open || onClose()}
      title={say("wayTitle", { name: project, revision })}
      description={say("wayText")}
      className="max-w-3xl"
      actions={
        outcome ? (
          <>
            {newest && outcome.done > 0 ? <Button onClick={() => onUndo(newest)}>{say("undo")}</Button> : null}
            <Button onClick={onClose}>{say("close")}</Button>
            {outcome.failed.length > 0 ? (
              <Button look="primary" onClick={again}>
                {say("planAnew")}
              </Button>
            ) : null}
          </>
        ) : (
          <>
            {way && count > 0 ? <CopyButton text={commandsOf(way, revision)} command /> : null}
            <Button onClick={onClose}>{say("cancel")}</Button>
            <Button
              look={way && way.leavings.length > 0 ? "danger" : "primary"}
              disabled={count === 0 || !isSure || done !== null || query.isFetching || way?.refusal != null}
              onClick={() => void apply()}
            >
              {say("goBack")}
            </Button>
          </>
        )
      }
    >
      {query.isFetching ? <Busy label={say("looking")} /> : null}
      {query.error ? <Failure error={query.error} onRetry={() => void query.refetch()} /> : null}
      {outcome ? (
        <>
          {outcome.failed.length > 0 ? (
            <NotDone title={say("partly", { done: outcome.done, count })} items={outcome.failed} />
          ) : (
            <p role="status">{say("wentBackPartly", { name: project, revision })}</p>
          )}
          {outcome.leftOut.length > 0 ? <NotDone title={say("leftOut")} items={outcome.leftOut} /> : null}
        </>
      ) : way && !query.isFetching ? (
        <>
          <WayView way={way} />
          {way.leavings.length > 0 ? (
            <ConfirmName label={say("confirmName", { name: project })} typed={typed} onType={setTyped} />
          ) : null}
        </>
      ) : null}
      {done === null ? null : <p role="status">{say("progress", { done, count })}</p>}
    </Dialog>
  );
}

const keyOf = ({ kind, name }: Step) => `${kind.kind}/${name}`;

function WayView({ way }: { way: WayBack }) {
  const say = useWords(words);
  const { makings, leavings, followers } = way;
  const ofAction = (action: string) => makings.filter(({ item }) => item.action === action);
  const refused = ofAction("Refused");
  if (makings.length + leavings.length === 0) return <p>{say("nothingToDo")}</p>;
  const [made, changed] = [ofAction("Create"), ofAction("Update")];
  return (
    <>
      <p role="status" className="font-medium">
        {say("summary", { made: made.length, changed: changed.length, deleted: leavings.length })}
      </p>
      {way.refusal ? <Failure error={new Error(way.refusal)} /> : null}
      {leavings.map((leaving) => (
        <section key={keyOf(leaving)} className="flex flex-col gap-1">
          <h3 className="flex flex-wrap items-center gap-2 break-all font-medium">
            {`${leaving.kind.kind} ${leaving.name}`}
            <Badge tone="bad">{say("willGo")}</Badge>
          </h3>
          {leaving.owned.length > 0 ? <Losses title={say("takes")} groups={leaving.owned} /> : null}
          {leaving.users.length > 0 ? <Losses title={say("heldBy")} groups={leaving.users} /> : null}
        </section>
      ))}
      {[...changed, ...made].map((making) => (
        <PlanView key={keyOf(making)} item={making.item} />
      ))}
      {followers > 0 ? <p className="text-quiet">{say("followers", { count: followers })}</p> : null}
      {refused.length > 0 ? (
        <>
          <p className="font-medium">{say("refusedSome", { count: refused.length })}</p>
          {refused.map((making) => (
            <PlanView key={keyOf(making)} item={{ ...making.item, changes: [] }} />
          ))}
        </>
      ) : null}
    </>
  );
}

function NotDone({ title, items }: { title: string; items: Outcome["failed"] }) {
  return (
    <div role="alert" className="flex flex-col gap-1">
      <p className="font-medium">{title}</p>
      <ul className="list-disc pl-5">
        {items.map(({ step, message }) => (
          <li key={keyOf(step)} className="break-words">{`${step.kind.kind} ${step.name}: ${message}`}</li>
        ))}
      </ul>
    </div>
  );
}

/** The commands that do the same, one a line. */
function commandsOf({ makings, leavings }: WayBack, revision: string): string {
  const where = ({ project }: Step) => (project ? ["-p", project] : []);
  const named = (step: Step) => `${step.kind.singular}/${step.name}`;
  return [
    ...makings
      .filter(({ item }) => item.action !== "Refused")
      .map((making) => vcctl("rollback", named(making), "--to-revision", revision, ...where(making))),
    ...leavings.map((leaving) => vcctl("delete", named(leaving), ...where(leaving))),
  ].join("\n");
}
