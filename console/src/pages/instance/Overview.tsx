import type { ReactNode } from "react";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { CopyButton } from "~/components/CopyButton";
import { ConditionBadge } from "~/components/ReadyBadge";
import { useWords } from "~/i18n/language";
import { Metrics } from "./Metrics";
import { titleOf } from "./powers";
import type { Instance } from "./types";
import { words } from "./words";

/** What it is, how it is, and what it uses. */
export function Overview({ instance, path, children }: { instance: Instance; path: string; children?: ReactNode }) {
  const say = useWords(words);
  const { spec, status } = instance;
  const started = status?.startedAt && status.powerState !== "Stopped" ? <Age of={status.startedAt} /> : "–";
  const facts: [string, ReactNode][] = [
    [say("power"), status?.powerState ?? "–"],
    [say("image"), spec.image],
    [say("flavor"), spec.flavor],
    [say("host"), status?.host ?? "–"],
    [say("started"), started],
    [say("keys"), spec.sshKeys?.join(", ") || "–"],
  ];
  return (
    <div className="flex flex-col gap-4">
      {children}
      <div className="grid gap-3 lg:grid-cols-2">
        <section className="rounded-lg border border-line bg-surface p-3">
          <h2 className="mb-2 font-semibold">{say("facts")}</h2>
          <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1">
            {facts.map(([label, value]) => (
              <div key={label} className="contents">
                <dt className="text-quiet">{label}</dt>
                <dd className="min-w-0 break-words">{value}</dd>
              </div>
            ))}
          </dl>
          <h2 className="mt-4 mb-2 font-semibold">{say("addresses")}</h2>
          {status?.addresses?.length ? (
            <ul className="flex flex-col gap-1">
              {status.addresses.map(({ interface: card, address, mac }) => (
                <li key={`${card}/${address}`} className="flex flex-wrap items-center gap-x-3">
                  <span className="text-quiet">{card}</span>
                  <span className="font-mono">{address}</span>
                  <CopyButton text={address} />
                  <span className="text-quiet text-xs">{mac}</span>
                </li>
              ))}
            </ul>
          ) : (
            <p className="text-quiet">{say("noAddresses")}</p>
          )}
        </section>
        <section className="rounded-lg border border-line bg-surface p-3">
          <h2 className="mb-2 font-semibold">{say("conditions")}</h2>
          <ul className="flex flex-col gap-2">
            {(status?.conditions ?? []).map((condition) => {
              const title = titleOf(condition, spec.powerState);
              return (
                <li key={condition.type} className="flex flex-wrap items-baseline gap-x-2 gap-y-0.5">
                  {condition.status === "True" && title !== condition.type ? (
                    <Badge>{title}</Badge>
                  ) : (
                    <ConditionBadge condition={condition}>{title}</ConditionBadge>
                  )}
                  <span className="text-quiet">
                    {condition.status === "True" ? "" : condition.reason} <Age of={condition.lastTransitionTime} />
                  </span>
                  {condition.message ? <p className="w-full min-w-0 break-words">{condition.message}</p> : null}
                </li>
              );
            })}
          </ul>
        </section>
      </div>
      <Metrics path={path} running={status?.powerState === "Running"} />
    </div>
  );
}
