/** What is wrong with an object as far as its schema says: at once while somebody types. All else the plan says. */
import { childOf, given, type JsonSchema, type Path, plain, valuesOf } from "./schema";

export interface Problem {
  path: Path;
  rule: "unknown" | "required" | "type" | "choice" | "pattern" | "least" | "most";
  /** What was expected: a type, the choices, a limit, a name that is near. */
  expected: string;
}

const MOST = 50;

export function check(value: unknown, root: JsonSchema): Problem[] {
  const found: Problem[] = [];
  checkValue(value, plain(root, root), root, [], found);
  return found.slice(0, MOST);
}

function checkValue(value: unknown, schema: JsonSchema, root: JsonSchema, path: Path, found: Problem[]): void {
  if (value === null || value === undefined) return;
  if (!isOf(value, schema)) {
    found.push({ path, rule: "type", expected: typeName(schema) });
    return;
  }
  if (schema.enum && !schema.enum.includes(value)) {
    found.push({ path, rule: "choice", expected: schema.enum.join(", ") });
  } else if (schema.const !== undefined && value !== schema.const) {
    found.push({ path, rule: "choice", expected: String(schema.const) });
  } else if (typeof value === "string") {
    if (schema.pattern && !matches(schema.pattern, value))
      found.push({ path, rule: "pattern", expected: schema.pattern });
    if (schema.maxLength !== undefined && value.length > schema.maxLength)
      found.push({ path, rule: "most", expected: String(schema.maxLength) });
  } else if (typeof value === "number") {
    if (schema.minimum !== undefined && value < schema.minimum)
      found.push({ path, rule: "least", expected: String(schema.minimum) });
    if (schema.maximum !== undefined && value > schema.maximum)
      found.push({ path, rule: "most", expected: String(schema.maximum) });
  } else if (Array.isArray(value)) {
    if (schema.maxItems !== undefined && value.length > schema.maxItems)
      found.push({ path, rule: "most", expected: String(schema.maxItems) });
    for (const [index, item] of value.entries()) {
      const inner = childOf(schema, index, root);
      if (inner) checkValue(item, inner, root, [...path, index], found);
    }
  } else if (typeof value === "object") checkObject(value as Record<string, unknown>, schema, root, path, found);
}

function checkObject(
  value: Record<string, unknown>,
  general: JsonSchema,
  root: JsonSchema,
  path: Path,
  found: Problem[],
): void {
  const schema = general.properties ? given(general, value) : general;
  for (const [key, item] of Object.entries(value)) {
    const inner = childOf(schema, key, root);
    if (inner) checkValue(item, inner, root, [...path, key], found);
    else if (schema.properties && !valuesOf(schema))
      found.push({ path: [...path, key], rule: "unknown", expected: nearest(key, Object.keys(schema.properties)) });
  }
  for (const name of schema.required ?? []) {
    if (value[name] === undefined || value[name] === null)
      found.push({ path: [...path, name], rule: "required", expected: name });
  }
}

function isOf(value: unknown, schema: JsonSchema): boolean {
  switch (schema.type) {
    case "string":
      return typeof value === "string";
    case "integer":
      return Number.isInteger(value);
    case "number":
      return typeof value === "number";
    case "boolean":
      return typeof value === "boolean";
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && !Array.isArray(value);
    default:
      return true;
  }
}

export function typeName(schema: JsonSchema): string {
  if (schema.type === "array") return "list";
  return schema.type ?? "any";
}

function matches(pattern: string, value: string): boolean {
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    return true; // a pattern of another dialect: the server says
  }
}

/** Returns the known name that differs in the fewest letters, if one is near; else all. */
export function nearest(name: string, known: string[]): string {
  const [best] = known
    .map((each) => ({ each, apart: distance(name.toLowerCase(), each.toLowerCase()) }))
    .sort((a, b) => a.apart - b.apart);
  return best && best.apart <= Math.max(1, name.length / 3) ? best.each : known.join(", ");
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swap));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
