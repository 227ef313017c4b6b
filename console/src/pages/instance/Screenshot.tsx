import { Download } from "lucide-react";
import { useEffect, useState } from "react";
import { authorizedFetch } from "~/api/client";
import { refusalOf } from "~/api/errors";
import { vcctl } from "~/api/kinds";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { words } from "./words";

async function take(path: string): Promise<string> {
  const answer = await authorizedFetch(new Request(new URL(`${path}/screenshot`, globalThis.location.origin)));
  if (!answer.ok) throw await refusalOf(answer);
  return URL.createObjectURL(await answer.blob());
}

interface ScreenshotProps {
  path: string;
  project: string;
  name: string;
  onClose: () => void;
}

/** A picture of the screen as it is now, to be kept. */
export function Screenshot({ path, project, name, onClose }: ScreenshotProps) {
  const say = useWords(words);
  const [picture, setPicture] = useState<string | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    let made: string | null = null;
    let over = false;
    take(path).then(
      (found) => {
        if (over) return URL.revokeObjectURL(found);
        made = found;
        setPicture(found);
      },
      (failure) => setError(failure),
    );
    return () => {
      over = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [path]);
  return (
    <Dialog
      open
      onOpenChange={onClose}
      title={say("screenshotOf", { name })}
      className="max-w-3xl"
      actions={
        <>
          <CopyButton command text={vcctl("screenshot", name, "-p", project, "--file", `${name}.png`)} />
          {picture ? (
            <Button look="primary" asChild>
              <a href={picture} download={`${name}.png`}>
                <Download aria-hidden />
                {say("download")}
              </a>
            </Button>
          ) : null}
        </>
      }
    >
      {error ? (
        <Failure error={error} />
      ) : picture ? (
        <img src={picture} alt={say("screenshotOf", { name })} className="w-full rounded border border-line" />
      ) : (
        <Busy />
      )}
    </Dialog>
  );
}
