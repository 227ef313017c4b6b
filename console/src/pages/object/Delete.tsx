import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { writeObject } from "~/api/client";
import { type KindInfo, objectPath, useKinds, vcctl } from "~/api/kinds";
import type { Resource } from "~/api/types";
import { Age } from "~/components/Age";
import { useAttempt } from "~/components/attempt";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { ConfirmName } from "~/components/ConfirmName";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { contentsOf } from "./contents";
import type { Links } from "./losses";
import { useRelated } from "./Related";
import { words } from "./words";

interface DeleteDialogProps {
  kind: KindInfo;
  object: Resource;
  onClose: () => void;
}

/** Names what will be lost before it is; where others go with it, the name has to be typed. */
export function DeleteDialog({ kind, object, onClose }: DeleteDialogProps) {
  const say = useWords(words);
  const related = useRelated(kind, object);
  const [typed, setTyped] = useState("");
  const { name, project, uid } = object.metadata;
  const kinds = useKinds();
  const isProject = kind.kind === "Project";
  const contents = useQuery({
    queryKey: ["contents", uid],
    queryFn: ({ signal }) => contentsOf(name, kinds, signal),
    enabled: isProject && kinds.length > 0,
    gcTime: 0,
  });
  const owned = [...(related.data?.owned ?? []), ...(contents.data ?? [])];
  const isLooking = related.isPending || (isProject && contents.isPending);
  const users = related.data?.users ?? [];
  const hasLosses = owned.length > 0 || users.length > 0 || isProject || kind.kind === "Domain";
  const command = vcctl("delete", `${kind.singular}/${name}`, ...(project ? ["-p", project] : []));
  const { busy, error, attempt } = useAttempt(async () => {
    // The very one that was shown, not another one of its name.
    const left = await writeObject("DELETE", objectPath(kind.plural, project, name), { query: { uid } });
    toast("good", say(left === undefined ? "deleteDone" : "deleteAsked", { kind: kind.kind, name }));
    onClose();
  });
  return (
    <Dialog
      open
      onOpenChange={(open) => open || onClose()}
      title={say("deleteTitle", { kind: kind.kind, name })}
      description={say("deleteText")}
      actions={
        <>
          <CopyButton text={command} command />
          <Button onClick={onClose}>{say("cancel")}</Button>
          <Button
            look="danger"
            disabled={busy || isLooking || (hasLosses && typed !== name)}
            onClick={() => void attempt()}
          >
            {say("delete")}
          </Button>
        </>
      }
    >
      {isLooking ? <Busy /> : null}
      {(related.error ?? contents.error) ? <Failure error={related.error ?? contents.error} /> : null}
      {owned.length > 0 ? <Losses title={say("lost")} groups={owned} /> : null}
      {users.length > 0 ? <Losses title={say("held")} groups={users} /> : null}
      {!isLooking && related.data && owned.length === 0 && users.length === 0 ? (
        <p className="text-quiet">{say("nobody")}</p>
      ) : null}
      {hasLosses ? <ConfirmName label={say("confirmName", { name })} typed={typed} onType={setTyped} /> : null}
      {error ? <Failure error={error} /> : null}
    </Dialog>
  );
}

/** What an object takes with it, or what keeps it. */
export function Losses({ title, groups }: { title: string; groups: Links[] }) {
  const say = useWords(words);
  const projects = new Set(groups.flatMap(({ links }) => links.map(({ project }) => project)));
  const titleOf = ({ kind, project, name }: Links["links"][number]) =>
    projects.size > 1 && project ? `${kind} ${project}/${name}` : `${kind} ${name}`;
  return (
    <div>
      <p className="font-medium">{title}</p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached with the keyboard (WCAG 2.1.1) */}
      <ul tabIndex={0} className="max-h-40 list-disc overflow-y-auto pl-5">
        {groups.flatMap(({ links }) =>
          links.map((link) => (
            <li key={`${link.kind}/${link.project}/${link.name}`} className="break-words">
              {titleOf(link)}
            </li>
          )),
        )}
        {groups.some(({ more }) => more) ? (
          <li>
            {say("moreOf", { kinds: [...new Set(groups.filter(({ more }) => more).map((g) => g.kind))].join(", ") })}
          </li>
        ) : null}
      </ul>
    </div>
  );
}

/** How far a deletion is that takes its time. */
export function Deleting({ object }: { object: Resource }) {
  const say = useWords(words);
  const { deletionTimestamp, finalizers = [] } = object.metadata;
  const held = object.status?.conditions?.find(({ type, status }) => type === "Deletable" && status === "False");
  const [before, after] = say("deleting", { age: "\u0000" }).split("\u0000");
  return (
    <div role="status" className="bg-warn-ground px-3 py-2 text-warn">
      <p className="font-medium">
        {before}
        <Age of={deletionTimestamp} />
        {after}
      </p>
      {held?.message ? <p className="break-words">{held.message}</p> : null}
      {finalizers.length > 0 ? (
        <p className="break-words">{say("waitsFor", { finalizers: finalizers.join(", ") })}</p>
      ) : null}
    </div>
  );
}
