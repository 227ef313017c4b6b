import { Field, Input } from "./Field";

interface ConfirmNameProps {
  label: string;
  typed: string;
  onType: (text: string) => void;
}

/** Where the name of what will be lost is typed: nobody loses much by one click. */
export function ConfirmName({ label, typed, onType }: ConfirmNameProps) {
  return (
    <Field label={label}>
      {(control) => (
        <Input
          {...control}
          autoComplete="off"
          spellCheck={false}
          value={typed}
          onChange={({ target }) => onType(target.value)}
        />
      )}
    </Field>
  );
}
