import { useMutation } from "@tanstack/react-query";
import { Ban, CircleCheck } from "lucide-react";
import { type FormEvent, useState } from "react";
import { request } from "~/api/client";
import { useKinds, vcctl } from "~/api/kinds";
import { useProjects } from "~/api/projects";
import type { Schemas } from "~/api/types";
import { Button } from "~/components/Button";
import { Card } from "~/components/Card";
import { CopyButton } from "~/components/CopyButton";
import { classes } from "~/components/classes";
import { Failure } from "~/components/Failure";
import { Field, INPUT, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { useProject } from "~/layout/scope";
import { ruleText } from "./grants";
import { words } from "./words";

/** A name alone is a user's. */
const fullSubject = (text: string): string => (text === "" || text.includes(":") ? text : `user:${text}`);

const VERBS = ["get", "list", "watch", "create", "update", "delete"] as const;

/** Asks the API whether somebody may do something, and why. */
export function CanI() {
  const say = useWords(words);
  const kinds = useKinds();
  const { projects } = useProjects();
  const chosen = useProject();
  const [asked, setAsked] = useState({
    subject: "",
    verb: "create",
    kind: "Instance",
    name: "",
    project: chosen ?? "",
    subresource: "",
  });
  const review = useMutation({
    mutationFn: () => {
      const given = { ...asked, subject: fullSubject(asked.subject) };
      const body = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ""));
      return request<Schemas["ReviewReply"]>("POST", "/api/v1/access/review", { body });
    },
  });
  const rights = useMutation({
    mutationFn: () => {
      const body = {
        ...(asked.subject ? { subject: fullSubject(asked.subject) } : {}),
        ...(asked.project ? { project: asked.project } : {}),
      };
      return request<Schemas["RightsReply"]>("POST", "/api/v1/access/rights", { body });
    },
  });
  const change = (changes: Partial<typeof asked>) => {
    setAsked({ ...asked, ...changes });
    review.reset();
    rights.reset();
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    review.mutate();
  };
  const target = asked.name ? `${asked.kind.toLowerCase()}/${asked.name}` : asked.kind.toLowerCase();
  const command = vcctl(
    "auth",
    "can-i",
    asked.verb,
    target,
    ...(asked.project ? ["--project", asked.project] : []),
    ...(asked.subresource ? ["--subresource", asked.subresource] : []),
    ...(asked.subject ? ["--as", asked.subject] : []),
  );
  return (
    <>
      <form
        onSubmit={submit}
        className="grid gap-3 rounded-lg border border-line bg-surface p-3 sm:grid-cols-2 lg:grid-cols-3"
      >
        <Field label={say("subject")} help={say("subjectHelp")}>
          {(control) => (
            <Input
              value={asked.subject}
              onChange={(event) => change({ subject: event.target.value.trim() })}
              {...control}
            />
          )}
        </Field>
        <Field label={say("verb")}>
          {(control) => (
            <select
              className={INPUT}
              value={asked.verb}
              onChange={(event) => change({ verb: event.target.value })}
              {...control}
            >
              {VERBS.map((verb) => (
                <option key={verb} value={verb}>
                  {verb}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label={say("kind")}>
          {(control) => (
            <select
              className={INPUT}
              value={asked.kind}
              onChange={(event) => change({ kind: event.target.value })}
              {...control}
            >
              {kinds.map(({ kind }) => (
                <option key={kind} value={kind}>
                  {kind}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label={say("name")} help={say("nameHelp")}>
          {(control) => (
            <Input value={asked.name} onChange={(event) => change({ name: event.target.value.trim() })} {...control} />
          )}
        </Field>
        <Field label={say("project")}>
          {(control) => (
            <select
              className={INPUT}
              value={asked.project}
              onChange={(event) => change({ project: event.target.value })}
              {...control}
            >
              <option value="">{say("everywhere")}</option>
              {projects.map((project) => (
                <option key={project} value={project}>
                  {project}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label={say("subresource")} help={say("subresourceHelp")}>
          {(control) => (
            <Input
              value={asked.subresource}
              onChange={(event) => change({ subresource: event.target.value.trim() })}
              {...control}
            />
          )}
        </Field>
        <div className="flex flex-wrap items-center gap-2 sm:col-span-2 lg:col-span-3">
          <Button type="submit" look="primary" disabled={review.isPending}>
            {say("ask")}
          </Button>
          <Button disabled={rights.isPending} onClick={() => rights.mutate()}>
            {say("rights")}
          </Button>
          <CopyButton command text={command} />
        </div>
      </form>
      {review.error ? <Failure error={review.error} /> : null}
      {rights.error ? <Failure error={rights.error} /> : null}
      <div role="status">{review.data ? <Answer reply={review.data} /> : null}</div>
      {rights.data ? <Rights reply={rights.data} /> : null}
    </>
  );
}

function Answer({ reply }: { reply: Schemas["ReviewReply"] }) {
  const say = useWords(words);
  const { allowed, subject, message, labelSelectors, seenGroups } = reply;
  const selectors = (labelSelectors ?? []).join(" | ");
  const text = allowed
    ? selectors
      ? say("allowedWhere", { subject, selectors })
      : say("allowed", { subject })
    : say("denied", { subject });
  const Icon = allowed ? CircleCheck : Ban;
  return (
    <div
      className={classes(
        "flex items-start gap-2 rounded-md p-3",
        allowed ? "bg-good-ground text-good" : "bg-bad-ground text-bad",
      )}
    >
      <Icon aria-hidden className="mt-0.5 size-4 shrink-0" />
      <div className="min-w-0 break-words">
        <p className="font-semibold">{text}</p>
        {message ? <p>{message}</p> : null}
        {seenGroups ? (
          <p>{say("seen", { groups: seenGroups.groups.join(", "), provider: seenGroups.provider })}</p>
        ) : null}
      </div>
    </div>
  );
}

function Rights({ reply }: { reply: Schemas["RightsReply"] }) {
  const say = useWords(words);
  return (
    <Card title={say("rightsOf", { subject: reply.subject })}>
      {reply.rights.length === 0 ? <p className="text-quiet">{say("nothingGiven")}</p> : null}
      <ul className="flex flex-col gap-1">
        {reply.rights.map((right) => {
          const { project, domain, rule } = right;
          const where = project
            ? say("inProject", { project })
            : domain
              ? say("inDomain", { domain })
              : say("everywhere");
          return (
            <li key={JSON.stringify(right)} className="break-words">
              <span className="font-mono text-xs">{ruleText(rule)}</span> <span className="text-quiet">{where}</span>
            </li>
          );
        })}
      </ul>
      {reply.restriction && reply.restriction.length > 0 ? (
        <>
          <p>{say("restricted")}</p>
          <ul className="font-mono text-xs">
            {reply.restriction.map((rule) => (
              <li key={ruleText(rule)}>{ruleText(rule)}</li>
            ))}
          </ul>
        </>
      ) : null}
    </Card>
  );
}
