import { Network as NetworkIcon } from "lucide-react";
import { lazy, Suspense, useMemo } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { collectionPath, objectLink } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import { Busy } from "~/components/Busy";
import { CopyButton } from "~/components/CopyButton";
import { classes } from "~/components/classes";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { ReadyBadge } from "~/components/ReadyBadge";
import { useWords } from "~/i18n/language";
import { buildGraph, type Graph, type NetworkNode } from "./graph";
import { words } from "./words";

const Drawing = lazy(() => import("./Drawing"));

const EXAMPLE = (project: string) => `vcctl apply -f - <<'EOF'
apiVersion: vcstack.io/v1
kind: Network
metadata: {project: ${project}, name: net}
---
apiVersion: vcstack.io/v1
kind: Subnet
metadata: {project: ${project}, name: net-v4}
spec: {network: net, cidr: 10.10.0.0/24}
EOF`;

/** A project's networks and what is on them: drawn, or as a list that says the same. */
export function Component() {
  const say = useWords(words);
  const { project = "" } = useParams();
  const [parameters, setParameters] = useSearchParams();
  const view = parameters.get("view") === "list" ? "list" : "drawing";
  const networks = useLiveList(collectionPath("networks", project));
  const subnets = useLiveList(collectionPath("subnets", project));
  const ports = useLiveList(collectionPath("ports", project));
  const instances = useLiveList(collectionPath("instances", project));
  const lists = [networks, subnets, ports, instances];
  const graph = useMemo(
    () => buildGraph(project, networks.items, subnets.items, ports.items, instances.items),
    [project, networks.items, subnets.items, ports.items, instances.items],
  );
  const failed = lists.find((list) => list.error);
  return (
    <div className="flex h-full flex-col gap-3 p-3 sm:p-4">
      <div className="flex flex-wrap items-center gap-2">
        <h1 className="mr-auto font-semibold text-lg">{say("title", { project })}</h1>
        <fieldset className="flex rounded-md border border-line">
          <legend className="sr-only">{say("view")}</legend>
          {(["drawing", "list"] as const).map((each) => (
            <label
              key={each}
              className={classes(
                "cursor-pointer px-3 py-1 first-of-type:rounded-l-md last-of-type:rounded-r-md focus-within:outline-2 focus-within:outline-accent",
                view === each ? "bg-accent font-semibold text-on-accent" : "hover:bg-raised",
              )}
            >
              <input
                type="radio"
                name="view"
                className="sr-only"
                checked={view === each}
                onChange={() => setParameters(each === "list" ? { view: "list" } : {}, { replace: true })}
              />
              {say(each)}
            </label>
          ))}
        </fieldset>
      </div>
      {failed?.error ? <Failure error={failed.error} onRetry={failed.retry} /> : null}
      {lists.some((list) => list.loading) ? (
        <Busy />
      ) : graph.networks.length === 0 ? (
        <EmptyState
          icon={<NetworkIcon aria-hidden />}
          title={say("none")}
          actions={<CopyButton look="plain" command text={EXAMPLE(project)} />}
        >
          {say("noneText")}
        </EmptyState>
      ) : view === "list" ? (
        <AsList graph={graph} />
      ) : (
        <Suspense fallback={<Busy />}>
          <Drawing key={project} graph={graph} />
        </Suspense>
      )}
      {graph.apart > 0 ? <p className="text-quiet">{say("apart", { count: graph.apart })}</p> : null}
    </div>
  );
}

function AsList({ graph }: { graph: Graph }) {
  const say = useWords(words);
  return (
    <ul aria-label={say("networks")} className="flex flex-col gap-3">
      {graph.networks.map((network) => (
        <li key={network.id} className="rounded-lg border border-line bg-surface p-3">
          <NetworkHead network={network} />
          <Members graph={graph} network={network} />
        </li>
      ))}
    </ul>
  );
}

export function NetworkHead({ network }: { network: NetworkNode }) {
  const say = useWords(words);
  return (
    <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
      {network.lent ? (
        <span className="font-semibold">
          {network.own} <span className="font-normal text-quiet">{say("lent", { project: network.project })}</span>
        </span>
      ) : (
        <Link to={objectLink("networks", network.project, network.own)} className="font-semibold text-accent underline">
          {network.own}
        </Link>
      )}
      {network.object ? <ReadyBadge object={network.object} /> : null}
      <span className="text-quiet text-xs">
        {network.subnets.map(({ cidr }) => cidr).join(", ") || (network.lent ? "" : say("noSubnet"))}
      </span>
      {network.idle > 0 ? <span className="text-quiet text-xs">{say("idle", { count: network.idle })}</span> : null}
    </div>
  );
}

function Members({ graph, network }: { graph: Graph; network: NetworkNode }) {
  const say = useWords(words);
  const members = graph.instances.filter(({ links }) => links.some((link) => link.network === network.name));
  if (members.length === 0) return <p className="mt-2 text-quiet">{say("noInstances")}</p>;
  return (
    <>
      <ul className="mt-2 grid gap-x-4 gap-y-1 sm:grid-cols-2 xl:grid-cols-3">
        {members.map(({ id, object, links }) => (
          <li key={id} className="flex min-w-0 flex-wrap items-center gap-2">
            <Link
              to={objectLink("instances", object.metadata.project, object.metadata.name)}
              className="min-w-0 truncate text-accent underline"
            >
              {object.metadata.name}
            </Link>
            <span className="font-mono text-quiet text-xs">
              {links
                .filter((link) => link.network === network.name)
                .flatMap(({ addresses }) => addresses)
                .join(", ")}
            </span>
            <ReadyBadge object={object} />
          </li>
        ))}
      </ul>
      {network.hidden > 0 ? <p className="text-quiet">{say("hidden", { count: network.hidden })}</p> : null}
    </>
  );
}
