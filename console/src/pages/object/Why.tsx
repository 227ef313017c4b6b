import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { request } from "~/api/client";
import { type KindInfo, objectLink, objectPath, useKinds, vcctl } from "~/api/kinds";
import type { Resource, Schemas } from "~/api/types";
import { Badge } from "~/components/Badge";
import { CopyButton } from "~/components/CopyButton";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { words } from "./words";

type Finding = Schemas["WhyFinding"];

const LOOK_MS = 15_000;

/** What really holds it up, down to the cause, and what to do. */
export function Why({ kind, object }: { kind: KindInfo; object: Resource }) {
  const say = useWords(words);
  const { name, project, resourceVersion } = object.metadata;
  const isReady = object.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True");
  const path = `${objectPath(kind.plural, project, name)}/why`;
  const query = useQuery({
    queryKey: ["why", path, resourceVersion],
    queryFn: ({ signal }) => request<{ finding: Finding }>("GET", path, { signal }),
    enabled: !isReady,
    // The cause may be another object, and no stream tells of those here.
    refetchInterval: LOOK_MS,
    placeholderData: (before) => before,
  });
  if (isReady) return null;
  if (query.error) return <Failure error={query.error} />;
  const finding = query.data?.finding;
  if (!finding || finding.healthy) return null;
  return (
    <section className="rounded-md border border-bad bg-surface p-3">
      <div className="mb-2 flex items-center justify-between">
        <h2 className="font-semibold">{say("whyTitle")}</h2>
        <CopyButton command text={vcctl("why", `${kind.singular}/${name}`, ...(project ? ["-p", project] : []))} />
      </div>
      <ul>
        <Step finding={finding} isTop />
      </ul>
    </section>
  );
}

function Step({ finding, isTop = false }: { finding: Finding; isTop?: boolean }) {
  const say = useWords(words);
  const kinds = useKinds();
  const plural = kinds.find(({ kind }) => kind === finding.kind)?.plural;
  const below = (finding.because ?? []).filter(({ healthy }) => !healthy);
  const isCause = below.length === 0;
  const label = `${finding.kind} ${finding.name}`;
  const advice = finding.advice ?? "";
  return (
    <li className={isTop ? "" : "mt-1 border-line border-l-2 pl-3"}>
      <p className="break-words">
        {isCause ? <Badge tone="bad">{say("cause")}</Badge> : null}{" "}
        {plural && !isTop ? (
          <Link className="font-medium underline" to={objectLink(plural, finding.project, finding.name)}>
            {label}
          </Link>
        ) : (
          <span className="font-medium">{label}</span>
        )}
        {finding.path ? <span className="text-quiet">{` (${say("by", { field: finding.path })})`}</span> : null}
        {`: ${finding.sentence}`}
      </p>
      {isCause && advice && !finding.sentence.includes(advice) ? (
        <p className="break-words">
          <span className="font-medium">{`${say("whatToDo")}: `}</span>
          {advice}
        </p>
      ) : null}
      {(finding.warnings ?? []).map((warning) => (
        <p key={warning} className="break-words text-quiet">{`${say("event")}: ${warning}`}</p>
      ))}
      {below.length > 0 ? (
        <ul>
          {below.map((each) => (
            <Step key={`${each.kind}/${each.project}/${each.name}`} finding={each} />
          ))}
        </ul>
      ) : null}
    </li>
  );
}
