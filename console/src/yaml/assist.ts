/** What the editor offers: names and values that fit at a place, and what the docstrings say of a field. */
import { type JsonSchema, plain, schemaAt, takesOf, valuesOf } from "~/schema/schema";
import { placeAt } from "./document";

export interface Offer {
  label: string;
  /** What is put in. */
  text: string;
  detail: string;
  info: string;
  isRequired: boolean;
}

/** Returns the kind whose objects are named at that place, if it is the value of a reference. */
export function referenceAt(text: string, offset: number, root: JsonSchema): string | null {
  const place = placeAt(text, offset);
  if (!place) return null;
  return schemaAt(root, place.path, place.value)?.["x-vcstack-refers-to"] ?? null;
}

/** Returns what fits at a place, and what of it is typed already. */
export function offersAt(text: string, offset: number, root: JsonSchema): Offer[] {
  const place = placeAt(text, offset);
  const schema = place && schemaAt(root, place.path, place.value);
  if (!place || !schema) return [];
  if (place.isValue || !(schema.properties || valuesOf(schema))) return valueOffers(schema);
  const there = siblings(text, offset);
  return Object.entries(schema.properties ?? {})
    .filter(([name]) => name === place.key || !there.has(name))
    .filter(([name]) => place.path.length > 0 || name !== "status")
    .map(([name, raw]) => {
      const field = plain(raw, root);
      const isRequired = schema.required?.includes(name) ?? false;
      return {
        label: name,
        text: `${name}: `,
        detail: typeOf(field) + (isRequired ? " *" : ""),
        info: field.description ?? "",
        isRequired,
      };
    });
}

function valueOffers(schema: JsonSchema): Offer[] {
  const values =
    schema.enum ??
    (schema.type === "boolean"
      ? [true, false]
      : [schema.const ?? schema.default].filter((each) => (each ?? "") !== ""));
  return values.map((value) => ({
    label: String(value),
    text: String(value),
    detail: value === schema.default ? "default" : "",
    info: schema.oneOf?.find((each) => each.const === value)?.description ?? schema.description ?? "",
    isRequired: false,
  }));
}

/** Returns the keys of the lines with the same indentation around the offset. */
function siblings(text: string, offset: number): Set<string> {
  const lines = text.split("\n");
  const here = text.slice(0, offset).split("\n").length - 1;
  const indent = (line: string) => (/^[\s-]*/.exec(line)?.[0] ?? "").length;
  const own = indent(lines[here] ?? "");
  const found = new Set<string>();
  const look = (from: number, step: number) => {
    for (let n = from; n >= 0 && n < lines.length; n += step) {
      const line = lines[n] ?? "";
      if (line.trim() === "") continue;
      if (indent(line) < own) break;
      const key = indent(line) === own ? /^[\s-]*([^:#\s]+):/.exec(line)?.[1] : undefined;
      if (key) found.add(key);
      if (step < 0 ? /^\s*-/.test(line) && indent(line) === own : /^\s*-/.test(lines[n + 1] ?? "")) {
        if (indent(lines[n + (step < 0 ? 0 : 1)] ?? "") === own) break;
      }
    }
  };
  if (!/^\s*-/.test(lines[here] ?? "")) look(here - 1, -1);
  look(here + 1, 1);
  return found;
}

export interface FieldHelp {
  name: string;
  type: string;
  doc: string;
  takes: string;
  refersTo: string;
  isSecret: boolean;
}

/** Returns what is known of the field whose name stands at a place. */
export function helpAt(text: string, offset: number, root: JsonSchema): FieldHelp | null {
  const place = placeAt(text, offset);
  if (!place) return null;
  const path = place.isValue ? place.path : [...place.path, place.key];
  const step = path.at(-1);
  const schema = schemaAt(root, path, place.value);
  if (!schema || step === undefined) return null;
  const refersTo = schema["x-vcstack-refers-to"] ?? (schema.items && plain(schema.items, root)["x-vcstack-refers-to"]);
  return {
    name: String(step),
    type: typeOf(schema),
    doc: schema.description ?? "",
    takes: path[0] === "spec" ? takesOf(root, path) : "Live",
    refersTo: refersTo ?? "",
    isSecret: schema["x-vcstack-sensitive"] ?? false,
  };
}

export function typeOf(schema: JsonSchema): string {
  if (schema.enum) return schema.enum.length <= 4 ? schema.enum.join(" | ") : "choice";
  if (schema.type === "array") return "list";
  if (schema.type === "object") return valuesOf(schema) ? "map" : "object";
  if (schema.format === "date-time") return "time";
  return schema.type ?? "any";
}
