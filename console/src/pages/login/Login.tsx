import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Navigate, useSearchParams } from "react-router";
import { enter, useSession } from "~/api/session";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { Failure } from "~/components/Failure";
import { Field, Input } from "~/components/Field";
import { text } from "~/components/Form";
import { useWords } from "~/i18n/language";
import { Frame } from "./Frame";
import { Remaining, StepForm } from "./Remaining";
import {
  beginProvider,
  lastProvider,
  logIn,
  logInByDirectory,
  offeredProviders,
  type Provider,
  rememberProvider,
  type Step,
  safeTarget,
} from "./steps";
import { words } from "./words";

export function Component() {
  const say = useWords(words);
  const [parameters] = useSearchParams();
  const { state } = useSession();
  const [step, setStep] = useState<Step>({ kind: "Credentials" });
  const to = safeTarget(parameters.get("to"));

  const advance = (next: Step) => {
    if (next.kind === "Done") enter(next.tokens);
    setStep(next);
  };
  // Recovery codes are shown once, so nothing may take them away.
  if (state === "In" && step.kind !== "Recovery") return <Navigate to={to} replace />;
  if (state === "Unknown" || step.kind === "Done") {
    return (
      <Frame title={say("title")}>
        <Busy />
      </Frame>
    );
  }
  return step.kind === "Credentials" ? (
    <Credentials to={to} domain={parameters.get("domain")} onStep={advance} />
  ) : (
    <Remaining step={step} onStep={advance} />
  );
}

function Credentials({ to, domain, onStep }: { to: string; domain: string | null; onStep: (step: Step) => void }) {
  const say = useWords(words);
  const { ended } = useSession();
  const { data: offered = [], error } = useQuery({
    queryKey: ["login-providers", domain],
    queryFn: () => offeredProviders(domain),
  });
  const [last, setLast] = useState(lastProvider);
  const [chosen, setChosen] = useState(last?.type === "LDAP" ? last.name : "");
  const [another, setAnother] = useState(false);
  const [failure, setFailure] = useState<unknown>(null);
  // Who typed a provider's name here once need not do so again.
  const known = last && !offered.some((each) => each.name === last.name) ? [...offered, last] : offered;
  const directories = known.filter((each) => each.type === "LDAP");
  const directory = directories.find((each) => each.name === chosen);

  const goTo = async (provider: Provider) => {
    const address = await beginProvider(provider.name, to);
    const found: Provider = address === null ? { ...provider, type: "LDAP" } : provider;
    rememberProvider(found);
    if (address !== null) return location.assign(address);
    setLast(found);
    setChosen(found.name);
    setAnother(false);
  };
  const submit = async (form: FormData) => {
    const [user, password] = [text(form, "user").trim(), text(form, "password")];
    const next = directory ? await logInByDirectory(directory.name, user, password) : await logIn(user, password);
    rememberProvider(directory ?? null);
    onStep(next);
  };
  if (another) {
    return (
      <StepForm
        key="another"
        title={say("anotherTitle")}
        action={say("goOn")}
        submit={(form) => goTo({ name: text(form, "provider").trim(), displayName: "", type: "OIDC" })}
        below={<Button onClick={() => setAnother(false)}>{say("withPassword")}</Button>}
      >
        <Field label={say("provider")} help={say("providerHelp")}>
          {(control) => (
            <Input {...control} name="provider" required autoFocus autoCapitalize="none" spellCheck={false} />
          )}
        </Field>
      </StepForm>
    );
  }
  const elsewhere = (
    <div className="flex flex-col gap-2">
      <p className="flex items-center gap-2 text-quiet before:h-px before:flex-1 before:bg-line after:h-px after:flex-1 after:bg-line">
        {say("or")}
      </p>
      {failure ? <Failure error={failure} /> : null}
      {error ? <Failure error={error} /> : null}
      {known
        .filter((each) => each.type === "OIDC")
        .map((each) => (
          <Button
            key={each.name}
            className="whitespace-normal break-words"
            onClick={() => {
              setFailure(null);
              goTo(each).catch(setFailure);
            }}
          >
            {each.displayName || say("by", { provider: each.name })}
          </Button>
        ))}
      <Button look="quiet" onClick={() => setAnother(true)}>
        {say("another")}
      </Button>
    </div>
  );
  return (
    <StepForm title={say("title")} action={say("logIn")} submit={submit} below={elsewhere}>
      {ended ? (
        <p role="status" className="rounded-md bg-info-ground p-2 text-info">
          {say("ended")}
        </p>
      ) : null}
      {directories.length > 0 ? (
        <fieldset className="flex flex-col gap-1">
          <legend className="mb-1 font-medium">{say("way")}</legend>
          {[{ name: "", displayName: say("ownPassword") }, ...directories].map((each) => (
            <label key={each.name} className="flex items-center gap-1.5">
              <input
                type="radio"
                name="way"
                checked={(directory?.name ?? "") === each.name}
                onChange={() => setChosen(each.name)}
              />
              <span className="min-w-0 break-words">{each.displayName || each.name}</span>
            </label>
          ))}
        </fieldset>
      ) : null}
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
      <Field label={say(directory ? "directoryPassword" : "password")} help={directory ? undefined : say("forgot")}>
        {(control) => <Input {...control} name="password" type="password" autoComplete="current-password" required />}
      </Field>
    </StepForm>
  );
}
