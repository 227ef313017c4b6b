import { useQueryClient } from "@tanstack/react-query";
import { CircleCheck } from "lucide-react";
import { useEffect, useState } from "react";
import { useNavigate } from "react-router";
import { MANAGER, messageOf, request, writeObject } from "~/api/client";
import { Refused } from "~/api/errors";
import { collectionPath, objectLink } from "~/api/kinds";
import type { Schemas } from "~/api/types";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { write } from "~/yaml/document";
import { draftKey, type Manifest } from "./manifest";
import { words } from "./words";

/** Has quota, policies and all rules looked at without making anything; returns what they warn of. Raises Refused. */
async function check(manifest: Manifest): Promise<string[]> {
  const body = { items: [manifest], fieldManager: MANAGER };
  const plan = await request<Schemas["ApplyPlanReply"]>("POST", "/api/v1/plan", { body });
  const [item] = plan.items;
  if (item?.refusal) throw new Refused(item.refusal);
  return item?.warnings ?? [];
}

/** Shows what would be made and whether it may, then makes it. */
export function Review({ manifest, project, onClose }: { manifest: Manifest; project: string; onClose: () => void }) {
  const say = useWords(words);
  const navigate = useNavigate();
  const cache = useQueryClient();
  const [state, setState] = useState<"checking" | "good" | "making">("checking");
  const [warnings, setWarnings] = useState<string[]>([]);
  const [error, setError] = useState<unknown>(null);
  const text = write(manifest);
  const name = manifest.metadata.name;

  useEffect(() => {
    let over = false;
    check(manifest).then(
      (found) => {
        if (over) return;
        setWarnings(found);
        setState("good");
      },
      (failure) => {
        if (!over) setError(failure);
      },
    );
    return () => {
      over = true;
    };
  }, [manifest]);

  const launch = async () => {
    setState("making");
    try {
      await writeObject("POST", collectionPath("instances", project), { body: manifest });
      cache.removeQueries({ queryKey: draftKey(project) });
      toast("good", say("launched", { name }));
      void navigate(objectLink("instances", project, name));
    } catch (failure) {
      toast("bad", messageOf(failure));
      setState("good");
    }
  };
  return (
    <Dialog
      open
      onOpenChange={onClose}
      side
      title={say("reviewTitle")}
      actions={
        <>
          <CopyButton command text={`vcctl apply -f - <<'EOF'\n${text}EOF`} />
          <Button onClick={onClose}>{say("back")}</Button>
          <Button look="primary" disabled={state !== "good"} onClick={() => void launch()}>
            {say("launch")}
          </Button>
        </>
      }
    >
      {error ? (
        <Failure error={error} />
      ) : state === "checking" ? (
        <Busy label={say("checking")} />
      ) : (
        <p className="flex items-center gap-2 rounded-md bg-good-ground p-3 text-good">
          <CircleCheck aria-hidden className="size-4 shrink-0" />
          {say("fits")}
        </p>
      )}
      {warnings.map((warning) => (
        <p key={warning} className="rounded-md bg-warn-ground p-3 text-warn">
          {warning}
        </p>
      ))}
      <section
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard
        tabIndex={0}
        aria-label={say("manifest")}
        className="overflow-auto rounded-md border border-line bg-ground p-3 whitespace-pre-wrap font-mono text-xs"
      >
        {text}
      </section>
    </Dialog>
  );
}
