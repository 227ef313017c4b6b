/** What differs between two versions of an object, and what each change takes; as vcstack/specs/plan.py does. */
import type { Resource } from "~/api/types";
import { childOf, fieldOf, type JsonSchema, type Path, plain, type Takes } from "./schema";

export interface FieldChange {
  path: string;
  from?: unknown;
  to?: unknown;
  takes: Takes;
}

type Wire = Record<string, unknown>;
type Versioned = Pick<Resource, "spec"> & { metadata?: { labels?: Wire; annotations?: Wire } };

/** Returns the differences of labels, annotations and spec. */
export function compare(root: JsonSchema, from: Versioned | undefined, to: Versioned | undefined): FieldChange[] {
  const found: FieldChange[] = [];
  const top = plain(root, root);
  for (const name of ["labels", "annotations"] as const) {
    differ(from?.metadata?.[name] ?? {}, to?.metadata?.[name] ?? {}, {}, root, ["metadata", name], "Live", found);
  }
  differ(from?.spec ?? {}, to?.spec ?? {}, childOf(top, "spec", root) ?? {}, root, ["spec"], "Live", found);
  return found;
}

function differ(
  from: unknown,
  to: unknown,
  schema: JsonSchema,
  root: JsonSchema,
  path: Path,
  above: Takes,
  found: FieldChange[],
): void {
  if (same(from, to)) return;
  const takes = schema["x-vcstack-takes"] ?? above;
  if (isMap(from) && isMap(to)) {
    for (const key of new Set([...Object.keys(from), ...Object.keys(to)])) {
      differ(from[key], to[key], childOf(schema, key, root) ?? {}, root, [...path, key], takes, found);
    }
  } else if (isNamed(from) && isNamed(to)) {
    const before = new Map(from.map((item) => [item.name, item]));
    const after = new Map(to.map((item) => [item.name, item]));
    const inner = childOf(schema, 0, root) ?? {};
    for (const name of new Set([...before.keys(), ...after.keys()])) {
      const field: FieldChange[] = [];
      const [was, is] = [before.get(name), after.get(name)];
      if (was && is) differ(was, is, inner, root, [], takes, field);
      else field.push({ path: "", from: was, to: is, takes });
      const at = `${fieldOf(path)}[${String(name)}]`;
      found.push(...field.map((each) => ({ ...each, path: each.path ? `${at}.${each.path}` : at })));
    }
    if (found.length === 0) found.push({ path: fieldOf(path), from, to, takes });
  } else found.push({ path: fieldOf(path), from, to, takes });
}

const isMap = (value: unknown): value is Wire => typeof value === "object" && value !== null && !Array.isArray(value);

function isNamed(value: unknown): value is Wire[] {
  if (!Array.isArray(value)) return false;
  const names = value.map((item) => (isMap(item) ? item.name : undefined));
  return names.every((name) => typeof name === "string") && new Set(names).size === names.length;
}

export function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => same(item, b[i]));
  if (!isMap(a) || !isMap(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => key in b && same(a[key], b[key]));
}

const ORDER: Takes[] = ["Live", "Reboot", "Recreate", "Immutable"];

/** Returns the most demanding of what the changes take. */
export const worst = (changes: readonly FieldChange[]): Takes =>
  changes.reduce<Takes>((most, { takes }) => (ORDER.indexOf(takes) > ORDER.indexOf(most) ? takes : most), "Live");

/** Returns the fields of an object that a manifest of it does not have any more. */
export function missing(root: JsonSchema, live: Versioned, wanted: Versioned): string[] {
  return compare(root, live, wanted)
    .filter(({ from, to }) => from !== undefined && to === undefined)
    .map(({ path }) => path);
}
