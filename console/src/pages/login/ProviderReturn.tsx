import { useEffect, useRef, useState } from "react";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";
import { enter } from "~/api/session";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { Frame } from "./Frame";
import { completeProvider, safeTarget, takeUnderWay } from "./steps";
import { words } from "./words";

/** Where an identity provider sends the browser back to. */
export function Component() {
  const say = useWords(words);
  const { provider = "" } = useParams();
  const [given] = useSearchParams();
  const navigate = useNavigate();
  const [error, setError] = useState<unknown>(null);
  const begun = useRef(false);

  useEffect(() => {
    if (begun.current) return; // the code is good once, and effects run twice while one builds pages
    begun.current = true;
    const underWay = takeUnderWay(provider, given.get("state"));
    const refusal = given.get("error");
    if (!underWay) setError(new Error(say("noReturn")));
    else if (refusal)
      setError(new Error(say("providerRefused", { message: given.get("error_description") ?? refusal })));
    else {
      completeProvider(underWay.challenge, given).then((tokens) => {
        enter(tokens);
        void navigate(safeTarget(underWay.to), { replace: true });
      }, setError);
    }
  }, [provider, given, navigate, say]);

  return (
    <Frame title={say("returning")}>
      {error ? (
        <>
          <Failure error={error} />
          <Button asChild>
            <Link to="/login">{say("back")}</Link>
          </Button>
        </>
      ) : (
        <Busy label={say("returning")} />
      )}
    </Frame>
  );
}
