/** A manifest as text: form and editor change the same text, and comments stay where they are. */
import {
  Document,
  isCollection,
  isMap,
  isPair,
  isScalar,
  isSeq,
  type Pair,
  parseAllDocuments,
  parseDocument,
  Scalar,
  visit,
} from "yaml";
import { stepsOf } from "~/components/values";
import { same } from "~/schema/changes";
import type { Path } from "~/schema/schema";

export interface Mark {
  from: number;
  to: number;
  message: string;
}

export interface Manifest {
  text: string;
  /** The object; null while the text is no YAML of one object. */
  value: Record<string, unknown> | null;
  /** What is wrong with the text as YAML. */
  marks: Mark[];
  document: Document.Parsed | null;
}

const OPTIONS = { prettyErrors: true, uniqueKeys: true, strict: true } as const;
/** As much as the API takes. */
export const MOST_CHARACTERS = 1024 * 1024;
/** What is longer takes so long to read that nobody could type meanwhile. */
const MOST_TYPED = { characters: 100_000, lines: 2_000 };
/** Junk has a fault in each line. */
const MOST_MARKS = 100;

/** Tells whether a text is to be read when somebody asks for it only. */
export function isLarge(text: string): boolean {
  if (text.length > MOST_TYPED.characters) return true;
  let lines = 0;
  for (let at = text.indexOf("\n"); at >= 0 && lines <= MOST_TYPED.lines; at = text.indexOf("\n", at + 1)) lines += 1;
  return lines > MOST_TYPED.lines;
}

export function read(text: string): Manifest {
  if (text.length > MOST_CHARACTERS)
    return { text, value: null, document: null, marks: [{ from: 0, to: 1, message: "larger than 1 MiB" }] };
  const [document, ...more] = parseAllDocuments(text, OPTIONS) as Document.Parsed[];
  if (!document) return { text, value: null, document: null, marks: [] };
  const marks = document.errors.slice(0, MOST_MARKS).map(({ message, pos }) => ({
    from: pos[0],
    to: Math.max(pos[1], pos[0] + 1),
    message: message.split(" at line")[0] ?? message,
  }));
  if (more[0]) marks.push({ from: more[0].range[0], to: text.length, message: "one object at a time" });
  let value: unknown = null;
  try {
    if (marks.length === 0) value = document.toJS({ maxAliasCount: 50 });
  } catch (error) {
    marks.push({ from: 0, to: text.length, message: String(error instanceof Error ? error.message : error) });
  }
  if (!isObject(value) && marks.length === 0 && text.trim() !== "")
    marks.push({ from: 0, to: text.length, message: "must be an object: kind, metadata, spec" });
  return { text, value: isObject(value) ? value : null, marks, document };
}

/**
 * What ends a line for readers of YAML 1.1, such as vcctl's, and no line for those of 1.2; and controls that they refuse.
 * Behind such an end of a line somebody's text could go on as another object.
 */
const ODD = /[\x7f-\x9f\u2028\u2029\ufeff]/;
const ALL_ODD = new RegExp(ODD, "g");

/** Returns a value as YAML that means the same to every reader. */
export function write(value: unknown): string {
  const document = new Document(value);
  visit(document, {
    Scalar(_, node) {
      if (typeof node.value === "string" && ODD.test(node.value)) node.type = Scalar.QUOTE_DOUBLE;
    },
  });
  const text = document.toString({ lineWidth: 0 });
  // They stand in double quotes now, and nowhere else.
  return text.replace(ALL_ODD, (odd) => `\\u${odd.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Returns the text with one field changed; undefined takes it away, with what is left empty by that. */
export function change(text: string, path: Path, value: unknown): string {
  const document: Document = parseDocument(text, OPTIONS);
  if (document.contents === null) document.contents = document.createNode({}) as never;
  if (value === undefined) {
    document.deleteIn(path);
    for (let above = path.slice(0, -1); above.length > 1; above = above.slice(0, -1)) {
      const node = document.getIn(above);
      if (!isCollection(node) || node.items.length > 0 || typeof above.at(-1) === "number") break;
      document.deleteIn(above);
    }
  } else {
    for (let depth = 1; depth < path.length; depth += 1) {
      const above = path.slice(0, depth);
      if (!isCollection(document.getIn(above)))
        document.setIn(above, document.createNode(typeof path[depth] === "number" ? [] : {}));
    }
    document.setIn(path, document.createNode(value));
  }
  return document.toString({ lineWidth: 0 });
}

/**
 * Returns the text with what others changed since it was begun; what both changed stays as it is here. Lists are taken
 * as a whole.
 */
export function takeIn(text: string, base: string, newest: string): string {
  let merged = text;
  const walk = (was: unknown, theirs: unknown, mine: unknown, path: Path): void => {
    if (same(was, theirs)) return;
    if (same(was, mine)) merged = change(merged, path, theirs);
    else if (isObject(theirs) && isObject(mine)) {
      const before = isObject(was) ? was : {};
      for (const key of new Set([...Object.keys(before), ...Object.keys(theirs)]))
        walk(before[key], theirs[key], mine[key], [...path, key]);
    }
  };
  walk(read(base).value, read(newest).value, read(text).value, []);
  return merged;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Returns where a field stands; of what is not there the place of what is nearest above it. */
export function rangeOf(document: Document.Parsed | null, path: Path): [number, number] {
  let node: unknown = document?.contents;
  let range: [number, number] = [0, 0];
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => keyOf(item) === String(step));
      if (!pair) break;
      const key = pair.key as { range?: [number, number, number] } | null;
      node = pair.value;
      const end = isScalar(node) && node.range ? node.range[1] : key?.range?.[1];
      if (key?.range) range = [key.range[0], end ?? key.range[1]];
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      const at = (node as { range?: [number, number, number] } | undefined)?.range;
      if (!at) break;
      range = isScalar(node) ? [at[0], at[1]] : [at[0], at[0] + 1];
    } else break;
  }
  return range;
}

const keyOf = (item: unknown): string =>
  isPair(item) && isScalar((item as Pair).key) ? String(((item as Pair).key as { value: unknown }).value) : "";

/** Returns the path of a field as the API names it: spec.rules[ssh].portMin → spec, rules, 2, portMin. */
export function pathOfField(field: string, value: unknown): Path {
  const path: (string | number)[] = [];
  let found = value;
  for (const step of stepsOf(field)) {
    if (Array.isArray(found)) {
      const index = /^\d+$/.test(step)
        ? Number(step)
        : found.findIndex((item) => [item?.name, item?.type, item?.uid].includes(step));
      if (index < 0) break;
      path.push(index);
      found = found[index];
    } else {
      path.push(step);
      found = typeof found === "object" && found !== null ? (found as Record<string, unknown>)[step] : undefined;
    }
  }
  return path;
}

const HERE = "__here__";

export interface Place {
  /** The object that the key stands in, or of a value the field itself. */
  path: Path;
  /** The key on the line, as far as it is typed. */
  key: string;
  isValue: boolean;
  /** The whole text, as far as it is an object. */
  value: unknown;
}

/** Returns what is meant at a place in the text: its line is made a whole one first, for it may be half typed. */
export function placeAt(text: string, offset: number): Place | null {
  const start = text.lastIndexOf("\n", offset - 1) + 1;
  const end = text.indexOf("\n", offset) < 0 ? text.length : text.indexOf("\n", offset);
  const parts = /^(\s*(?:- +)*)([^:#]*)(:(?:\s|$))?/.exec(text.slice(start, end));
  if (!parts) return null;
  const [, lead = "", key = "", colon] = parts;
  const isValue = colon !== undefined && offset - start > lead.length + key.length;
  const line = isValue ? `${lead}${key}: ${HERE}` : `${lead}${HERE}: `;
  const document = parseDocument(text.slice(0, start) + line + text.slice(end), { ...OPTIONS, uniqueKeys: false });
  const path = findHere(document.contents, []);
  return path && { path, key: key.trim().replace(/^"(.*)"$/, "$1"), isValue, value: objectIn(document) };
}

function objectIn(document: Document.Parsed): unknown {
  try {
    return document.toJS({ maxAliasCount: 50 });
  } catch {
    return null; // too many aliases, or to nothing
  }
}

function findHere(node: unknown, path: Path): Path | null {
  if (isMap(node)) {
    for (const item of node.items) {
      const key = keyOf(item);
      if (key === HERE) return path;
      if (isScalar(item.value) && item.value.value === HERE) return [...path, key];
      const found = findHere(item.value, [...path, key]);
      if (found) return found;
    }
  } else if (isSeq(node)) {
    for (const [index, item] of node.items.entries()) {
      const found = findHere(item, [...path, index]);
      if (found) return found;
    }
  }
  return null;
}

/** Deeper than anybody writes; what walks a tree of it by recursion ends in an error. */
const DEEPEST = 100;

/** Tells whether a text is nested too deeply to be coloured. */
export function isDeep(text: string): boolean {
  let depth = 0;
  for (const character of text) {
    if (character === "[" || character === "{") depth += 1;
    else if ((character === "]" || character === "}") && depth > 0) depth -= 1;
    if (depth > DEEPEST) return true;
  }
  return new RegExp(`^[ -]{${4 * DEEPEST}}`, "m").test(text);
}
