import { ServerOff } from "lucide-react";
import { useMemo } from "react";
import { Link, useSearchParams } from "react-router";
import { messageOf, writeObject } from "~/api/client";
import { objectLink, objectPath, vcctl } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import type { Resource } from "~/api/types";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { Card } from "~/components/Card";
import { CopyButton } from "~/components/CopyButton";
import { classes } from "~/components/classes";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { INPUT } from "~/components/Field";
import { Meter } from "~/components/Meter";
import { ReadyBadge } from "~/components/ReadyBadge";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { amountText } from "~/pages/dashboard/amounts";
import { type Health, healthOf, RESOURCES, readyOf } from "~/pages/dashboard/facts";
import { type Load, loadOf, SORTS, type Sort, sortLoads } from "./placement";
import { words } from "./words";

/** Hosts with what they carry, and where instances are. */
export function Component() {
  const say = useWords(words);
  const [parameters, setParameters] = useSearchParams();
  const given = parameters.get("sort") as Sort;
  const sort = SORTS.includes(given) ? given : "name";
  const hosts = useLiveList("/api/v1/hosts");
  const instances = useLiveList("/api/v1/instances");
  const { loads, unplaced } = useMemo(() => loadOf(hosts.items, instances.items), [hosts.items, instances.items]);
  const sorted = useMemo(() => sortLoads(loads, sort), [loads, sort]);
  const error = hosts.error ?? instances.error;
  return (
    <div className="flex flex-col gap-4 p-3 sm:p-4">
      <div className="flex flex-wrap items-center gap-2">
        <h1 className="mr-auto font-semibold text-lg">{say("title")}</h1>
        <CopyButton command text={vcctl("get", "hosts", "-o", "wide")} />
        <select
          aria-label={say("sort")}
          className={classes(INPUT, "w-auto")}
          value={sort}
          onChange={(event) => setParameters({ sort: event.target.value }, { replace: true })}
        >
          {SORTS.map((each) => (
            <option key={each} value={each}>
              {say(`sort.${each}`)}
            </option>
          ))}
        </select>
      </div>
      <p className="text-quiet">{say("text")}</p>
      {error ? <Failure error={error} onRetry={hosts.error ? hosts.retry : instances.retry} /> : null}
      {hosts.loading ? <Busy /> : null}
      {hosts.complete && loads.length === 0 ? (
        <EmptyState
          icon={<ServerOff aria-hidden />}
          title={say("noneTitle")}
          actions={<CopyButton look="plain" command text="vc-management join-token --config FILE HOST" />}
        >
          {say("noneText")}
        </EmptyState>
      ) : null}
      {unplaced.length > 0 ? (
        <Card
          title={say("unplaced")}
          aside={<span className="text-quiet">{say("instances", { count: unplaced.length })}</span>}
        >
          <Squares instances={unplaced} label={say("unplaced")} />
        </Card>
      ) : null}
      <ul className="grid gap-4 md:grid-cols-2 2xl:grid-cols-3">
        {sorted.map((load) => (
          <li key={load.host.metadata.uid}>
            <HostCard load={load} />
          </li>
        ))}
      </ul>
    </div>
  );
}

const schedule = (name: string, scheduling: "Enabled" | "Disabled") =>
  writeObject("PATCH", objectPath("hosts", null, name), {
    body: { spec: { scheduling } },
    contentType: "application/merge-patch+json",
  });

function HostCard({ load }: { load: Load }) {
  const say = useWords(words);
  const { host, cordoned, allocatable, allocated, instances } = load;
  const { name } = host.metadata;
  const zone = host.spec?.zone;
  const change = (to: "Enabled" | "Disabled", undoable: boolean): void =>
    void schedule(name, to).then(
      () =>
        toast(
          "good",
          say(to === "Disabled" ? "cordonDone" : "uncordonDone", { host: name }),
          undoable
            ? { label: say("undo"), run: () => change(to === "Disabled" ? "Enabled" : "Disabled", false) }
            : undefined,
        ),
      (error) => toast("bad", messageOf(error)),
    );
  return (
    <Card
      className="h-full"
      title={
        <Link to={objectLink("hosts", null, name)} className="text-accent underline">
          {name}
        </Link>
      }
      aside={
        <span className="flex flex-wrap items-center gap-2">
          {zone ? <span className="text-quiet text-xs">{say("zone", { zone: String(zone) })}</span> : null}
          {cordoned ? <Badge tone="warn">{say("cordoned")}</Badge> : null}
          <ReadyBadge object={host} />
        </span>
      }
    >
      {load.ready ? null : <p className="break-words text-quiet text-xs">{readyOf(host)?.message}</p>}
      {RESOURCES.map((what) => (
        <Meter
          key={what}
          name={say("meter", { what: say(what), host: name })}
          label={say(what)}
          used={allocated[what]}
          of={allocatable[what]}
          text={say("usedOf", { used: amountText(what, allocated[what]), of: amountText(what, allocatable[what]) })}
        />
      ))}
      <Squares instances={instances} label={say("instancesOf", { host: name })} />
      <div className="mt-auto flex flex-wrap items-center gap-2">
        <span className="mr-auto text-quiet text-xs">{say("instances", { count: instances.length })}</span>
        <CopyButton command text={vcctl(cordoned ? "uncordon" : "cordon", name)} />
        <Button onClick={() => change(cordoned ? "Enabled" : "Disabled", true)}>
          {say(cordoned ? "uncordon" : "cordon")}
        </Button>
      </div>
    </Card>
  );
}

const COLOURS: Record<Health, string> = {
  ready: "bg-good",
  waiting: "bg-info",
  failed: "bg-bad",
  deleting: "bg-warn",
};
const SHOWN = 120;

/** A square for each instance, to be clicked. */
function Squares({ instances, label }: { instances: Resource[]; label: string }) {
  const say = useWords(words);
  if (instances.length === 0) return null;
  return (
    <ul aria-label={label} className="flex flex-wrap gap-1">
      {instances.slice(0, SHOWN).map((instance) => {
        const { name, project, uid } = instance.metadata;
        const health = healthOf(instance);
        const full = `${project}/${name}`;
        const text =
          health === "ready"
            ? say("instanceReady", { name: full })
            : say("instanceNot", { name: full, reason: readyOf(instance)?.reason ?? health });
        return (
          <li key={uid}>
            <Link
              to={objectLink("instances", project, name)}
              title={text}
              aria-label={text}
              className={classes(
                "block size-6 border border-surface",
                health === "ready" ? "rounded" : "rounded-full",
                COLOURS[health],
              )}
            />
          </li>
        );
      })}
      {instances.length > SHOWN ? (
        <li className="text-quiet">{say("more", { count: instances.length - SHOWN })}</li>
      ) : null}
    </ul>
  );
}
