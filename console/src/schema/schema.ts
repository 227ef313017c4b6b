/** What fields a kind has, as /api/v1/kinds/PLURAL says: JSON Schema with what changes take, refer to and hide. */
import { useQuery } from "@tanstack/react-query";
import { request } from "~/api/client";
import type { KindInfo } from "~/api/kinds";

export interface JsonSchema {
  type?: string;
  title?: string;
  description?: string;
  format?: string;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  items?: JsonSchema;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  allOf?: JsonSchema[];
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema | boolean;
  patternProperties?: Record<string, JsonSchema>;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  minItems?: number;
  maxItems?: number;
  "x-vcstack-takes"?: Takes;
  "x-vcstack-refers-to"?: string;
  "x-vcstack-sensitive"?: boolean;
  "x-vcstack-depends-on"?: {
    field: string;
    choices: Record<string, { description: string; value: JsonSchema }>;
  };
}

export type Takes = "Live" | "Reboot" | "Recreate" | "Immutable";
export type Path = readonly (string | number)[];

export interface KindDescription extends KindInfo {
  apiVersion: string;
  schema: JsonSchema;
  example: Record<string, unknown>;
}

export function useKindDescription(plural: string) {
  return useQuery({
    queryKey: ["kinds", plural],
    queryFn: ({ signal }) => request<KindDescription>("GET", `/api/v1/kinds/${encodeURIComponent(plural)}`, { signal }),
    staleTime: Number.POSITIVE_INFINITY,
  });
}

/** Returns the schema with its reference followed and null left out; what stands beside a reference counts. */
export function plain(schema: JsonSchema, root: JsonSchema): JsonSchema {
  let found = schema;
  for (let depth = 0; depth < 20; depth += 1) {
    const choices = (found.anyOf ?? []).filter((choice) => choice.type !== "null");
    if (choices.length === 1 && choices[0]) {
      const { anyOf: _, ...beside } = found;
      found = { ...choices[0], ...beside };
    } else if (found.$ref) {
      const { $ref, ...beside } = found;
      found = { ...root.$defs?.[$ref.replace("#/$defs/", "")], ...beside };
    } else if (found.allOf?.length === 1) {
      const { allOf, ...beside } = found;
      found = { ...allOf[0], ...beside };
    } else break;
  }
  return found;
}

/** Returns what a map's values are; undefined for what is no map. */
export function valuesOf(schema: JsonSchema): JsonSchema | undefined {
  if (schema.properties) return undefined;
  if (typeof schema.additionalProperties === "object") return schema.additionalProperties;
  return Object.values(schema.patternProperties ?? {})[0];
}

/** Returns the schema of a field inside of an object, undefined when there is no such field. */
export function childOf(schema: JsonSchema, step: string | number, root: JsonSchema): JsonSchema | undefined {
  const found =
    typeof step === "number" || schema.type === "array"
      ? schema.items
      : (schema.properties?.[step] ?? valuesOf(schema));
  return found && plain(found, root);
}

/** Returns an object's schema as its own values make it: of fields that depend on others, and of those others. */
export function given(schema: JsonSchema, value: unknown): JsonSchema {
  let { properties = {} } = schema;
  for (const [name, field] of Object.entries(properties)) {
    const dependence = field["x-vcstack-depends-on"];
    if (!dependence) continue;
    const { field: by, choices } = dependence;
    const chosen = choiceOf(field, (value as Record<string, unknown> | null | undefined)?.[by]);
    const { anyOf: _, ...rest } = field;
    properties = {
      ...properties,
      [by]: {
        ...properties[by],
        enum: Object.keys(choices),
        oneOf: Object.entries(choices).map(([each, { description }]) => ({ const: each, description })),
        ...(chosen ? { description: chosen.description } : {}),
      },
      ...(chosen ? { [name]: { ...rest, ...chosen.value } } : {}),
    };
  }
  return { ...schema, properties };
}

/** Returns what fields that depend on the named one are, when nothing else is said, once it has the value. */
export function defaultsBy(schema: JsonSchema, by: string, value: unknown): [string, unknown][] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]): [string, unknown][] => {
    const chosen = field["x-vcstack-depends-on"]?.field === by ? choiceOf(field, value) : undefined;
    return chosen ? [[name, chosen.value.default]] : [];
  });
}

function choiceOf(field: JsonSchema, value: unknown) {
  const choices = field["x-vcstack-depends-on"]?.choices ?? {};
  return typeof value === "string" && Object.hasOwn(choices, value) ? choices[value] : undefined;
}

/** Returns the schema of a field, undefined when there is none; of a certain object, if it is given. */
export function schemaAt(root: JsonSchema, path: Path, value?: unknown): JsonSchema | undefined {
  let found: JsonSchema | undefined = plain(root, root);
  let inner = value;
  for (const step of path) {
    found = found && childOf(found.properties ? given(found, inner) : found, step, root);
    inner = (inner as Record<string | number, unknown> | null | undefined)?.[step];
  }
  return found;
}

/** Returns what changing a field takes: the nearest marker on it or above. */
export function takesOf(root: JsonSchema, path: Path): Takes {
  let found: JsonSchema | undefined = plain(root, root);
  let takes: Takes = "Live";
  for (const step of path) {
    found = found && childOf(found, step, root);
    takes = found?.["x-vcstack-takes"] ?? takes;
  }
  return takes;
}

/** What the API shows in place of a secret; written back it means: as it was. */
export const isStandIn = (value: unknown): boolean =>
  typeof value === "string" && /^\*\*\*(:[0-9a-f]{12})?$/.test(value);

/** Returns the paths of all secrets in a value. */
export function secretsIn(value: unknown, schema: JsonSchema | undefined, root: JsonSchema, path: Path = []): Path[] {
  if (!schema || value === null || value === undefined) return [];
  if (schema["x-vcstack-sensitive"]) return [path];
  if (Array.isArray(value))
    return value.flatMap((item, index) => secretsIn(item, childOf(schema, index, root), root, [...path, index]));
  if (typeof value !== "object") return [];
  return Object.entries(value).flatMap(([key, item]) =>
    secretsIn(item, childOf(schema, key, root), root, [...path, key]),
  );
}

/** Returns whether there may be a secret anywhere in the schema. */
export const hasSecrets = (root: JsonSchema): boolean => JSON.stringify(root).includes('"x-vcstack-sensitive":true');

/** Returns the path as people and the API write it: spec.rules[0].portMin. */
export function fieldOf(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === "number") return `${text}[${step}]`;
    if (/[.[\]]/.test(step)) return `${text}[${step}]`;
    return text ? `${text}.${step}` : step;
  }, "");
}
