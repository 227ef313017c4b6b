import { useMemo } from "react";
import { messageOf, writeObject } from "~/api/client";
import { objectPath } from "~/api/kinds";
import { useLiveList } from "~/api/lists";
import { useMe } from "~/api/me";
import type { Resource } from "~/api/types";
import { Age } from "~/components/Age";
import { Badge } from "~/components/Badge";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { Credentials } from "./Credentials";
import { words } from "./words";

interface SessionResource extends Resource {
  spec: {
    subject: { kind: string; name: string };
    methods?: string[];
    createdAt: string;
    expiresAt: string;
    client?: string;
  };
}

const end = (name: string) => writeObject("DELETE", objectPath("sessions", null, name));

/** Where the user is logged in, to end what should not be. */
export function Component() {
  const say = useWords(words);
  const me = useMe();
  const list = useLiveList(me ? "/api/v1/sessions" : null);
  const sessions = useMemo(
    () =>
      (list.items as SessionResource[])
        .filter(({ spec }) => spec.subject.kind === "User" && spec.subject.name === me?.name)
        .sort((a, b) => b.spec.createdAt.localeCompare(a.spec.createdAt)),
    [list.items, me],
  );
  const others = sessions.filter(({ metadata }) => metadata.name !== me?.session);
  const attempt = (run: () => Promise<string>) =>
    run().then(
      (text) => toast("good", text),
      (error) => toast("bad", messageOf(error)),
    );
  const endAll = () =>
    attempt(async () => {
      await Promise.all(others.map(({ metadata }) => end(metadata.name)));
      return say("endedOthers", { count: others.length });
    });
  if (!me || list.loading) return <Busy />;
  return (
    <div className="flex flex-col gap-4 p-4">
      <div className="flex flex-wrap items-center justify-between gap-2">
        <h1 className="font-semibold text-lg">{say("title")}</h1>
        <Button look="danger" disabled={others.length === 0} onClick={() => void endAll()}>
          {say("endOthers")}
        </Button>
      </div>
      <p>{say("who", { subject: me.subject })}</p>
      {me.role === "User" ? <Credentials me={me} /> : null}
      <p className="text-quiet">{say("text")}</p>
      {list.error ? <Failure error={list.error} onRetry={list.retry} /> : null}
      <ul className="flex flex-col gap-2">
        {sessions.map(({ metadata, spec }) => (
          <li
            key={metadata.uid}
            className="flex flex-wrap items-center gap-x-6 gap-y-1 rounded-lg border border-line bg-surface p-3"
          >
            <div className="min-w-48 flex-1">
              <p className="break-words font-medium">{spec.client || metadata.name}</p>
              <p className="text-quiet">{(spec.methods ?? []).join(", ")}</p>
            </div>
            <p>
              <span className="text-quiet">{say("began")}</span> <Age of={spec.createdAt} />
            </p>
            {metadata.name === me.session ? (
              <Badge tone="good">{say("present")}</Badge>
            ) : (
              <Button
                onClick={() =>
                  void attempt(async () => {
                    await end(metadata.name);
                    return say("ended");
                  })
                }
              >
                {say("end")}
              </Button>
            )}
          </li>
        ))}
      </ul>
      {sessions.length === 0 && !list.error ? <p className="text-quiet">{say("none")}</p> : null}
    </div>
  );
}
