/** What was typed survives a reload and the end of a session, in this tab, for who typed it alone and without secrets. */
import { hasSecrets, isStandIn, type JsonSchema, type Path, secretsIn } from "~/schema/schema";
import { change, isLarge, read } from "~/yaml/document";

export interface Draft {
  text: string;
  /** What it began from. */
  base: string;
}

export const valueAt = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>((inner, step) => (inner as Record<string | number, unknown> | null | undefined)?.[step], value);

const key = (path: string) => `vcstack-draft:${path}`;

/** Returns the text without secrets, in their place the stand-ins of the base; null when it cannot be told where they are. */
export function withoutSecrets(text: string, base: string, schema: JsonSchema): string | null {
  if (!hasSecrets(schema)) return text;
  if (isLarge(text)) return null;
  const { value } = read(text);
  if (!value) return null;
  const before = read(base).value;
  let found = text;
  // From the end, so that the numbers of items hold.
  for (const path of secretsIn(value, schema, schema).reverse()) {
    if (isStandIn(valueAt(value, path))) continue;
    const stood = valueAt(before, path);
    found = change(found, path, isStandIn(stood) ? stood : undefined);
  }
  // Comments may hold what a field held before.
  return found === text ? text : found.replace(/(^|\s)#.*$/gm, "$1");
}

export function keepDraft(path: string, draft: Draft, schema: JsonSchema): void {
  const text = withoutSecrets(draft.text, draft.base, schema);
  try {
    if (text === null || text === draft.base) sessionStorage.removeItem(key(path));
    else sessionStorage.setItem(key(path), JSON.stringify({ text, base: draft.base }));
  } catch {
    // Full, or forbidden: then it is not kept.
  }
}

export function findDraft(path: string): Draft | null {
  try {
    const found = JSON.parse(sessionStorage.getItem(key(path)) ?? "null") as Draft | null;
    return typeof found?.text === "string" ? found : null;
  } catch {
    return null;
  }
}

export const dropDraft = (path: string): void => sessionStorage.removeItem(key(path));
