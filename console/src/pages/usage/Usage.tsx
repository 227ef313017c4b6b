import { Gauge } from "lucide-react";
import { type ReactNode, useMemo } from "react";
import { Link, useParams } from "react-router";
import { objectLink, vcctl } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import { useMe } from "~/api/me";
import type { Resource } from "~/api/types";
import { Busy } from "~/components/Busy";
import { Card } from "~/components/Card";
import { CopyButton } from "~/components/CopyButton";
import { EmptyState } from "~/components/EmptyState";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { amountText, LimitMeter, useProjectUsage } from "./Limits";
import { byPressure } from "./limits";
import { words } from "./words";

const EXAMPLE = `vcctl apply -f - <<'EOF'
apiVersion: vcstack.io/v1
kind: Quota
metadata: {name: limits}
spec: {limits: {instances: 100}}
EOF`;

/** How much of each quota is taken: of a project's with all above it, or of all quotas. */
export function Component() {
  const { project } = useParams();
  return project ? <OfProject key={project} project={project} /> : <OfAll />;
}

interface PageProps {
  title: string;
  command: string;
  /** Whether there is a way to all quotas. */
  all?: boolean;
  children: ReactNode;
}

function Page({ title, command, all = false, children }: PageProps) {
  const say = useWords(words);
  const me = useMe();
  return (
    <div className="flex flex-col gap-4 p-3 sm:p-4">
      <div className="flex flex-wrap items-center gap-2">
        <h1 className="font-semibold text-lg">{title}</h1>
        <CopyButton command text={command} />
        {all && me?.allProjects ? (
          <Link to="/usage" className="text-accent underline">
            {say("all")}
          </Link>
        ) : null}
      </div>
      <p className="text-quiet">{say("text")}</p>
      {children}
    </div>
  );
}

const Nothing = () => {
  const say = useWords(words);
  return (
    <EmptyState
      icon={<Gauge aria-hidden />}
      title={say("none")}
      actions={<CopyButton look="plain" command text={EXAMPLE} />}
    >
      {say("noneText")}
    </EmptyState>
  );
};

function useOwner() {
  const say = useWords(words);
  return (project?: string | null, domain?: string | null) =>
    project ? say("project", { project }) : domain ? say("domain", { domain }) : say("cloud");
}

function OfProject({ project }: { project: string }) {
  const say = useWords(words);
  const owner = useOwner();
  const usage = useProjectUsage(project);
  return (
    <Page all title={say("titleOf", { project })} command={vcctl("quota", "--project", project)}>
      {usage.error ? <Failure error={usage.error} onRetry={() => void usage.refetch()} /> : null}
      {!usage.data && !usage.error ? <Busy /> : null}
      {usage.data?.items.length === 0 ? <Nothing /> : null}
      <div className="grid gap-4 xl:grid-cols-2">
        {usage.data?.items.map((quota) => (
          <Card
            key={`${quota.project} ${quota.domain} ${quota.name}`}
            title={`${owner(quota.project, quota.domain)}: ${quota.name}`}
          >
            {quota.shared ? <p className="text-quiet text-xs">{say("shared")}</p> : null}
            <ul className="flex flex-col gap-3">
              {byPressure(quota.items).map((limit) => (
                <li key={limit.name} className="flex flex-col gap-1">
                  <LimitMeter limit={limit} />
                  {limit.largest.length > 0 ? (
                    <p className="text-quiet text-xs">
                      {say("largest")}{" "}
                      {limit.largest
                        .slice(0, 3)
                        .map((each) => `${each.kind} ${each.name} (${amountText(limit.name, each.amount)})`)
                        .join(", ")}
                    </p>
                  ) : null}
                </li>
              ))}
            </ul>
          </Card>
        ))}
      </div>
    </Page>
  );
}

function OfAll() {
  const say = useWords(words);
  const list = useLiveList("/api/v1/quotas");
  const quotas = useMemo(
    () => [...list.items].sort((a, b) => (a.metadata.project ?? "").localeCompare(b.metadata.project ?? "")),
    [list.items],
  );
  return (
    <Page title={say("title")} command={vcctl("get", "quotas", "--all-projects")}>
      {list.error ? <Failure error={list.error} onRetry={list.retry} /> : null}
      {list.loading ? <Busy /> : null}
      {list.complete && quotas.length === 0 ? <Nothing /> : null}
      <div className="grid gap-4 xl:grid-cols-2">
        {quotas.map((quota) => (
          <QuotaCard key={quota.metadata.uid} quota={quota} />
        ))}
      </div>
    </Page>
  );
}

function QuotaCard({ quota }: { quota: Resource }) {
  const say = useWords(words);
  const owner = useOwner();
  const { name, project } = quota.metadata;
  const spec = quota.spec as { domain?: string | null; limits: Record<string, number> };
  const used = quota.status?.used as Record<string, number> | undefined;
  return (
    <Card
      title={
        <Link to={objectLink("quotas", project, name)} className="text-accent underline">
          {`${owner(project, spec.domain)}: ${name}`}
        </Link>
      }
      aside={used ? null : <span className="text-quiet text-xs">{say("measuring")}</span>}
    >
      <ul className="flex flex-col gap-3">
        {byPressure(
          Object.entries(spec.limits).map(([limit, most]) => ({ name: limit, limit: most, used: used?.[limit] ?? 0 })),
        ).map((limit) => (
          <li key={limit.name}>
            <LimitMeter limit={limit} />
          </li>
        ))}
      </ul>
    </Card>
  );
}
