import { useState } from "react";
import { Field, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { words } from "./words";

const SECRET = { type: "password", autoComplete: "new-password", required: true } as const;

/** The fields for a password of one's own, sent as `new`: its form is not sent while the two differ. */
export function NewPassword({ autoFocus = false }: { autoFocus?: boolean }) {
  const say = useWords(words);
  const [first, setFirst] = useState("");
  const [again, setAgain] = useState("");
  const [told, setTold] = useState(false);
  const differ = first === again ? "" : say("differ");
  return (
    <>
      <Field label={say("newPassword")}>
        {(control) => (
          <Input
            {...control}
            {...SECRET}
            name="new"
            minLength={12}
            autoFocus={autoFocus}
            value={first}
            onChange={({ target }) => setFirst(target.value)}
          />
        )}
      </Field>
      <Field label={say("repeat")} error={told && differ}>
        {(control) => (
          <Input
            {...control}
            {...SECRET}
            ref={(input) => input?.setCustomValidity(differ)}
            value={again}
            onChange={({ target }) => setAgain(target.value)}
            onInvalid={(event) => {
              if (!differ) return;
              event.preventDefault();
              setTold(true);
            }}
          />
        )}
      </Field>
    </>
  );
}
