import { useEffect, useRef, useState } from "react";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";
import { enter, useSession } from "~/api/session";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { Frame } from "./Frame";
import { Remaining } from "./Remaining";
import { completeProvider, type Step, safeTarget, takeUnderWay } from "./steps";
import { words } from "./words";

/** Where an identity provider sends the browser back to. */
export function Component() {
  const say = useWords(words);
  const { provider = "" } = useParams();
  const [given] = useSearchParams();
  const navigate = useNavigate();
  const isKnown = useSession((session) => session.state !== "Unknown");
  const [step, setStep] = useState<Step>({ kind: "Credentials" });
  const [to, setTo] = useState("/");
  const [error, setError] = useState<unknown>(null);
  const begun = useRef(false);
  const login = to === "/" ? "/login" : `/login?${new URLSearchParams({ to })}`;

  const advance = (next: Step, target: string) => {
    if (next.kind === "Done") {
      enter(next.tokens);
      void navigate(target, { replace: true });
    } else if (next.kind === "Credentials") void navigate(target, { replace: true });
    else setStep(next);
  };
  useEffect(() => {
    // Not before it is known whether there was a session: the answer that there is none takes the cookie away.
    if (begun.current || !isKnown) return;
    begun.current = true; // the code is good once, and effects run twice while one builds pages
    const underWay = takeUnderWay(provider, given.get("state"));
    const refusal = given.get("error");
    const target = safeTarget(underWay?.to ?? null);
    setTo(target);
    if (!underWay) setError(new Error(say("noReturn")));
    else if (refusal)
      setError(new Error(say("providerRefused", { message: given.get("error_description") ?? refusal })));
    else completeProvider(underWay.challenge, given).then((next) => advance(next, target), setError);
  });

  if (step.kind !== "Credentials" && step.kind !== "Done")
    return <Remaining step={step} onStep={(next) => advance(next, next.kind === "Credentials" ? login : to)} />;
  return (
    <Frame title={say("returning")}>
      {error ? (
        <>
          <Failure error={error} />
          <Button asChild>
            <Link to={login}>{say("back")}</Link>
          </Button>
        </>
      ) : (
        <Busy label={say("returning")} />
      )}
    </Frame>
  );
}
