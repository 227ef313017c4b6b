import { CircleCheck, Rocket } from "lucide-react";
import { useMemo } from "react";
import { Link } from "react-router";
import { collectionPath, launchLink, listLink, objectLink, useKinds, vcctl } from "~/api/kinds";
import { type LiveList, useLiveList } from "~/api/lists";
import { useMe } from "~/api/me";
import type { Resource } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { Card } from "~/components/Card";
import { CopyButton } from "~/components/CopyButton";
import { Failure } from "~/components/Failure";
import { Meter } from "~/components/Meter";
import { ReadyBadge } from "~/components/ReadyBadge";
import { useWords } from "~/i18n/language";
import { useProject } from "~/layout/scope";
import { ProjectLimits } from "~/pages/usage/Limits";
import { amountText } from "./amounts";
import {
  capacityOf,
  countHealth,
  type Health,
  inMotion,
  newestEvents,
  RESOURCES,
  readyOf,
  specOf,
  topTakers,
} from "./facts";
import { words } from "./words";

/** What people look at: the rest is made of these, or has a page of its own. */
const LOOKED_AT = ["instances", "networks", "subnets", "ports", "securitygroups", "images"] as const;
const TONES: Record<Health, "good" | "warn" | "bad" | "info"> = {
  ready: "good",
  waiting: "info",
  failed: "bad",
  deleting: "warn",
};

/** The start: how the cloud, or a project, is right now. */
export function Component() {
  const say = useWords(words);
  const me = useMe();
  const chosen = useProject();
  if (!me) return <Busy />;
  const project = chosen ?? (me.allProjects ? null : (me.projects[0] ?? null));
  return (
    <div className="flex flex-col gap-4 p-3 sm:p-4">
      <div className="flex flex-wrap items-center justify-between gap-2">
        <h1 className="font-semibold text-lg">{project ? say("titleOf", { project }) : say("title")}</h1>
        <Button asChild look="primary">
          <Link to={launchLink(project)}>
            <Rocket aria-hidden />
            {say("launch")}
          </Link>
        </Button>
      </div>
      {me.notice ? <p className="rounded-md bg-info-ground p-3 text-info">{me.notice}</p> : null}
      <Parts key={project ?? ""} project={project} operator={me.allProjects} />
    </div>
  );
}

function Parts({ project, operator }: { project: string | null; operator: boolean }) {
  const lists = {
    instances: useLiveList(collectionPath("instances", project)),
    networks: useLiveList(collectionPath("networks", project)),
    subnets: useLiveList(collectionPath("subnets", project)),
    ports: useLiveList(collectionPath("ports", project)),
    securitygroups: useLiveList(collectionPath("securitygroups", project)),
    images: useLiveList(collectionPath("images", project)),
  };
  const hosts = useLiveList(operator ? "/api/v1/hosts" : null);
  const objects = useMemo(
    () => [
      ...lists.instances.items,
      ...lists.networks.items,
      ...lists.subnets.items,
      ...lists.ports.items,
      ...lists.securitygroups.items,
      ...lists.images.items,
      ...hosts.items,
    ],
    [
      lists.instances.items,
      lists.networks.items,
      lists.subnets.items,
      lists.ports.items,
      lists.securitygroups.items,
      lists.images.items,
      hosts.items,
    ],
  );
  const error = Object.values(lists).find((list) => list.error)?.error ?? hosts.error;
  return (
    <>
      {error ? <Failure error={error} /> : null}
      <div className="grid gap-4 lg:grid-cols-2">
        {operator ? <Capacity hosts={hosts} /> : null}
        {project ? <Limits project={project} /> : null}
        <HealthCard lists={lists} project={project} />
        <Takers instances={lists.instances} project={project} />
        <Motion objects={objects} />
        <Events project={project} />
      </div>
    </>
  );
}

function Capacity({ hosts }: { hosts: LiveList }) {
  const say = useWords(words);
  const { allocatable, allocated } = useMemo(() => capacityOf(hosts.items), [hosts.items]);
  return (
    <Card
      title={say("capacity")}
      aside={
        <Link to="/placement" className="text-accent underline">
          {say("hostsLink")}
        </Link>
      }
    >
      {hosts.loading ? (
        <Busy />
      ) : allocatable.vcpus === 0 ? (
        <p className="text-quiet">
          {say("noHosts")} <code className="font-mono text-text">{"vc-management join-token"}</code>
        </p>
      ) : (
        RESOURCES.map((name) => (
          <Meter
            key={name}
            name={say(name)}
            label={say(name)}
            used={allocated[name]}
            of={allocatable[name]}
            text={say("usedOf", { used: amountText(name, allocated[name]), of: amountText(name, allocatable[name]) })}
          />
        ))
      )}
    </Card>
  );
}

function Limits({ project }: { project: string }) {
  const say = useWords(words);
  return (
    <Card
      title={say("quotas")}
      aside={
        <Link to={`/projects/${encodeURIComponent(project)}/usage`} className="text-accent underline">
          {say("quotasLink")}
        </Link>
      }
    >
      <ProjectLimits project={project} most={5} empty={say("noQuotas")} />
    </Card>
  );
}

function HealthCard({
  lists,
  project,
}: {
  lists: Record<(typeof LOOKED_AT)[number], LiveList>;
  project: string | null;
}) {
  const say = useWords(words);
  const kinds = useKinds();
  return (
    <Card title={say("health")}>
      <ul className="grid gap-x-4 gap-y-2 sm:grid-cols-2">
        {LOOKED_AT.map((plural) => {
          const { items, loading } = lists[plural];
          const counts = countHealth(items);
          const kind = kinds.find((each) => each.plural === plural)?.kind ?? plural;
          return (
            <li key={plural}>
              <Link
                to={listLink(plural, project)}
                className="flex flex-wrap items-center gap-x-2 gap-y-1 rounded-md px-2 py-1 hover:bg-raised"
              >
                <span className="min-w-28 flex-1 font-medium">{kind}</span>
                {(Object.keys(TONES) as Health[])
                  .filter((health) => counts[health] > 0)
                  .map((health) => (
                    <span key={health} title={say(health)}>
                      <Badge tone={TONES[health]}>
                        {counts[health]}
                        {health === "ready" ? "" : ` ${say(health)}`}
                      </Badge>
                    </span>
                  ))}
                <span className="sr-only">{say("healthOf", { kind, total: items.length, failed: counts.failed })}</span>
                {items.length === 0 && !loading ? <span className="text-quiet">{say("none")}</span> : null}
              </Link>
            </li>
          );
        })}
      </ul>
    </Card>
  );
}

const SHOWN = 8;

function Motion({ objects }: { objects: Resource[] }) {
  const say = useWords(words);
  const kinds = useKinds();
  const moving = useMemo(() => inMotion(objects, SHOWN), [objects]);
  return (
    <Card title={say("motion")}>
      {moving.length === 0 ? (
        <p className="flex items-center gap-2 text-good">
          <CircleCheck aria-hidden className="size-4 shrink-0" />
          {say("still")}
        </p>
      ) : (
        <ul className="flex flex-col gap-2">
          {moving.map((object) => (
            <li key={object.metadata.uid} className="flex flex-col">
              <span className="flex flex-wrap items-center gap-x-2">
                <span className="text-quiet">{object.kind}</span>
                <ObjectLink object={object} kinds={kinds} />
                <ReadyBadge object={object} />
              </span>
              <span className="line-clamp-2 break-words text-quiet text-xs">{readyOf(object)?.message}</span>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}

function ObjectLink({ object, kinds }: { object: Resource; kinds: ReturnType<typeof useKinds> }) {
  const { name, project } = object.metadata;
  const plural = kinds.find(({ kind }) => kind === object.kind)?.plural;
  const text = project ? `${project}/${name}` : name;
  if (!plural) return <span className="break-all font-medium">{text}</span>;
  return (
    <Link to={objectLink(plural, project, name)} className="break-all font-medium text-accent underline">
      {text}
    </Link>
  );
}

function Events({ project }: { project: string | null }) {
  const say = useWords(words);
  const list = useLiveList(collectionPath("events", project));
  const events = useMemo(() => newestEvents(list.items, SHOWN), [list.items]);
  return (
    <Card title={say("events")}>
      {list.error ? <Failure error={list.error} onRetry={list.retry} /> : null}
      {list.loading ? <Busy /> : null}
      {!list.loading && !list.error && events.length === 0 ? <p className="text-quiet">{say("noEvents")}</p> : null}
      <ul className="flex flex-col gap-2">
        {events.map((event) => {
          const spec = specOf(event);
          return (
            <li key={event.metadata.uid} className="flex flex-col">
              <span className="flex flex-wrap items-center gap-x-2">
                <Badge tone={spec.type === "Warning" ? "warn" : "info"}>{spec.reason}</Badge>
                <span className="break-all font-medium">
                  {spec.regarding.kind} {spec.regarding.name}
                </span>
                <span className="ml-auto text-quiet text-xs">
                  <Age of={spec.lastTime} />
                </span>
              </span>
              <span className="line-clamp-2 break-words text-quiet text-xs">{spec.message}</span>
            </li>
          );
        })}
      </ul>
    </Card>
  );
}

function Takers({ instances, project }: { instances: LiveList; project: string | null }) {
  const say = useWords(words);
  const takers = useMemo(() => topTakers(instances.items, project, 5), [instances.items, project]);
  const most = takers[0]?.amounts.memoryMiB ?? 0;
  const command = vcctl("get", "instances", ...(project ? ["--project", project] : ["--all-projects"]));
  return (
    <Card
      title={say(project === null ? "takersProjects" : "takersInstances")}
      aside={<CopyButton command text={command} />}
    >
      {instances.loading ? <Busy /> : null}
      {takers.length === 0 && !instances.loading ? <p className="text-quiet">{say("noTakers")}</p> : null}
      <ul className="flex flex-col gap-2">
        {takers.map(({ name, instances: count, amounts }) => (
          <li key={name}>
            <Link
              to={project === null ? listLink("instances", name) : objectLink("instances", project, name)}
              className="flex items-center gap-3 rounded-md px-2 py-1 hover:bg-raised"
            >
              <span className="w-32 min-w-0 shrink-0 truncate font-medium sm:w-40">{name}</span>
              <span aria-hidden className="hidden h-2 flex-1 overflow-hidden rounded-full bg-raised sm:block">
                <span
                  className="block h-full rounded-full bg-accent"
                  style={{ width: `${most > 0 ? (amounts.memoryMiB / most) * 100 : 0}%` }}
                />
              </span>
              <span className="ml-auto shrink-0 text-quiet text-xs tabular-nums">
                {[
                  ...(project === null ? [say("instances", { count })] : []),
                  `${amounts.vcpus} vCPU`,
                  amountText("memoryMiB", amounts.memoryMiB),
                ].join(", ")}
              </span>
            </Link>
          </li>
        ))}
      </ul>
    </Card>
  );
}
