import { useMemo } from "react";
import { encode } from "uqr";
import type { Schemas } from "~/api/types";
import { CopyButton } from "~/components/CopyButton";
import { Field, Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { words } from "./words";

/** The secret of a second factor as a QR code and as text, and the field for the first code. */
export function Enrolment({ enrolment }: { enrolment: Schemas["EnrolmentReply"] }) {
  const say = useWords(words);
  return (
    <>
      <p>{say("enrolText")}</p>
      <QrCode text={enrolment.uri} label={say("enrolAlt")} />
      <p>
        {say("enrolSecret")}{" "}
        <span className="inline-flex items-center gap-1">
          <code data-testid="secret" className="break-all rounded bg-raised px-1 font-mono">
            {enrolment.secret}
          </code>
          <CopyButton text={enrolment.secret} />
        </span>
      </p>
      <Field label={say("enrolCode")}>
        {(control) => (
          <Input {...control} name="code" inputMode="numeric" autoComplete="one-time-code" required autoFocus />
        )}
      </Field>
    </>
  );
}

export function RecoveryCodes({ codes }: { codes: string[] }) {
  const say = useWords(words);
  return (
    <>
      <p>{say("recoveryText")}</p>
      <ul data-testid="recovery" className="grid grid-cols-2 gap-1 rounded-md bg-raised p-3 font-mono">
        {codes.map((code) => (
          <li key={code}>{code}</li>
        ))}
      </ul>
      <CopyButton text={codes.join("\n")} icon={false} />
    </>
  );
}

function QrCode({ text, label }: { text: string; label: string }) {
  const { size, path } = useMemo(() => {
    const { data, size } = encode(text, { ecc: "M", border: 4 });
    const cells = data.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : [])));
    return { size, path: cells.join("") };
  }, [text]);
  return (
    <svg viewBox={`0 0 ${size} ${size}`} role="img" aria-label={label} className="mx-auto size-52 rounded bg-white">
      <path d={path} fill="#000" shapeRendering="crispEdges" />
    </svg>
  );
}
