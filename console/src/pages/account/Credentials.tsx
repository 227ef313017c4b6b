import { useState } from "react";
import { collectionPath } from "~/api/kinds";
import { useLiveObject } from "~/api/lists";
import { useMay } from "~/api/rights";
import { freshToken } from "~/api/session";
import type { Me, Resource, Schemas } from "~/api/types";
import { Badge } from "~/components/Badge";
import { Button } from "~/components/Button";
import { Dialog } from "~/components/Dialog";
import { Field, Input } from "~/components/Field";
import { Form, text } from "~/components/Form";
import { useWords } from "~/i18n/language";
import { toast } from "~/layout/toasts";
import { NewPassword } from "~/pages/login/NewPassword";
import { Enrolment, RecoveryCodes } from "~/pages/login/secondfactor";
import { ask } from "~/pages/login/steps";
import { words } from "./words";

interface Person extends Resource {
  status?: { mfaEnrolled?: boolean | null };
}

type What = "Password" | "Enrol" | "Codes" | "Disable";

const own = async <T,>(path: string, body: unknown): Promise<T> =>
  ask<T>(path, body, (await freshToken()) ?? undefined);

/** The user's own password and second factor. */
export function Credentials({ me }: { me: Me }) {
  const say = useWords(words);
  // Asked first, so that what is not allowed leaves no denial in the audit trail.
  const readable = useMay({ verb: "list", kind: "User" });
  const { object } = useLiveObject<Person>(readable ? collectionPath("users") : null, me.name);
  const [open, setOpen] = useState<What | null>(null);
  const [enrolment, setEnrolment] = useState<Schemas["EnrolmentReply"] | null>(null);
  const [codes, setCodes] = useState<string[] | null>(null);
  const [changed, setChanged] = useState<boolean | null>(null);
  // Not everybody may read the object of their own; the session says how it began, then.
  const enrolled = object ? object.status?.mfaEnrolled === true : (changed ?? me.methods?.includes("otp") ?? false);
  const close = () => {
    setOpen(null);
    setEnrolment(null);
    setCodes(null);
  };
  const submit = async (form: FormData) => {
    const [password, code] = [text(form, "password"), text(form, "code").trim()];
    if (open === "Password") {
      await own("password", { password, newPassword: text(form, "new") });
      toast("good", say("passwordSet"));
      close();
    } else if (open === "Disable") {
      await own("mfa/disable", { password, code });
      toast("good", say("disabled"));
      setChanged(false);
      close();
    } else if (open === "Codes")
      setCodes((await own<{ recoveryCodes: string[] }>("mfa/recoverycodes", { password, code })).recoveryCodes);
    else if (enrolment) {
      setCodes((await own<{ recoveryCodes: string[] }>("mfa/confirm", { code })).recoveryCodes);
      setChanged(true);
    } else setEnrolment(await own("mfa/enrol", { password, code }));
  };
  // Whom a provider vouches for has no password here: that the login was just now proves enough.
  const vouched = me.methods?.some((method) => method === "oidc" || method === "ldap");
  return (
    <section className="flex flex-wrap items-center gap-2">
      <h2 className="mr-2 font-semibold text-base">{say("credentials")}</h2>
      <Badge tone={enrolled ? "good" : "warn"}>{say(enrolled ? "factorOn" : "factorOff")}</Badge>
      {vouched ? <span className="text-quiet">{say("elsewhere")}</span> : null}
      <div className="flex-1" />
      {vouched ? null : <Button onClick={() => setOpen("Password")}>{say("changePassword")}</Button>}
      <Button onClick={() => setOpen("Enrol")}>{say(enrolled ? "enrolAnew" : "enrol")}</Button>
      {enrolled ? (
        <>
          <Button onClick={() => setOpen("Codes")}>{say("newCodes")}</Button>
          <Button look="danger" onClick={() => setOpen("Disable")}>
            {say("disable")}
          </Button>
        </>
      ) : null}
      <Dialog
        open={open !== null}
        onOpenChange={(now) => !now && close()}
        title={open ? say(`title.${open}`) : ""}
        {...(codes ? { actions: <Button onClick={close}>{say("done")}</Button> } : {})}
      >
        {codes ? (
          <RecoveryCodes codes={codes} />
        ) : (
          <Form key={`${open}${enrolment !== null}`} action={say("goOn")} submit={submit}>
            {enrolment ? (
              <Enrolment enrolment={enrolment} />
            ) : (
              <>
                {vouched ? (
                  <p>{say("justNow")}</p>
                ) : (
                  <Field label={say("password")}>
                    {(control) => (
                      <Input
                        {...control}
                        name="password"
                        type="password"
                        autoComplete="current-password"
                        required
                        autoFocus
                      />
                    )}
                  </Field>
                )}
                {open === "Password" ? (
                  <NewPassword />
                ) : enrolled ? (
                  <Field label={say("code")}>
                    {(control) => <Input {...control} name="code" autoComplete="one-time-code" required />}
                  </Field>
                ) : null}
              </>
            )}
          </Form>
        )}
      </Dialog>
    </section>
  );
}
