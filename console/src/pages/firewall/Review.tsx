import { useEffect, useMemo, useState } from "react";
import { messageOf, writeObject } from "~/api/client";
import { objectPath } from "~/api/kinds";
import type { Resource } from "~/api/types";
import { Badge, type Tone } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { write } from "~/yaml/document";
import { clean, compare, type Difference, portsText, type Rule, rulesOf } from "./rules";
import { words } from "./words";

const TONES: Record<Difference["change"], Tone> = { added: "good", removed: "bad", changed: "info" };

/** Replaces the rules of the very object that was looked at; with `dryRun` only says what would come of it. */
async function replace(group: Resource, rules: readonly Rule[], dryRun: boolean): Promise<Resource> {
  const { metadata, apiVersion, kind, spec } = group;
  const path = objectPath("securitygroups", metadata.project, metadata.name);
  const query = { dryRun: dryRun ? "All" : undefined };
  return await writeObject<Resource>("PUT", path, {
    query,
    body: { apiVersion, kind, metadata, spec: { ...spec, rules: rules.map(clean) } },
  });
}

interface ReviewProps {
  group: Resource;
  rules: Rule[];
  onClose: () => void;
  onDone: () => void;
}

/** Shows what the API would make of it, then has it done. */
export function Review({ group, rules, onClose, onDone }: ReviewProps) {
  const say = useWords(words);
  const [planned, setPlanned] = useState<Difference[] | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [working, setWorking] = useState(false);
  const { name, project } = group.metadata;
  const before = useMemo(() => rulesOf(group), [group]);

  useEffect(() => {
    let over = false;
    replace(group, rules, true).then(
      (after) => {
        if (!over) setPlanned(compare(before, rulesOf(after)));
      },
      (failure) => {
        if (!over) setError(failure);
      },
    );
    return () => {
      over = true;
    };
  }, [group, rules, before]);

  const apply = async () => {
    setWorking(true);
    try {
      const after = await replace(group, rules, false);
      const undo = () =>
        void replace(after, before, false).then(
          () => toast("good", say("undone", { group: name })),
          (failure) => toast("bad", messageOf(failure)),
        );
      toast("good", say("applied", { group: name }), { label: say("undo"), run: undo });
      onDone();
    } catch (failure) {
      setError(failure);
      setWorking(false);
    }
  };
  const manifest = write({
    apiVersion: group.apiVersion,
    kind: group.kind,
    metadata: { project, name },
    spec: { rules: rules.map(clean) },
  });
  return (
    <Dialog
      open
      side
      onOpenChange={onClose}
      title={say("reviewTitle", { group: name })}
      description={say("live")}
      actions={
        <>
          <CopyButton command text={`vcctl apply -f - <<'EOF'\n${manifest}EOF`} />
          <Button onClick={onClose}>{say("back")}</Button>
          <Button look="primary" disabled={!planned || working || error !== null} onClick={() => void apply()}>
            {say("apply")}
          </Button>
        </>
      }
    >
      {error ? <Failure error={error} /> : planned ? null : <Busy label={say("checking")} />}
      <ul className="flex flex-col gap-2">
        {planned?.map(({ name: rule, change, before: was, after: is }) => (
          <li key={rule} className="flex flex-col gap-1 rounded-md border border-line p-2">
            <span className="flex items-center gap-2">
              <Badge tone={TONES[change]}>{say(change)}</Badge>
              <span className="break-all font-medium">{rule}</span>
            </span>
            {was ? <RuleText rule={was} gone /> : null}
            {is ? <RuleText rule={is} /> : null}
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function RuleText({ rule, gone }: { rule: Rule; gone?: boolean }) {
  const say = useWords(words);
  const protocol = rule.protocol === "Any" ? say("Any") : rule.protocol;
  const what = [protocol, portsText(rule), rule.icmpType ?? ""].filter((each) => each !== "").join(" ");
  const remote = rule.remoteSecurityGroup ? say("ofGroup", { name: rule.remoteSecurityGroup }) : rule.remoteCidr;
  const text = `${say(rule.direction)}: ${what}, ${remote ?? say("anywhere")}`;
  return gone ? <del className="text-quiet">{text}</del> : <span>{text}</span>;
}
