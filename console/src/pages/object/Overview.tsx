import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { request } from "~/api/client";
import { type KindInfo, objectLink, objectPath, useKinds, vcctl } from "~/api/kinds";
import type { Condition, Resource, Schemas } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge, type Tone } from "~/components/Badge";
import { CopyButton } from "~/components/CopyButton";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { childOf, isStandIn, type JsonSchema, type Path, plain, useKindDescription } from "~/schema/schema";
import { words } from "./words";

type Finding = Schemas["WhyFinding"];
const TONES: Record<Condition["status"], Tone> = { True: "good", False: "bad", Unknown: "warn" };

/** What there is to know of an object at a glance. */
export function Overview({ kind, object }: { kind: KindInfo; object: Resource }) {
  const say = useWords(words);
  const { schema } = useKindDescription(kind.plural).data ?? {};
  const { metadata } = object;
  const { conditions = [], observedGeneration: _, ...observed } = object.status ?? {};
  return (
    <div className="grid gap-4 xl:grid-cols-2">
      <div className="flex min-w-0 flex-col gap-4">
        {conditions.length > 0 || kind.conditions.length > 0 ? <Why kind={kind} object={object} /> : null}
        {conditions.length > 0 ? <Conditions conditions={conditions} generation={metadata.generation} /> : null}
        <Card title={kind.kind}>
          <p className="mb-2 text-quiet">{kind.doc}</p>
          <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1">
            {metadata.project ? (
              <Row name={say("project")}>
                <Link className="underline" to={objectLink("projects", null, metadata.project)}>
                  {metadata.project}
                </Link>
              </Row>
            ) : null}
            <Row name={say("created")}>
              <Age of={metadata.creationTimestamp} />
            </Row>
            <Row name={say("uid")}>
              <code className="break-all">{metadata.uid}</code>
            </Row>
            <Pairs name={say("labels")} of={metadata.labels} />
            <Pairs name={say("annotations")} of={metadata.annotations} />
          </dl>
        </Card>
      </div>
      <div className="flex min-w-0 flex-col gap-4">
        <Card title={say("wanted")}>
          <Tree value={object.spec ?? {}} {...(schema ? { schema, path: ["spec"] } : {})} />
        </Card>
        {Object.keys(observed).length > 0 ? (
          <Card title={say("observed")}>
            <Tree value={observed} {...(schema ? { schema, path: ["status"] } : {})} />
          </Card>
        ) : null}
      </div>
    </div>
  );
}

export function Card({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <section className="min-w-0 rounded-md border border-line bg-surface p-3">
      <h2 className="mb-2 font-semibold">{title}</h2>
      {children}
    </section>
  );
}

const Row = ({ name, children }: { name: string; children: React.ReactNode }) => (
  <>
    <dt className="text-quiet">{name}</dt>
    <dd className="min-w-0 break-words">{children}</dd>
  </>
);

function Pairs({ name, of }: { name: string; of: Record<string, string> | undefined }) {
  const entries = Object.entries(of ?? {});
  if (entries.length === 0) return null;
  return (
    <Row name={name}>
      <span className="flex flex-wrap gap-1">
        {entries.map(([key, value]) => (
          <Badge key={key}>
            <span className="break-all">{`${key}=${value}`}</span>
          </Badge>
        ))}
      </span>
    </Row>
  );
}

function Conditions({ conditions, generation }: { conditions: Condition[]; generation: number }) {
  const say = useWords(words);
  const sorted = [...conditions].sort((a, b) => Number(b.type === "Ready") - Number(a.type === "Ready"));
  return (
    <Card title={say("conditions")}>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard */}
      <section className="overflow-x-auto" aria-label={say("conditions")} tabIndex={0}>
        <table className="w-full text-left">
          <thead className="text-quiet text-xs">
            <tr>
              {(["condition", "status", "since", "message"] as const).map((each) => (
                <th key={each} className="py-1 pr-3 font-medium">
                  {say(each)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {sorted.map((each) => {
              const seen = each.observedGeneration ?? 0;
              const stale = seen > 0 && seen < generation ? ` (${say("older")})` : "";
              return (
                <tr key={each.type} className="border-line border-t align-top">
                  <td className="py-1 pr-3 font-medium">{each.type}</td>
                  <td className="py-1 pr-3">
                    <Badge tone={TONES[each.status] ?? "quiet"}>{each.status}</Badge>
                  </td>
                  <td className="py-1 pr-3">
                    <Age of={each.lastTransitionTime} />
                  </td>
                  <td className="min-w-40 break-words py-1">
                    {each.status === "True" ? null : <span className="text-quiet">{`${each.reason ?? ""} `}</span>}
                    {each.message}
                    {stale}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </section>
    </Card>
  );
}

/** What really holds it up, down to the cause, and what to do. */
function Why({ kind, object }: { kind: KindInfo; object: Resource }) {
  const say = useWords(words);
  const { name, project, resourceVersion } = object.metadata;
  const isReady = object.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True");
  const path = `${objectPath(kind.plural, project, name)}/why`;
  const query = useQuery({
    queryKey: ["why", path, resourceVersion],
    queryFn: ({ signal }) => request<{ finding: Finding }>("GET", path, { signal }),
    enabled: !isReady,
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

/** Fields and their values; what names another object leads there. */
function Tree({ value, schema, path = [] }: { value: unknown; schema?: JsonSchema; path?: Path }) {
  const say = useWords(words);
  const own =
    schema && path.reduce<JsonSchema | undefined>((at, step) => at && childOf(at, step, schema), plain(schema, schema));
  if (value === null || value === undefined || value === "") return <span className="text-quiet">{"—"}</span>;
  if (Array.isArray(value)) {
    if (value.length === 0) return <span className="text-quiet">{"—"}</span>;
    return (
      <ul className="flex flex-col gap-1">
        {value.map((item, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: items have no identity but their place
          <li key={index} className={typeof item === "object" ? "border-line border-l-2 pl-2" : ""}>
            <Tree value={item} {...(schema ? { schema } : {})} path={[...path, index]} />
          </li>
        ))}
      </ul>
    );
  }
  if (typeof value === "object") {
    const entries = Object.entries(value);
    if (entries.length === 0) return <span className="text-quiet">{say("nothing")}</span>;
    return (
      <dl className="grid grid-cols-[minmax(6rem,auto)_1fr] gap-x-3 gap-y-1">
        {entries.map(([key, item]) => {
          const doc = own && childOf(own, key, schema)?.description;
          return (
            <div key={key} className="contents">
              <dt className="break-words text-quiet" title={doc}>
                {key}
              </dt>
              <dd className="min-w-0 break-words">
                <Tree value={item} {...(schema ? { schema } : {})} path={[...path, key]} />
              </dd>
            </div>
          );
        })}
      </dl>
    );
  }
  if (own?.["x-vcstack-sensitive"] || isStandIn(value)) return <Badge>{say("secret")}</Badge>;
  const text = String(value);
  if (text.includes("\n"))
    return <pre className="overflow-x-auto rounded bg-raised p-2 font-mono text-[13px]">{text}</pre>;
  return <span className="break-words">{text}</span>;
}
