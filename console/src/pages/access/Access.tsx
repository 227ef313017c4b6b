import { Users } from "lucide-react";
import { Tabs } from "radix-ui";
import { type ReactNode, useMemo } from "react";
import { Link, useSearchParams } from "react-router";
import { listLink, objectLink, vcctl } from "~/api/kinds";
import { type LiveList, useLiveList } from "~/api/lists";
import type { Resource } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { CanI } from "./CanI";
import {
  type Binding,
  bindingOf,
  type Grant,
  grantsOf,
  groupsOf,
  type RoleRule,
  ruleText,
  subjectText,
} from "./grants";
import { words } from "./words";

const TABS = ["users", "groups", "roles", "bindings", "can"] as const;
type Tab = (typeof TABS)[number];
/** More than that are found by the field, not by scrolling; the kind's own list has them all. */
const MOST = 200;

/** Users, groups, roles and what was given to whom, on one page; and whether somebody may do something. */
export function Component() {
  const say = useWords(words);
  const [parameters, setParameters] = useSearchParams();
  const given = parameters.get("tab") as Tab;
  const tab = TABS.includes(given) ? given : "users";
  const text = parameters.get("q") ?? "";
  const set = (changes: Record<string, string>) =>
    setParameters(
      (before) => {
        const after = new URLSearchParams(before);
        for (const [name, value] of Object.entries(changes)) {
          if (value) after.set(name, value);
          else after.delete(name);
        }
        return after;
      },
      { replace: true },
    );
  return (
    <Tabs.Root
      value={tab}
      onValueChange={(value) => set({ tab: value, q: "" })}
      className="flex flex-col gap-3 p-3 sm:p-4"
    >
      <h1 className="font-semibold text-lg">{say("title")}</h1>
      <div className="flex flex-wrap items-center gap-2">
        <Tabs.List aria-label={say("parts")} className="flex flex-wrap gap-1">
          {TABS.map((each) => (
            <Tabs.Trigger
              key={each}
              value={each}
              className="cursor-pointer rounded-md px-3 py-1 hover:bg-raised data-[state=active]:bg-accent data-[state=active]:font-semibold data-[state=active]:text-on-accent"
            >
              {say(each)}
            </Tabs.Trigger>
          ))}
        </Tabs.List>
        {tab === "can" ? null : (
          <Input
            type="search"
            data-find
            aria-label={say("find")}
            placeholder={say("find")}
            className="ml-auto w-44"
            value={text}
            onChange={(event) => set({ q: event.target.value })}
          />
        )}
      </div>
      <Tabs.Content value={tab} className="flex flex-col gap-3 outline-none">
        {tab === "can" ? <CanI /> : <Lists tab={tab} text={text} />}
      </Tabs.Content>
    </Tabs.Root>
  );
}

function Lists({ tab, text }: { tab: Exclude<Tab, "can">; text: string }) {
  const users = useLiveList(tab === "users" ? "/api/v1/users" : null);
  const groups = useLiveList(tab === "users" || tab === "groups" ? "/api/v1/groups" : null);
  const roles = useLiveList(tab === "roles" ? "/api/v1/roles" : null);
  const bindingList = useLiveList("/api/v1/rolebindings");
  const bindings = useMemo(() => bindingList.items.map(bindingOf), [bindingList.items]);
  switch (tab) {
    case "users":
      return (
        <Part list={users} others={[groups, bindingList]} plural="users" text={text}>
          {(user) => <UserLine user={user} groups={groups.items} bindings={bindings} />}
        </Part>
      );
    case "groups":
      return (
        <Part list={groups} others={[bindingList]} plural="groups" text={text}>
          {(group) => <GroupLine group={group} bindings={bindings} />}
        </Part>
      );
    case "roles":
      return (
        <Part list={roles} others={[bindingList]} plural="roles" text={text}>
          {(role) => <RoleLine role={role} bindings={bindings} />}
        </Part>
      );
    case "bindings":
      return (
        <Part list={bindingList} others={[]} plural="rolebindings" text={text}>
          {(object) => <BindingLine object={object} />}
        </Part>
      );
  }
}

interface PartProps {
  list: LiveList;
  others: LiveList[];
  plural: string;
  text: string;
  children: (item: Resource) => ReactNode;
}

function Part({ list, others, plural, text, children }: PartProps) {
  const say = useWords(words);
  const wanted = text.trim().toLowerCase();
  const items = useMemo(
    () =>
      list.items
        .filter(
          (item) =>
            wanted === "" ||
            JSON.stringify([item.metadata.name, item.metadata.project, item.spec]).toLowerCase().includes(wanted),
        )
        .sort((a, b) => a.metadata.name.localeCompare(b.metadata.name)),
    [list.items, wanted],
  );
  const failed = [list, ...others].find((each) => each.error);
  return (
    <>
      {failed?.error ? <Failure error={failed.error} onRetry={failed.retry} /> : null}
      {list.loading ? <Busy /> : null}
      {list.complete && items.length === 0 ? (
        <EmptyState
          icon={<Users aria-hidden />}
          title={say("none")}
          actions={
            <>
              <Button asChild>
                <Link to={`${listLink(plural)}/_new`}>{say("make")}</Link>
              </Button>
              <CopyButton look="plain" command text={vcctl("explain", plural)} />
            </>
          }
        >
          {say("noneText")}
        </EmptyState>
      ) : (
        <p role="status" className="flex items-center gap-2 text-quiet">
          {say("shown", { count: Math.min(items.length, MOST) })}
          <CopyButton command text={vcctl("get", plural, ...(plural === "rolebindings" ? ["--all-projects"] : []))} />
        </p>
      )}
      <ul className="flex flex-col gap-2">
        {items.slice(0, MOST).map((item) => (
          <li key={item.metadata.uid} className="rounded-lg border border-line bg-surface p-3">
            {children(item)}
          </li>
        ))}
      </ul>
    </>
  );
}

const Name = ({ plural, object }: { plural: string; object: Resource }) => (
  <Link
    to={objectLink(plural, object.metadata.project, object.metadata.name)}
    className="break-all font-semibold text-accent underline"
  >
    {object.metadata.name}
  </Link>
);

function UserLine({ user, groups, bindings }: { user: Resource; groups: Resource[]; bindings: Binding[] }) {
  const say = useWords(words);
  const mine = groupsOf(user, groups);
  const status = user.status as { mfaEnrolled?: boolean; lastLoginAt?: string } | undefined;
  return (
    <div className="flex flex-col gap-1">
      <div className="flex flex-wrap items-center gap-2">
        <Name plural="users" object={user} />
        <span className="text-quiet">{String(user.spec?.displayName ?? "")}</span>
        {user.spec?.enabled === false ? <Badge tone="bad">{say("disabled")}</Badge> : null}
        <Badge tone={status?.mfaEnrolled ? "good" : "quiet"}>
          {say(status?.mfaEnrolled ? "secondFactor" : "noSecondFactor")}
        </Badge>
        <span className="ml-auto text-quiet text-xs">
          {status?.lastLoginAt ? (
            <>
              {say("lastLogin")} <Age of={status.lastLoginAt} />
            </>
          ) : (
            say("neverLoggedIn")
          )}
        </span>
      </div>
      {mine.length > 0 ? (
        <p className="break-words text-quiet">
          {say("groupsOf")} {mine.join(", ")}
        </p>
      ) : null}
      <Grants grants={grantsOf(user, mine, bindings)} />
    </div>
  );
}

function Grants({ grants }: { grants: Grant[] }) {
  const say = useWords(words);
  if (grants.length === 0) return <p className="text-quiet">{say("nothingGiven")}</p>;
  return (
    <ul className="flex flex-wrap gap-x-4 gap-y-1">
      {grants.map((grant) => (
        <li key={grant.object.metadata.uid}>
          <Badge tone="info">{grant.role}</Badge> <Where binding={grant} />
          {grant.through ? <span className="text-quiet"> {say("through", { group: grant.through })}</span> : null}
        </li>
      ))}
    </ul>
  );
}

function Where({ binding }: { binding: Binding }) {
  const say = useWords(words);
  const { project, domain, expiresAt } = binding;
  const where = project ? say("inProject", { project }) : domain ? say("inDomain", { domain }) : say("everywhere");
  return (
    <span>
      {where}
      {expiresAt ? <span className="text-quiet"> {say("expires", { time: expiresAt })}</span> : null}
    </span>
  );
}

function GroupLine({ group, bindings }: { group: Resource; bindings: Binding[] }) {
  const say = useWords(words);
  const members = (group.spec?.members ?? []) as string[];
  const grants = bindings
    .filter(({ subject }) => subject.kind === "Group" && subject.name === group.metadata.name)
    .map((binding) => ({ ...binding, through: null }));
  return (
    <div className="flex flex-col gap-1">
      <div className="flex flex-wrap items-center gap-2">
        <Name plural="groups" object={group} />
        <span className="text-quiet">{say("members", { count: members.length })}</span>
      </div>
      {members.length > 0 ? <p className="line-clamp-2 break-words text-quiet">{members.join(", ")}</p> : null}
      <Grants grants={grants} />
    </div>
  );
}

function RoleLine({ role, bindings }: { role: Resource; bindings: Binding[] }) {
  const say = useWords(words);
  const rules = (role.spec?.rules ?? []) as unknown as RoleRule[];
  const given = bindings.filter((binding) => binding.role === role.metadata.name).length;
  return (
    <div className="flex flex-col gap-1">
      <div className="flex flex-wrap items-center gap-2">
        <Name plural="roles" object={role} />
        {role.metadata.labels?.["vcstack.io/built-in"] ? <Badge>{say("builtIn")}</Badge> : null}
        <span className="text-quiet">{say("given", { count: given })}</span>
      </div>
      <p className="text-quiet">{String(role.spec?.description ?? "")}</p>
      <details>
        <summary className="cursor-pointer">{say("rules", { count: rules.length })}</summary>
        <ul className="mt-1 flex flex-col gap-1 font-mono text-xs">
          {rules.map((rule) => (
            <li key={ruleText(rule)} className="break-words">
              {ruleText(rule)}
            </li>
          ))}
        </ul>
      </details>
    </div>
  );
}

function BindingLine({ object }: { object: Resource }) {
  const binding = bindingOf(object);
  return (
    <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
      <Name plural="rolebindings" object={object} />
      <span className="break-all">{subjectText(binding.subject)}</span>
      <Badge tone="info">{binding.role}</Badge>
      <Where binding={binding} />
    </div>
  );
}
