import { Trash2 } from "lucide-react";
import { useEffect, useState } from "react";
import { Badge } from "~/components/Badge";
import { Button } from "~/components/Button";
import { classes } from "~/components/classes";
import { INPUT, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { DIRECTIONS, hasPorts, isWide, PROTOCOLS, parsePorts, portsText, type Rule } from "./rules";
import { words } from "./words";

interface RuleRowProps {
  rule: Rule;
  /** All groups of the project. */
  groups: string[];
  onChange: (rule: Rule) => void;
  onRemove: () => void;
  onWrong: (wrong: boolean) => void;
}

const ANYWHERE = "";
const ADDRESSES = "/addresses";

/** One rule, each field to be changed in place. */
export function RuleRow({ rule, groups, onChange, onRemove, onWrong }: RuleRowProps) {
  const say = useWords(words);
  const named = (field: string) => say("fieldOf", { field, name: rule.name });
  const change = (changes: Partial<Rule>) => onChange({ ...rule, ...changes });
  const remote = rule.remoteSecurityGroup || (typeof rule.remoteCidr === "string" ? ADDRESSES : ANYWHERE);
  const column = "min-w-0 flex-none";
  return (
    <li className="flex flex-wrap items-center gap-2 rounded-lg border border-line bg-surface p-2">
      <Input
        aria-label={named(say("name"))}
        className={classes(column, "w-36")}
        value={rule.name}
        maxLength={63}
        onChange={(event) => change({ name: event.target.value })}
      />
      <select
        aria-label={named(say("direction"))}
        className={classes(INPUT, column, "w-20")}
        value={rule.direction}
        onChange={(event) => change({ direction: event.target.value as Rule["direction"] })}
      >
        {DIRECTIONS.map((each) => (
          <option key={each} value={each}>
            {say(each)}
          </option>
        ))}
      </select>
      <select
        aria-label={named(say("protocol"))}
        className={classes(INPUT, column, "w-28")}
        value={rule.protocol}
        onChange={(event) => change({ protocol: event.target.value as Rule["protocol"] })}
      >
        {PROTOCOLS.map((each) => (
          <option key={each} value={each}>
            {each === "Any" ? say("Any") : each}
          </option>
        ))}
      </select>
      {hasPorts(rule) ? <Ports rule={rule} label={named(say("ports"))} onChange={change} onWrong={onWrong} /> : null}
      {rule.protocol.startsWith("ICMP") ? (
        <Input
          type="number"
          min={0}
          max={255}
          aria-label={named(say("icmpType"))}
          placeholder={say("icmpType")}
          className={classes(column, "w-28")}
          value={rule.icmpType ?? ""}
          onChange={(event) => change({ icmpType: event.target.value === "" ? null : Number(event.target.value) })}
        />
      ) : null}
      <select
        aria-label={named(say("remote"))}
        className={classes(INPUT, column, "w-40")}
        value={remote}
        onChange={({ target: { value } }) =>
          change(
            value === ANYWHERE
              ? { remoteCidr: null, remoteSecurityGroup: null }
              : value === ADDRESSES
                ? { remoteCidr: rule.remoteCidr ?? "", remoteSecurityGroup: null }
                : { remoteCidr: null, remoteSecurityGroup: value },
          )
        }
      >
        <option value={ANYWHERE}>{say("anywhere")}</option>
        <option value={ADDRESSES}>{say("network")}</option>
        {[...new Set([...groups, ...(rule.remoteSecurityGroup ? [rule.remoteSecurityGroup] : [])])].map((name) => (
          <option key={name} value={name}>
            {say("ofGroup", { name })}
          </option>
        ))}
      </select>
      {remote === ADDRESSES ? (
        <Input
          aria-label={named(say("cidr"))}
          placeholder={"192.0.2.0/24"}
          className={classes(column, "w-44 font-mono")}
          value={rule.remoteCidr ?? ""}
          onChange={(event) => change({ remoteCidr: event.target.value })}
        />
      ) : null}
      {isWide(rule) ? <Badge tone="warn">{say("wide")}</Badge> : null}
      <Button look="quiet" icon className="ml-auto" aria-label={say("remove", { name: rule.name })} onClick={onRemove}>
        <Trash2 aria-hidden />
      </Button>
    </li>
  );
}

interface PortsProps {
  rule: Rule;
  label: string;
  onChange: (changes: Partial<Rule>) => void;
  onWrong: (wrong: boolean) => void;
}

function Ports({ rule, label, onChange, onWrong }: PortsProps) {
  const say = useWords(words);
  const known = portsText(rule);
  const [text, setText] = useState(known);
  const wrong = parsePorts(text) === null;
  useEffect(() => {
    // What was typed means the same, or the rule is another now.
    setText((before) => {
      const parsed = parsePorts(before);
      return parsed && portsText({ ...rule, ...parsed }) === portsText(rule) ? before : portsText(rule);
    });
  }, [rule]);
  return (
    <Input
      aria-label={label}
      aria-invalid={wrong || undefined}
      title={say(wrong ? "portsWrong" : "portsHelp")}
      placeholder={say("ports")}
      className="w-28 min-w-0 flex-none"
      value={text}
      onChange={(event) => {
        setText(event.target.value);
        const parsed = parsePorts(event.target.value);
        onWrong(parsed === null);
        if (parsed) onChange(parsed);
      }}
    />
  );
}
