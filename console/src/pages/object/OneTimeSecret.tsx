import { KeyRound } from "lucide-react";
import { useState } from "react";
import { request } from "~/api/client";
import { type KindInfo, objectPath, vcctl } from "~/api/kinds";
import type { Resource, Schemas } from "~/api/types";
import { useAttempt } from "~/components/attempt";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Dialog } from "~/components/Dialog";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { words } from "./words";

/** The kinds for whose objects the API makes a secret. */
const MAKERS = {
  User: async (path: string) => (await request<Schemas["InitialSecretReply"]>("POST", `${path}/initialsecret`)).secret,
  APIKey: async (path: string) => {
    const { keyId, secret } = await request<Schemas["KeySecretReply"]>("POST", `${path}/secret`);
    return `${keyId}:${secret}`;
  },
};
type HasSecret = keyof typeof MAKERS;

const isMaker = (kind: string): kind is HasSecret => Object.hasOwn(MAKERS, kind);

/** Makes what a user logs in with for the first time, or what a program uses. It is shown once. */
export function OneTimeSecret({ kind: { kind, plural }, object }: { kind: KindInfo; object: Resource }) {
  const say = useWords(words);
  const [open, setOpen] = useState(false);
  if (!isMaker(kind)) return null;
  const { project, name } = object.metadata;
  return (
    <>
      <Button onClick={() => setOpen(true)}>
        <KeyRound aria-hidden />
        {say(`secret.${kind}`)}
      </Button>
      {open ? (
        <Making
          kind={kind}
          path={objectPath(plural, project, name)}
          name={name}
          command={
            kind === "User"
              ? vcctl("auth", "reset-user", name)
              : vcctl("auth", "key", "rotate", name, ...(project ? ["--project", project] : []))
          }
          onClose={() => setOpen(false)}
        />
      ) : null}
    </>
  );
}

interface MakingProps {
  kind: HasSecret;
  path: string;
  name: string;
  command: string;
  onClose: () => void;
}

function Making({ kind, path, name, command, onClose }: MakingProps) {
  const say = useWords(words);
  const [secret, setSecret] = useState("");
  const { busy, error, attempt } = useAttempt(async () => setSecret(await MAKERS[kind](path)));
  return (
    <Dialog
      open
      onOpenChange={(stays) => stays || onClose()}
      title={say(`secretTitle.${kind}`, { name })}
      description={say(`${secret ? "secretMade" : "secretText"}.${kind}`, { name })}
      actions={
        secret ? (
          <Button onClick={onClose}>{say("close")}</Button>
        ) : (
          <>
            <CopyButton text={command} command />
            <Button onClick={onClose}>{say("cancel")}</Button>
            <Button look="primary" disabled={busy} onClick={() => void attempt()}>
              {say("makeSecret")}
            </Button>
          </>
        )
      }
    >
      {error ? <Failure error={error} /> : null}
      {secret ? (
        <p className="flex items-center gap-2 rounded-md bg-raised p-2">
          <code className="min-w-0 flex-1 break-all font-mono" data-testid="secret">
            {secret}
          </code>
          <CopyButton text={secret} />
        </p>
      ) : null}
    </Dialog>
  );
}
