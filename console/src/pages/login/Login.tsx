import { type FormEvent, type ReactNode, useState } from "react";
import { Navigate, useSearchParams } from "react-router";
import { enter, useSession } from "~/api/session";
import { Button } from "~/components/Button";
import { Failure } from "~/components/Failure";
import { Field, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { Frame } from "./Frame";
import { Enrolment, RecoveryCodes } from "./secondfactor";
import { beginProvider, confirm, logIn, logInByDirectory, type Step, safeTarget, setPassword, verify } from "./steps";
import { words } from "./words";

const WAYS = ["Password", "Oidc", "Ldap"] as const;
type Way = (typeof WAYS)[number];
const LAST_WAY = "vcstack-login";

function lastWay(): { way: Way; provider: string } {
  const [way = "", provider = ""] = (localStorage.getItem(LAST_WAY) ?? "").split(" ");
  return { way: WAYS.find((each) => each === way) ?? "Password", provider };
}

export function Component() {
  const say = useWords(words);
  const [parameters] = useSearchParams();
  const { state, ended } = useSession();
  const [step, setStep] = useState<Step>({ kind: "Credentials" });
  const to = safeTarget(parameters.get("to"));

  const advance = (next: Step) => {
    if (next.kind === "Done") enter(next.tokens);
    else setStep(next);
  };
  // Recovery codes are shown once, so nothing may take them away.
  if (state === "In" && step.kind !== "Recovery") return <Navigate to={to} replace />;
  switch (step.kind) {
    case "SetPassword":
      return <NewPassword onSet={(password) => setPassword(step.challenge, password).then(advance)} />;
    case "VerifyMFA":
      return (
        <Form
          title={say("verifyTitle")}
          action={say("goOn")}
          submit={(form) => verify(step.challenge, text(form, "code")).then(advance)}
        >
          <Field label={say("code")}>
            {(control) => <Input {...control} name="code" autoComplete="one-time-code" required autoFocus />}
          </Field>
          <Button onClick={() => setStep({ kind: "Credentials" })}>{say("back")}</Button>
        </Form>
      );
    case "EnrolMFA":
      return (
        <Form
          title={say("enrolTitle")}
          action={say("goOn")}
          submit={(form) => confirm(step.challenge, text(form, "code")).then(advance)}
        >
          <Enrolment enrolment={step.enrolment} />
        </Form>
      );
    case "Recovery":
      return (
        <Frame title={say("recoveryTitle")}>
          <RecoveryCodes codes={step.codes} />
          <Button
            look="primary"
            onClick={() => {
              enter(step.tokens);
              setStep({ kind: "Credentials" });
            }}
          >
            {say("recoveryDone")}
          </Button>
        </Frame>
      );
    default:
      return <Credentials ended={ended} to={to} onStep={advance} />;
  }
}

function Credentials({ ended, to, onStep }: { ended: boolean; to: string; onStep: (step: Step) => void }) {
  const say = useWords(words);
  const [parameters] = useSearchParams();
  const [{ way, provider }, setWay] = useState(lastWay);
  const submit = async (form: FormData) => {
    const named = text(form, "provider").trim();
    localStorage.setItem(LAST_WAY, way === "Password" ? way : `${way} ${named}`);
    if (way === "Oidc") location.assign(await beginProvider(named, to));
    else if (way === "Ldap") onStep(await logInByDirectory(named, text(form, "user").trim(), text(form, "password")));
    else onStep(await logIn(text(form, "user").trim(), text(form, "password")));
  };
  return (
    <Form title={say("title")} action={say("logIn")} submit={submit}>
      {ended ? (
        <p role="status" className="rounded-md bg-info-ground p-2 text-info">
          {say("ended")}
        </p>
      ) : null}
      <fieldset className="flex flex-wrap gap-x-4 gap-y-1">
        <legend className="mb-1 font-medium">{say("way")}</legend>
        {WAYS.map((each) => (
          <label key={each} className="flex items-center gap-1.5">
            <input type="radio" name="way" checked={way === each} onChange={() => setWay({ way: each, provider })} />
            {say(`way.${each}`)}
          </label>
        ))}
      </fieldset>
      {way !== "Password" ? (
        <Field label={say("provider")} help={say("providerHelp")}>
          {(control) => (
            <Input
              {...control}
              name="provider"
              defaultValue={parameters.get("provider") ?? provider}
              required
              autoCapitalize="none"
              spellCheck={false}
            />
          )}
        </Field>
      ) : null}
      {way !== "Oidc" ? (
        <>
          <Field label={say("user")}>
            {(control) => (
              <Input
                {...control}
                name="user"
                autoComplete="username"
                autoCapitalize="none"
                spellCheck={false}
                required
                autoFocus
              />
            )}
          </Field>
          <Field
            label={say(way === "Ldap" ? "directoryPassword" : "password")}
            help={way === "Password" ? say("forgot") : undefined}
          >
            {(control) => (
              <Input {...control} name="password" type="password" autoComplete="current-password" required />
            )}
          </Field>
        </>
      ) : null}
    </Form>
  );
}

function NewPassword({ onSet }: { onSet: (password: string) => Promise<void> }) {
  const say = useWords(words);
  const [differ, setDiffer] = useState(false);
  const submit = async (form: FormData) => {
    const different = text(form, "new") !== text(form, "repeat");
    setDiffer(different);
    if (!different) await onSet(text(form, "new"));
  };
  return (
    <Form title={say("setTitle")} action={say("goOn")} submit={submit}>
      <p>{say("setText")}</p>
      <Field label={say("newPassword")}>
        {(control) => (
          <Input
            {...control}
            name="new"
            type="password"
            autoComplete="new-password"
            minLength={12}
            required
            autoFocus
          />
        )}
      </Field>
      <Field label={say("repeat")} error={differ ? say("differ") : undefined}>
        {(control) => <Input {...control} name="repeat" type="password" autoComplete="new-password" required />}
      </Field>
    </Form>
  );
}

interface FormProps {
  title: string;
  action: string;
  submit: (form: FormData) => Promise<void>;
  children: ReactNode;
}

function Form({ title, action, submit, children }: FormProps) {
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const onSubmit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await submit(new FormData(event.currentTarget));
    } catch (caught) {
      setError(caught);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Frame title={title}>
      <form onSubmit={onSubmit} className="flex flex-col gap-4">
        {children}
        {error ? <Failure error={error} /> : null}
        <Button look="primary" type="submit" disabled={busy}>
          {action}
        </Button>
      </form>
    </Frame>
  );
}

const text = (form: FormData, name: string): string => String(form.get(name) ?? "");
