import { EllipsisVertical, Pause, Play, Power as PowerIcon, RotateCw } from "lucide-react";
import { type ReactNode, useState } from "react";
import { useNavigate } from "react-router";
import { messageOf, writeObject } from "~/api/client";
import { collectionPath, listLink, objectPath, vcctl } from "~/api/kinds";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { Menu, MenuItem, MenuLine } from "~/components/Menu";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import type { Instance, PowerState } from "./types";
import { words } from "./words";

type Action = "start" | "resume" | "pause" | "stop" | "reboot" | "rebuild" | "delete";
type Asked = "stop" | "reboot" | "rebuild" | "delete";
const asks = (action: Action): action is Asked => ["stop", "reboot", "rebuild", "delete"].includes(action);
const STATES: Partial<Record<Action, PowerState>> = {
  start: "Running",
  resume: "Running",
  pause: "Paused",
  stop: "Stopped",
};

/** Returns a name that no other task has: the instance's, what is done, and something random. */
function taskName(name: string, type: string): string {
  const ending = `-${type.toLowerCase()}-${crypto.randomUUID().slice(0, 6)}`;
  return name.slice(0, 63 - ending.length).replace(/-+$/, "") + ending;
}

async function carryOut(action: Action, { metadata }: Instance, project: string, dryRun = false): Promise<void> {
  const { name, uid } = metadata;
  const path = objectPath("instances", project, name);
  const query = dryRun ? { dryRun: "All" } : {};
  const state = STATES[action];
  if (state) {
    const body = { spec: { powerState: state } };
    await writeObject("PATCH", path, { body, query, contentType: "application/merge-patch+json" });
  } else if (action === "delete") {
    // The very one that was shown, not another one of its name.
    await writeObject("DELETE", path, { query: { ...query, uid } });
  } else {
    const type = action === "reboot" ? "Reboot" : "Recreate";
    const metadata = { project, name: taskName(name, type) };
    const body = { metadata, spec: { type, target: { kind: "Instance", name } } };
    await writeObject("POST", collectionPath("tasks", project), { body, query });
  }
}

/** What can be done to the machine. What loses something says what, and asks. */
export function Power({ instance, project }: { instance: Instance; project: string }) {
  const say = useWords(words);
  const navigate = useNavigate();
  const [asked, setAsked] = useState<Asked | null>(null);
  const [refusal, setRefusal] = useState<unknown>(null);
  const name = instance.metadata.name;
  const wanted = instance.spec.powerState ?? "Running";
  const deleting = Boolean(instance.metadata.deletionTimestamp);

  const run = async (action: Action) => {
    setAsked(null);
    try {
      await carryOut(action, instance, project);
    } catch (error) {
      toast("bad", messageOf(error));
      return;
    }
    const before: Action | undefined =
      action in STATES ? (wanted === "Running" ? "start" : wanted === "Paused" ? "pause" : "stop") : undefined;
    const undo = before && { label: say("undo"), run: () => void run(before) };
    toast("good", say(`${action}Done`, { name }), undo);
    if (action === "delete") void navigate(listLink("instances", project));
  };
  // What the API would refuse is said before anybody confirms it.
  const ask = (action: Action) => {
    if (!asks(action)) return void run(action);
    setRefusal(null);
    setAsked(action);
    carryOut(action, instance, project, true).catch(setRefusal);
  };
  const item = (action: Action, icon?: ReactNode, danger = false) => (
    <MenuItem onSelect={() => ask(action)} danger={danger}>
      {icon}
      {say(action)}
    </MenuItem>
  );
  return (
    <div className="flex flex-wrap items-center gap-2">
      {wanted === "Running" ? (
        <>
          <Button disabled={deleting} onClick={() => ask("reboot")}>
            <RotateCw aria-hidden />
            {say("reboot")}
          </Button>
          <Button disabled={deleting} onClick={() => ask("stop")}>
            <PowerIcon aria-hidden />
            {say("stop")}
          </Button>
        </>
      ) : (
        <Button look="primary" disabled={deleting} onClick={() => ask(wanted === "Paused" ? "resume" : "start")}>
          <Play aria-hidden />
          {say(wanted === "Paused" ? "resume" : "start")}
        </Button>
      )}
      <Menu
        trigger={
          <Button icon aria-label={say("more")} disabled={deleting}>
            <EllipsisVertical aria-hidden />
          </Button>
        }
      >
        {wanted === "Running" ? item("pause", <Pause aria-hidden />) : null}
        {wanted === "Paused" ? item("stop", <PowerIcon aria-hidden />) : null}
        {item("rebuild", undefined, true)}
        <MenuLine />
        {item("delete", undefined, true)}
      </Menu>
      {asked ? (
        <Dialog
          open
          onOpenChange={() => setAsked(null)}
          title={say(`${asked}Ask`, { name, image: instance.spec.image })}
          description={say(`${asked}Loses`)}
          actions={
            <>
              <CopyButton command text={commandOf(asked, name, project)} />
              <Button onClick={() => setAsked(null)}>{say("cancel")}</Button>
              <Button look="danger" disabled={Boolean(refusal)} onClick={() => void run(asked)}>
                {say(asked)}
              </Button>
            </>
          }
        >
          {refusal ? <Failure error={refusal} /> : null}
        </Dialog>
      ) : null}
    </div>
  );
}

const commandOf = (action: Action, name: string, project: string): string =>
  action === "delete" ? vcctl("delete", `instance/${name}`, "-p", project) : vcctl(action, name, "-p", project);
