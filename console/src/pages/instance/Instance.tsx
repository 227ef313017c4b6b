import { MonitorX } from "lucide-react";
import { Tabs } from "radix-ui";
import { type ReactNode, useState } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { collectionPath, listLink, objectLink, objectPath, useKind, vcctl } from "~/api/kinds";
import { useLiveObject } from "~/api/lists";
import { useMay } from "~/api/rights";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { ReadyBadge } from "~/components/ReadyBadge";
import { TabList } from "~/components/TabList";
import { useWords } from "~/i18n/language";
import { ChangeLinks } from "~/pages/object/ChangeLinks";
import { Deleting } from "~/pages/object/Delete";
import { Events } from "~/pages/object/Events";
import { History } from "~/pages/object/History";
import { Related } from "~/pages/object/Related";
import { Why } from "~/pages/object/Why";
import { Yaml } from "~/pages/object/Yaml";
import { Recordings } from "~/pages/recordings/Recordings";
import { Log } from "./Log";
import { Overview } from "./Overview";
import { Power } from "./Power";
import { Screen } from "./Screen";
import { Shell } from "./Shell";
import { Terminal } from "./Terminal";
import type { Instance } from "./types";
import { words } from "./words";

const TABS = [
  "overview",
  "shell",
  "console",
  "screen",
  "log",
  "related",
  "events",
  "yaml",
  "history",
  "recordings",
] as const;
/** What was opened stays while other tabs are looked at, and so do its connections. */
const KEPT: readonly Tab[] = ["overview", "shell", "console", "screen", "log"];
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
          <>
            <Button asChild>
              <Link to={listLink("instances", project)}>{say("toList")}</Link>
            </Button>
            <Button asChild>
              <Link to={`${objectLink("instances", project, name)}/timeline`}>{say("bringBack")}</Link>
            </Button>
          </>
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
  const name = instance.metadata.name;
  const mayReplay = useMay({ verb: "get", kind: "Instance", subresource: "recordings", project, name });
  const tabs = TABS.filter((each) => each !== "recordings" || mayReplay || (mayReplay === undefined && each === asked));
  const tab: Tab = asked && tabs.includes(asked) ? asked : "overview";
  const [opened, setOpened] = useState<ReadonlySet<Tab>>(new Set([tab]));
  if (!opened.has(tab)) setOpened(new Set([...opened, tab]));
  const kind = useKind("instances");
  const path = objectPath("instances", project, name);
  const power = instance.status?.powerState;
  const deleting = Boolean(instance.metadata.deletionTimestamp);
  const contents: Record<Tab, ReactNode> = {
    overview: (
      <Overview instance={instance} path={path}>
        {kind ? <Why kind={kind} object={instance} /> : null}
      </Overview>
    ),
    shell: <Shell path={path} project={project} name={name} shown={tab === "shell"} />,
    console: <Terminal path={path} shown={tab === "console"} />,
    screen: <Screen path={path} project={project} name={name} shown={tab === "screen"} />,
    log: <Log path={path} project={project} name={name} />,
    related: kind ? <Related kind={kind} object={instance} /> : <Busy />,
    events: <Events object={instance} />,
    yaml: <Yaml object={instance} />,
    history: kind ? <History kind={kind} object={instance} /> : <Busy />,
    recordings: !mayReplay ? <Busy /> : <Recordings project={project} path={`${path}/recordings`} instance={name} />,
  };
  return (
    <Tabs.Root
      value={tab}
      onValueChange={(next) => setQuery(next === "overview" ? {} : { tab: next }, { replace: true })}
      className="flex h-full min-h-0 flex-col gap-3 p-4"
    >
      <div className="flex flex-wrap items-center gap-x-3 gap-y-2">
        <h1 className="min-w-0 break-all font-semibold text-lg">{name}</h1>
        <span role="status" className="flex gap-1">
          <ReadyBadge object={instance} />
          {power && power !== "Running" ? <Badge>{power}</Badge> : null}
        </span>
        <CopyButton command text={vcctl("get", `instance/${name}`, "-p", project)} />
        <span className="ml-auto flex flex-wrap items-center gap-2">
          <ChangeLinks link={objectLink("instances", project, name)} writable={!deleting} />
          <Power instance={instance} project={project} />
        </span>
      </div>
      {deleting ? <Deleting object={instance} /> : null}
      <TabList label={say("views")} tabs={tabs} active={tab} say={say} />
      {tabs.map((each) => (
        <Tabs.Content key={each} value={each} forceMount hidden={each !== tab} className="min-h-0 flex-1">
          {each === tab || (KEPT.includes(each) && opened.has(each)) ? contents[each] : null}
        </Tabs.Content>
      ))}
    </Tabs.Root>
  );
}
