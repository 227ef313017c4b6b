import { Plus, ShieldHalf, TriangleAlert } from "lucide-react";
import { useMemo, useState } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { collectionPath, objectLink } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import type { Resource } from "~/api/types";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { classes } from "~/components/classes";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { INPUT } from "~/components/Field";
import { Menu, MenuItem } from "~/components/Menu";
import { ReadyBadge } from "~/components/ReadyBadge";
import { useWords } from "~/i18n/language";
import { Review } from "./Review";
import { RuleRow } from "./RuleRow";
import { addPreset, compare, PRESETS, type Preset, type Rule, rulesOf } from "./rules";
import { words } from "./words";

/** A project's security groups, one at a time, as a table of rules. */
export function Component() {
  const say = useWords(words);
  const { project = "" } = useParams();
  const [parameters, setParameters] = useSearchParams();
  const list = useLiveList(collectionPath("securitygroups", project));
  const groups = useMemo(
    () => [...list.items].sort((a, b) => a.metadata.name.localeCompare(b.metadata.name)),
    [list.items],
  );
  const wanted = parameters.get("group") ?? "default";
  const group = groups.find(({ metadata }) => metadata.name === wanted) ?? groups[0];
  return (
    <div className="flex flex-col gap-3 p-3 sm:p-4">
      <div className="flex flex-wrap items-center gap-2">
        <h1 className="mr-auto font-semibold text-lg">{say("title", { project })}</h1>
        {group ? (
          <select
            aria-label={say("group")}
            className={classes(INPUT, "w-auto max-w-full")}
            value={group.metadata.name}
            onChange={(event) => setParameters({ group: event.target.value })}
          >
            {groups.map(({ metadata: { name } }) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        ) : null}
      </div>
      {list.error ? <Failure error={list.error} onRetry={list.retry} /> : null}
      {list.loading ? <Busy /> : null}
      {list.complete && !group ? (
        <EmptyState icon={<ShieldHalf aria-hidden />} title={say("none")}>
          {say("noneText")}
        </EmptyState>
      ) : null}
      {group ? (
        <Editor key={group.metadata.uid} group={group} others={groups.map(({ metadata }) => metadata.name)} />
      ) : null}
    </div>
  );
}

function Editor({ group, others }: { group: Resource; others: string[] }) {
  const say = useWords(words);
  const { name, project } = group.metadata;
  const [draft, setDraft] = useState<{ rules: Rule[]; from: Resource } | null>(null);
  const [reviewing, setReviewing] = useState(false);
  const [wrong, setWrong] = useState<ReadonlySet<number>>(new Set());
  const rules = draft?.rules ?? rulesOf(group);
  const differences = draft ? compare(rulesOf(draft.from), draft.rules) : [];
  const outdated = draft !== null && draft.from.metadata.generation !== group.metadata.generation;
  const twice = rules.map((rule) => rule.name).find((each, index, all) => all.indexOf(each) !== index);
  const change = (next: Rule[]) => setDraft({ rules: next, from: draft?.from ?? group });
  const discard = () => {
    setDraft(null);
    setWrong(new Set());
  };
  const mark = (index: number, isWrong: boolean) => {
    const next = new Set(wrong);
    if (isWrong) next.add(index);
    else next.delete(index);
    setWrong(next);
  };
  const status = group.status as { ruleCount?: number; portCount?: number } | undefined;
  return (
    <>
      <p className="text-quiet">{say("text")}</p>
      <div className="flex flex-wrap items-center gap-2">
        <Link to={objectLink("securitygroups", project, name)} className="font-semibold text-accent underline">
          {name}
        </Link>
        <ReadyBadge object={group} />
        <span className="mr-auto text-quiet text-xs">
          {say("facts", { rules: rulesOf(group).length, ports: status?.portCount ?? 0 })}
        </span>
        <Menu
          trigger={
            <Button>
              <Plus aria-hidden />
              {say("add")}
            </Button>
          }
        >
          {(Object.keys(PRESETS) as Preset[]).map((preset) => (
            <MenuItem key={preset} onSelect={() => change(addPreset(rules, preset, name))}>
              {say(`preset.${preset}`)}
            </MenuItem>
          ))}
        </Menu>
      </div>
      {outdated ? (
        <div role="alert" className="flex flex-wrap items-center gap-2 rounded-md bg-warn-ground p-3 text-warn">
          <TriangleAlert aria-hidden className="size-4 shrink-0" />
          <span className="flex-1">{say("outdated")}</span>
          <Button onClick={discard}>{say("again")}</Button>
        </div>
      ) : null}
      {rules.length === 0 ? (
        <p className="rounded-lg border border-line bg-surface p-4 text-quiet">{say("noRules")}</p>
      ) : (
        <ul aria-label={say("rules")} className="flex flex-col gap-2">
          {rules.map((rule, index) => (
            <RuleRow
              // biome-ignore lint/suspicious/noArrayIndexKey: a rule that is renamed stays the same row
              key={index}
              rule={rule}
              groups={others}
              onWrong={(isWrong) => mark(index, isWrong)}
              onChange={(next) => change(rules.map((each, i) => (i === index ? next : each)))}
              onRemove={() => {
                change(rules.filter((_, i) => i !== index));
                setWrong(new Set());
              }}
            />
          ))}
        </ul>
      )}
      {twice ? (
        <p role="alert" className="text-bad">
          {say("duplicate", { name: twice })}
        </p>
      ) : null}
      {draft ? (
        <div className="sticky bottom-0 flex flex-wrap items-center justify-end gap-2 border-line border-t bg-ground py-3">
          <span role="status" className="mr-auto text-quiet">
            {differences.length > 0 ? say("unsaved", { count: differences.length }) : say("nothing")}
          </span>
          <Button onClick={discard}>{say("discard")}</Button>
          <Button
            look="primary"
            disabled={differences.length === 0 || outdated || wrong.size > 0 || twice !== undefined}
            onClick={() => setReviewing(true)}
          >
            {say("review")}
          </Button>
        </div>
      ) : null}
      {reviewing && draft ? (
        <Review
          group={draft.from}
          rules={draft.rules}
          onClose={() => setReviewing(false)}
          onDone={() => {
            setReviewing(false);
            setDraft(null);
          }}
        />
      ) : null}
    </>
  );
}
