import { type FormEvent, type ReactNode, useState } from "react";
import { Button } from "./Button";
import { Failure } from "./Failure";

interface FormProps {
  /** What its button says. */
  action: string;
  submit: (form: FormData) => Promise<void>;
  children: ReactNode;
}

/** Fields and the one button that sends them, with what went wrong in place. */
export function Form({ action, submit, children }: FormProps) {
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
    <form onSubmit={(event) => void onSubmit(event)} className="flex flex-col gap-4">
      {children}
      {error ? <Failure error={error} /> : null}
      <Button look="primary" type="submit" disabled={busy}>
        {action}
      </Button>
    </form>
  );
}

export const text = (form: FormData, name: string): string => String(form.get(name) ?? "");
