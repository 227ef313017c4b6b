import { type FormEvent, type ReactNode, useState } from "react";
import { Button } from "~/components/Button";
import { Failure } from "~/components/Failure";
import { Field, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { Frame } from "./Frame";
import { Enrolment, RecoveryCodes } from "./secondfactor";
import { confirm, type Step, setPassword, verify } from "./steps";
import { words } from "./words";

interface RemainingProps {
  step: Exclude<Step, { kind: "Credentials" | "Done" }>;
  onStep: (next: Step) => void;
}

/** What is left to do after the first proof, whoever took it: the cloud, a directory or an identity provider. */
export function Remaining({ step, onStep }: RemainingProps) {
  const say = useWords(words);
  const again = <Button onClick={() => onStep({ kind: "Credentials" })}>{say("back")}</Button>;
  switch (step.kind) {
    case "SetPassword":
      return <NewPassword onSet={(password) => setPassword(step.challenge, password).then(onStep)} />;
    case "VerifyMFA":
      return (
        <Form
          title={say("verifyTitle")}
          action={say("goOn")}
          submit={(form) => verify(step.challenge, text(form, "code")).then(onStep)}
        >
          <Field label={say("code")}>
            {(control) => <Input {...control} name="code" autoComplete="one-time-code" required autoFocus />}
          </Field>
          {again}
        </Form>
      );
    case "EnrolMFA":
      return (
        <Form
          title={say("enrolTitle")}
          action={say("goOn")}
          submit={(form) => confirm(step.challenge, text(form, "code")).then(onStep)}
        >
          <Enrolment enrolment={step.enrolment} />
          {again}
        </Form>
      );
    case "Recovery":
      return (
        <Frame title={say("recoveryTitle")}>
          <RecoveryCodes codes={step.codes} />
          <Button look="primary" onClick={() => onStep({ kind: "Done", tokens: step.tokens })}>
            {say("recoveryDone")}
          </Button>
        </Frame>
      );
  }
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
  /** Stands below the form. */
  below?: ReactNode;
}

/** One step, with its errors in place. */
export function Form({ title, action, submit, children, below }: FormProps) {
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
      {below}
    </Frame>
  );
}

export const text = (form: FormData, name: string): string => String(form.get(name) ?? "");
