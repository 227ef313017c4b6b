import type { ReactNode } from "react";
import { Refused, Unreachable } from "~/api/errors";
import { Button } from "~/components/Button";
import { Field, Input } from "~/components/Field";
import { Form, text } from "~/components/Form";
import { useLanguage, useWords } from "~/i18n/language";
import { Frame } from "./Frame";
import { NewPassword } from "./NewPassword";
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
      return (
        <StepForm
          title={say("setTitle")}
          action={say("goOn")}
          submit={(form) => setPassword(step.challenge, text(form, "new")).then(onStep)}
        >
          <p>{say("setText")}</p>
          <NewPassword autoFocus />
        </StepForm>
      );
    case "VerifyMFA":
      return (
        <StepForm
          title={say("verifyTitle")}
          action={say("goOn")}
          submit={(form) => verify(step.challenge, text(form, "code")).then(onStep)}
        >
          <Field label={say("code")}>
            {(control) => <Input {...control} name="code" autoComplete="one-time-code" required autoFocus />}
          </Field>
          {again}
        </StepForm>
      );
    case "EnrolMFA":
      return (
        <StepForm
          title={say("enrolTitle")}
          action={say("goOn")}
          submit={(form) => confirm(step.challenge, text(form, "code")).then(onStep)}
        >
          <Enrolment enrolment={step.enrolment} />
          {again}
        </StepForm>
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

interface StepProps {
  title: string;
  action: string;
  submit: (form: FormData) => Promise<void>;
  children: ReactNode;
  /** Stands below the form. */
  below?: ReactNode;
}

/** One step, with its errors in place. */
export function StepForm({ title, below, submit, ...form }: StepProps) {
  const say = useWords(words);
  const language = useLanguage();
  const telling = async (data: FormData) => {
    try {
      await submit(data);
    } catch (error) {
      // The API's words are English, and say more than these.
      throw language === "en" ? error : toldOf(error, say);
    }
  };
  return (
    <Frame title={title}>
      <Form {...form} submit={telling} />
      {below}
    </Frame>
  );
}

/** Returns the usual refusals in the language of the page, others as they are. */
function toldOf(error: unknown, say: ReturnType<typeof useWords<keyof typeof words.en>>): unknown {
  if (error instanceof Unreachable) return new Error(say("away"));
  if (!(error instanceof Refused)) return error;
  if (error.code === 401) return new Error(say("wrong"));
  const seconds = error.status.details?.retryAfterSeconds;
  return error.code === 429 && seconds ? new Error(say("tooMany", { seconds })) : error;
}
