import "@xyflow/react/dist/base.css";
import {
  type Edge,
  Handle,
  type Node,
  type NodeProps,
  Panel,
  Position,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
} from "@xyflow/react";
import { Maximize, ZoomIn, ZoomOut } from "lucide-react";
import { useEffect, useMemo } from "react";
import { Link } from "react-router";
import { listLink, objectLink } from "~/api/kinds";
import { Button } from "~/components/Button";
import { classes } from "~/components/classes";
import { ReadyBadge } from "~/components/ReadyBadge";
import { useWords } from "~/i18n/language";
import { usePreferences } from "~/layout/preferences";
import { type Health, healthOf } from "~/pages/dashboard/facts";
import { type Graph, type InstanceNode, NETWORK_HEIGHT, type NetworkNode, NODE_HEIGHT, NODE_WIDTH } from "./graph";
import { words } from "./words";

type NetworkFlow = Node<{ network: NetworkNode }, "network">;
type InstanceFlow = Node<{ instance: InstanceNode }, "instance">;

const BORDERS: Record<Health, string> = {
  ready: "border-good",
  waiting: "border-info",
  failed: "border-bad",
  deleting: "border-warn",
};
const HANDLE = "!pointer-events-none opacity-0";

function NetworkBox({ data: { network } }: NodeProps<NetworkFlow>) {
  const say = useWords(words);
  const name = network.lent ? `${network.project}/${network.own}` : network.own;
  return (
    <div
      className="flex h-full w-full flex-col justify-center gap-0.5 overflow-hidden rounded-lg border-2 border-accent bg-surface px-3"
      title={network.object?.status?.conditions?.find(({ type }) => type === "Ready")?.message}
    >
      <div className="flex items-center gap-2">
        {network.lent ? (
          <span className="truncate font-semibold">{name}</span>
        ) : (
          <Link
            to={objectLink("networks", network.project, network.own)}
            aria-label={say("network", { name })}
            className="nodrag truncate font-semibold text-accent underline"
          >
            {name}
          </Link>
        )}
        {network.object ? <ReadyBadge object={network.object} /> : null}
      </div>
      <p className="truncate font-mono text-quiet text-xs">
        {network.subnets.map(({ cidr }) => cidr).join(", ") || (network.lent ? "" : say("noSubnet"))}
      </p>
      {network.hidden > 0 ? (
        <Link to={listLink("instances", network.project)} className="nodrag truncate text-accent text-xs underline">
          {say("hidden", { count: network.hidden })}
        </Link>
      ) : network.idle > 0 ? (
        <p className="truncate text-quiet text-xs">{say("idle", { count: network.idle })}</p>
      ) : null}
      <Handle type="source" position={Position.Bottom} isConnectable={false} className={HANDLE} />
    </div>
  );
}

function InstanceBox({ data: { instance } }: NodeProps<InstanceFlow>) {
  const { metadata } = instance.object;
  return (
    <div
      className={classes(
        "flex h-full w-full flex-col justify-center overflow-hidden rounded-lg border bg-surface px-3",
        BORDERS[healthOf(instance.object)],
      )}
    >
      <Handle type="target" position={Position.Top} isConnectable={false} className={HANDLE} />
      <div className="flex items-center gap-2">
        <Link
          to={objectLink("instances", metadata.project, metadata.name)}
          className="nodrag min-w-0 flex-1 truncate font-medium text-accent underline"
        >
          {metadata.name}
        </Link>
        <ReadyBadge object={instance.object} />
      </div>
      <p className="truncate font-mono text-quiet text-xs">
        {instance.links.flatMap(({ addresses }) => addresses).join(", ")}
      </p>
    </div>
  );
}

const TYPES = { network: NetworkBox, instance: InstanceBox };

function Flow({ graph }: { graph: Graph }) {
  const say = useWords(words);
  const theme = usePreferences((state) => state.theme);
  const flow = useReactFlow();
  const nodes = useMemo<(NetworkFlow | InstanceFlow)[]>(
    () => [
      ...graph.networks.map(
        (network): NetworkFlow => ({
          id: network.id,
          type: "network",
          position: { x: network.x, y: network.y },
          width: network.width,
          height: NETWORK_HEIGHT,
          data: { network },
        }),
      ),
      ...graph.instances.map(
        (instance): InstanceFlow => ({
          id: instance.id,
          type: "instance",
          position: { x: instance.x, y: instance.y },
          width: NODE_WIDTH,
          height: NODE_HEIGHT,
          data: { instance },
        }),
      ),
    ],
    [graph],
  );
  const edges = useMemo<Edge[]>(
    () =>
      graph.instances.flatMap(({ id, links }) =>
        links.map(({ network, port }) => ({
          id: port,
          source: `network/${network}`,
          target: id,
          type: "smoothstep",
          style: { stroke: "var(--quiet)" },
        })),
      ),
    [graph],
  );
  const size = graph.networks.length + graph.instances.length;
  // biome-ignore lint/correctness/useExhaustiveDependencies: all is shown again when something came or went
  useEffect(() => {
    void flow.fitView({ padding: 0.1, maxZoom: 1 });
  }, [size, flow]);
  return (
    <ReactFlow
      nodes={nodes}
      edges={edges}
      nodeTypes={TYPES}
      colorMode={theme === "system" ? "system" : theme}
      fitView
      fitViewOptions={{ padding: 0.1, maxZoom: 1 }}
      minZoom={0.05}
      maxZoom={2}
      nodesDraggable={false}
      nodesConnectable={false}
      nodesFocusable={false}
      edgesFocusable={false}
      elementsSelectable={false}
      onlyRenderVisibleElements
      proOptions={{ hideAttribution: true }}
      aria-label={say("networks")}
    >
      <Panel position="bottom-right" className="flex gap-1">
        <Button icon aria-label={say("zoomIn")} onClick={() => void flow.zoomIn()}>
          <ZoomIn aria-hidden />
        </Button>
        <Button icon aria-label={say("zoomOut")} onClick={() => void flow.zoomOut()}>
          <ZoomOut aria-hidden />
        </Button>
        <Button icon aria-label={say("fit")} onClick={() => void flow.fitView({ padding: 0.1, maxZoom: 1 })}>
          <Maximize aria-hidden />
        </Button>
      </Panel>
    </ReactFlow>
  );
}

/** The drawing; loaded when it is looked at. */
export default function Drawing({ graph }: { graph: Graph }) {
  const say = useWords(words);
  return (
    <>
      <div className="min-h-80 flex-1 overflow-hidden rounded-lg border border-line bg-ground">
        <ReactFlowProvider>
          <Flow graph={graph} />
        </ReactFlowProvider>
      </div>
      <p className="text-quiet text-xs">{say("help")}</p>
    </>
  );
}
