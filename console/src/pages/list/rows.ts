/** The rows of a list: what is shown, found and sorted of each object. Pure; computed once for each version of one. */
import type { Condition, Resource } from "~/api/types";
import { countable, textOf } from "~/components/values";
import { compare, type ListColumn, ordered } from "./columns";

export interface Row {
  object: Resource;
  id: string;
  /** One for each of the kind's columns. */
  values: unknown[];
  texts: string[];
  /** All that the text filter looks into, in lower case. */
  haystack: string;
  /** Orders as people count, by plain comparison: a collator takes a second for ten thousand names. */
  name: string;
}

export type RowMaker = (object: Resource) => Row;

/** Returns what makes rows of a kind; objects that did not change keep theirs. */
export function rowMaker(columns: readonly ListColumn[]): RowMaker {
  const known = new WeakMap<Resource, Row>();
  return (object) => {
    let row = known.get(object);
    if (!row) {
      const { name, project, labels, uid } = object.metadata;
      const values = columns.map((column) => column.value(object));
      const texts = values.map((value, index) => textOf(value, columns[index]?.type));
      const marks = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`);
      const reasons = conditionsOf(object).map(({ reason }) => reason ?? "");
      row = {
        object,
        id: uid,
        values,
        texts,
        haystack: [name, project ?? "", uid, ...texts, ...marks, ...reasons].join("\n").toLowerCase(),
        name: countable(`${project ?? ""}/${name}`),
      };
      known.set(object, row);
    }
    return row;
  };
}

export const conditionsOf = (object: Resource): Condition[] => object.status?.conditions ?? [];

export const findCondition = (object: Resource, type: string): Condition | undefined =>
  conditionsOf(object).find((condition) => condition.type === type);

/** A condition to look for, as it stands in the address: Ready:False; Deleting means what is being deleted. */
export function hasCondition(object: Resource, wanted: string): boolean {
  if (wanted === "Deleting") return Boolean(object.metadata.deletionTimestamp);
  const [type = "", status = ""] = wanted.split(":");
  return findCondition(object, type)?.status === status;
}

/** Returns the conditions that these objects have, for the filter. */
export function conditionChoices(objects: readonly Resource[]): string[] {
  const found = new Set<string>();
  for (const object of objects) {
    if (object.metadata.deletionTimestamp) found.add("Deleting");
    for (const { type, status } of conditionsOf(object)) found.add(`${type}:${status}`);
  }
  return [...found].sort();
}

/** Keep the rows in which every word of the text stands, and that have the condition. */
export function filterRows(rows: readonly Row[], text: string, condition: string): Row[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter(
    (row) =>
      words.every((word) => row.haystack.includes(word)) && (condition === "" || hasCondition(row.object, condition)),
  );
}

/** Returns what the rows are sorted by. */
function sortKey(column: string, columns: readonly ListColumn[]): (row: Row) => unknown {
  if (column === "name") return (row) => row.name;
  if (column === "project") return (row) => row.object.metadata.project ?? "";
  if (column === "ready") return (row) => findCondition(row.object, "Ready")?.status ?? "";
  if (column === "age") return (row) => -Date.parse(row.object.metadata.creationTimestamp);
  const index = columns.findIndex(({ id }) => id === column);
  return (row) => row.values[index];
}

/** Returns what sorts by a column; `-age` is downward. Rows that are alike are in the order of their names. */
export function sorterOf(sort: string, columns: readonly ListColumn[]): (rows: readonly Row[]) => Row[] {
  if (sort === "name") return (rows) => rows.toSorted(byName);
  const down = sort.startsWith("-");
  const key = sortKey(down ? sort.slice(1) : sort, columns);
  // Rows are sorted again with each change of one of them, so what they are sorted by is kept.
  const known = new WeakMap<Row, number | string>();
  const sortedBy = (row: Row): number | string => {
    let value = known.get(row);
    if (value === undefined) {
      value = ordered(key(row));
      known.set(row, value);
    }
    return value;
  };
  return (rows) =>
    rows
      .map((row) => ({ row, value: sortedBy(row) }))
      .sort((a, b) => compare(a.value, b.value, down) || byName(a.row, b.row))
      .map(({ row }) => row);
}

const byName = (a: Row, b: Row): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
