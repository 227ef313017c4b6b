import { forwardRef, type InputHTMLAttributes, type ReactNode, useId } from "react";
import { classes } from "./classes";

export const INPUT =
  "min-h-8 w-full rounded-md border border-line bg-surface px-2.5 py-1 text-text placeholder:text-quiet aria-invalid:border-bad";

export const Input = forwardRef<HTMLInputElement, InputHTMLAttributes<HTMLInputElement>>(
  ({ className, ...rest }, ref) => <input ref={ref} className={classes(INPUT, className)} {...rest} />,
);
Input.displayName = "Input";

/** What a control has to be given so that its label, help and error belong to it. */
export interface ControlProps {
  id: string;
  "aria-describedby"?: string;
  "aria-invalid"?: true;
  onBlur?: () => void;
}

interface FieldProps {
  label: ReactNode;
  help?: ReactNode;
  error?: ReactNode;
  /** When its control was left. */
  onBlur?: () => void;
  children: (control: ControlProps) => ReactNode;
}

/** A labelled control with its help and its error. */
export function Field({ label, help, error, onBlur, children }: FieldProps) {
  const id = useId();
  const told = [help ? `${id}-help` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ");
  const control: ControlProps = {
    id,
    ...(told ? { "aria-describedby": told } : {}),
    ...(error ? { "aria-invalid": true } : {}),
    ...(onBlur ? { onBlur } : {}),
  };
  return (
    <div className="flex flex-col gap-1">
      <label htmlFor={id} className="font-medium">
        {label}
      </label>
      {children(control)}
      {help ? (
        <p id={`${id}-help`} className="text-quiet text-xs">
          {help}
        </p>
      ) : null}
      {error ? (
        <p id={`${id}-error`} className="text-bad text-xs" role="alert">
          {error}
        </p>
      ) : null}
    </div>
  );
}
