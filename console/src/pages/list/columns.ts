/** The columns of a list: the kind's own, between name and age. */
import type { KindColumn, KindInfo } from "~/api/kinds";
import type { Resource } from "~/api/types";
import { countable, pick, stepsOf, textOf } from "~/components/values";

export interface ListColumn {
  id: string;
  name: string;
  type: string;
  wide: boolean;
  value: (object: Resource) => unknown;
}

/** The table has these by itself, drawn in its own way. */
const OWN = new Set([
  "metadata.name",
  "metadata.project",
  "metadata.creationTimestamp",
  "status.conditions[Ready].status",
]);

export function columnsOf(kind: KindInfo): ListColumn[] {
  return kind.columns
    .filter(({ jsonPath }) => !OWN.has(jsonPath))
    .map((column: KindColumn) => {
      const steps = stepsOf(column.jsonPath);
      return {
        id: column.name.toLowerCase().replaceAll(/\W+/g, "-"),
        name: column.name,
        type: column.type,
        wide: column.priority > 0,
        value: (object) => pick(object, steps) ?? column.default,
      };
    });
}

/** Returns a value so that it can be ordered, computed once and not in each comparison. */
export const ordered = (value: unknown): number | string =>
  typeof value === "number" ? value : countable(textOf(value));

/** Orders such values as people expect: numbers by size, texts with numbers in them too, what is absent last both ways. */
export function compare(a: number | string, b: number | string, down = false): number {
  const sign = down ? -1 : 1;
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  const [left, right] = [String(a), String(b)];
  if (left === "" || right === "") return left === right ? 0 : left === "" ? 1 : -1;
  return left < right ? -sign : left > right ? sign : 0;
}
