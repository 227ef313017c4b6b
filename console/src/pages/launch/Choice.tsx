import type { ReactNode } from "react";

interface ChoiceProps {
  legend: string;
  help?: string;
  /** Several, or exactly one. */
  many?: boolean;
  options: { value: string; label: string; detail?: string }[];
  chosen: readonly string[];
  onChange: (chosen: string[]) => void;
  empty?: string;
  children?: ReactNode;
}

/** Things to choose from, each with what it is. */
export function Choice({ legend, help, many = false, options, chosen, onChange, empty, children }: ChoiceProps) {
  const toggle = (value: string) => {
    if (!many) onChange([value]);
    else onChange(chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value]);
  };
  return (
    <fieldset className="rounded-lg border border-line bg-surface p-3">
      <legend className="px-1 font-semibold">{legend}</legend>
      {help ? <p className="mb-2 text-quiet text-xs">{help}</p> : null}
      {options.length === 0 && empty ? <p className="text-quiet">{empty}</p> : null}
      <div className="grid gap-2 sm:grid-cols-2">
        {options.map(({ value, label, detail }) => (
          <label
            key={value}
            className="flex cursor-pointer items-start gap-2 rounded-md border border-line p-2 hover:border-accent has-checked:border-accent has-checked:bg-raised"
          >
            <input
              type={many ? "checkbox" : "radio"}
              name={legend}
              value={value}
              checked={chosen.includes(value)}
              onChange={() => toggle(value)}
              className="mt-1 accent-(--accent)"
            />
            <span className="min-w-0">
              <span className="block break-all font-medium">{label}</span>
              {detail ? <span className="block break-words text-quiet text-xs">{detail}</span> : null}
            </span>
          </label>
        ))}
      </div>
      {children ? <div className="mt-2">{children}</div> : null}
    </fieldset>
  );
}
