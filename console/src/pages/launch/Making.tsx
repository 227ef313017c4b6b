import { type FormEvent, useState } from "react";
import { messageOf, writeObject } from "~/api/client";
import { collectionPath } from "~/api/kinds";
import { Button } from "~/components/Button";
import { Field, INPUT, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { networkOf } from "./manifest";
import { words } from "./words";

const PLURALS: Record<string, string> = { Network: "networks", Subnet: "subnets" };

/** Makes a network with addresses, for who has none yet. */
export function NewNetwork({ project, onMade }: { project: string; onMade: (name: string) => void }) {
  const say = useWords(words);
  const [name, setName] = useState("main");
  const [cidr, setCidr] = useState("10.10.0.0/24");
  const [error, setError] = useState("");
  const make = async (event: FormEvent) => {
    event.preventDefault();
    setError("");
    try {
      for (const manifest of networkOf(project, name, cidr)) {
        await writeObject("POST", collectionPath(PLURALS[manifest.kind] ?? "", project), { body: manifest });
      }
      toast("good", say("made", { name }));
      onMade(name);
    } catch (failure) {
      setError(messageOf(failure));
    }
  };
  return (
    <form onSubmit={(event) => void make(event)} className="flex flex-wrap items-end gap-2">
      <Field label={say("networkName")}>
        {(control) => <Input {...control} value={name} required onChange={(event) => setName(event.target.value)} />}
      </Field>
      <Field label={say("cidr")}>
        {(control) => <Input {...control} value={cidr} required onChange={(event) => setCidr(event.target.value)} />}
      </Field>
      <Button type="submit">{say("create")}</Button>
      {error ? (
        <p role="alert" className="w-full text-bad text-xs">
          {error}
        </p>
      ) : null}
    </form>
  );
}

/** Adds a public key to the project. */
export function NewKey({ project, onMade }: { project: string; onMade: (name: string) => void }) {
  const say = useWords(words);
  const [name, setName] = useState("");
  const [key, setKey] = useState("");
  const [error, setError] = useState("");
  const make = async (event: FormEvent) => {
    event.preventDefault();
    setError("");
    const body = { metadata: { project, name }, spec: { publicKey: key.trim() } };
    try {
      await writeObject("POST", collectionPath("sshkeys", project), { body });
      toast("good", say("keyMade", { name }));
      onMade(name);
      setName("");
      setKey("");
    } catch (failure) {
      setError(messageOf(failure));
    }
  };
  return (
    <form onSubmit={(event) => void make(event)} className="flex flex-col gap-2">
      <Field label={say("keyName")}>
        {(control) => <Input {...control} value={name} required onChange={(event) => setName(event.target.value)} />}
      </Field>
      <Field label={say("publicKey")} {...(error ? { error } : {})}>
        {(control) => (
          <textarea
            {...control}
            value={key}
            required
            rows={3}
            spellCheck={false}
            placeholder="ssh-ed25519 AAAA…"
            className={`${INPUT} font-mono text-xs`}
            onChange={(event) => setKey(event.target.value)}
          />
        )}
      </Field>
      <Button type="submit" className="self-start">
        {say("create")}
      </Button>
    </form>
  );
}
