import { Link } from "react-router";
import { type KindInfo, objectLink } from "~/api/kinds";
import type { Condition, Resource } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { ConditionBadge } from "~/components/ReadyBadge";
import { useWords } from "~/i18n/language";
import { childOf, isStandIn, type JsonSchema, type Path, plain, useKindDescription } from "~/schema/schema";
import { Why } from "./Why";
import { words } from "./words";

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
                    <ConditionBadge condition={each}>{each.status}</ConditionBadge>
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
