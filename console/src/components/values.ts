/** Values picked from objects by the paths of columns, as vcctl picks them (vcstack/specs/columns.py). */

/** Returns the steps of a path: `status.conditions[Ready].status` → status, conditions, Ready, status. */
export function stepsOf(path: string): string[] {
  return [...path.matchAll(/\[([^\]]*)\]|([^.[\]]+)/g)].map((match) => match[1] ?? match[2] ?? "");
}

/** Returns the value at the steps; `*` gives all items' values, any other step into a list the item of that type or name. */
export function pick(value: unknown, steps: readonly string[]): unknown {
  let found = value;
  for (const [index, step] of steps.entries()) {
    if (found === null || found === undefined) return undefined;
    if (Array.isArray(found)) {
      if (step === "*") {
        const rest = steps.slice(index + 1);
        return found.map((item) => pick(item, rest)).filter((item) => item !== undefined && item !== null);
      }
      found = /^\d+$/.test(step) ? found[Number(step)] : found.find((item) => isCalled(item, step));
    } else if (typeof found === "object") {
      found = (found as Record<string, unknown>)[step];
    } else return undefined;
  }
  return found;
}

const isCalled = (item: unknown, name: string): boolean =>
  typeof item === "object" &&
  item !== null &&
  ["type", "name", "uid"].some((key) => (item as Record<string, unknown>)[key] === name);

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function readableBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Returns a value as one line of text. */
export function textOf(value: unknown, type = "text"): string {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map((each) => textOf(each, type)).join(", ");
  if (type === "bytes" && typeof value === "number") return readableBytes(value);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

/** Returns a text that sorts as people count: numbers in it have their leading zeros. */
export const countable = (text: string): string => text.replace(/\d+/g, (digits) => digits.padStart(12, "0"));
