import { MonitorX } from "lucide-react";
import { Tabs } from "radix-ui";
import { type ReactNode, useState } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { collectionPath, listLink, objectPath, vcctl } from "~/api/kinds";
import { useLiveObject } from "~/api/lists";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { ReadyBadge } from "~/components/ReadyBadge";
import { useWords } from "~/i18n/language";
import { Log } from "./Log";
import { Overview } from "./Overview";
import { Power } from "./Power";
import { Screen } from "./Screen";
import { Terminal } from "./Terminal";
import type { Instance } from "./types";
import { words } from "./words";

const TABS = ["overview", "console", "screen", "log"] as const;
type Tab = (typeof TABS)[number];

/** One instance: how it is, and the ways in. */
export function Component() {
  const say = useWords(words);
  const { project = "", name = "" } = useParams();
  const { object, loading, gone, error } = useLiveObject<Instance>(collectionPath("instances", project), name);
  if (loading) return <Busy />;
  if (gone) {
    return (
      <EmptyState
        icon={<MonitorX aria-hidden />}
        title={say("goneTitle", { name })}
        actions={
          <Button asChild>
            <Link to={listLink("instances", project)}>{say("toList")}</Link>
          </Button>
        }
      >
        {say("goneText")}
      </EmptyState>
    );
  }
  if (error || !object) return <Failure error={error} />;
  // Another instance of the same name is another machine: nothing of the one before goes on.
  return <Page key={object.metadata.uid} instance={object} project={project} />;
}

function Page({ instance, project }: { instance: Instance; project: string }) {
  const say = useWords(words);
  const [query, setQuery] = useSearchParams();
  const asked = query.get("tab") as Tab | null;
  const tab: Tab = asked && TABS.includes(asked) ? asked : "overview";
  // What was opened once stays there while other tabs are looked at, and so do its connections.
  const [opened, setOpened] = useState<ReadonlySet<Tab>>(new Set([tab]));
  if (!opened.has(tab)) setOpened(new Set([...opened, tab]));
  const name = instance.metadata.name;
  const path = objectPath("instances", project, name);
  const contents: Record<Tab, ReactNode> = {
    overview: <Overview instance={instance} path={path} />,
    console: <Terminal path={path} stream="Console" shown={tab === "console"} />,
    screen: <Screen path={path} name={name} shown={tab === "screen"} />,
    log: <Log path={path} project={project} name={name} />,
  };
  return (
    <Tabs.Root
      value={tab}
      onValueChange={(next) => setQuery(next === "overview" ? {} : { tab: next }, { replace: true })}
      className="flex h-full min-h-0 flex-col gap-3 p-4"
    >
      <div className="flex flex-wrap items-center gap-x-3 gap-y-2">
        <h1 className="min-w-0 break-all font-semibold text-lg">{name}</h1>
        <span role="status">
          <ReadyBadge object={instance} />
        </span>
        <CopyButton command text={vcctl("get", `instance/${name}`, "-p", project)} />
        <span className="ml-auto">
          <Power instance={instance} project={project} />
        </span>
      </div>
      <Tabs.List aria-label={say("views")} className="flex gap-1 overflow-x-auto border-line border-b">
        {TABS.map((each) => (
          <Tabs.Trigger
            key={each}
            value={each}
            className="-mb-px cursor-pointer whitespace-nowrap border-transparent border-b-2 px-3 py-1.5 font-medium text-quiet hover:text-text data-[state=active]:border-accent data-[state=active]:text-text"
          >
            {say(each)}
          </Tabs.Trigger>
        ))}
      </Tabs.List>
      {TABS.map((each) => (
        <Tabs.Content key={each} value={each} forceMount hidden={each !== tab} className="min-h-0 flex-1">
          {opened.has(each) ? contents[each] : null}
        </Tabs.Content>
      ))}
    </Tabs.Root>
  );
}
