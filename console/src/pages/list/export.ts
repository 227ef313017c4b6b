/** What is on the page, to take along. Pure but for the download. */
import type { Resource } from "~/api/types";
import type { ListColumn } from "./columns";
import type { Row } from "./rows";

export type Format = "csv" | "json" | "yaml";

/** A cell that a spreadsheet takes for a formula becomes a text: names may be anybody's. */
const cell = (text: string): string => {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

export function toCsv(rows: readonly Row[], columns: readonly ListColumn[]): string {
  const head = ["PROJECT", "NAME", ...columns.map(({ name }) => name), "CREATED"];
  const lines = rows.map(({ object: { metadata }, texts }) => [
    metadata.project ?? "",
    metadata.name,
    ...texts,
    metadata.creationTimestamp,
  ]);
  return [head, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}

/** Returns an object as somebody would write it: without what the cloud adds. */
export function manifestOf({ apiVersion, kind, metadata, spec }: Resource): Record<string, unknown> {
  const { name, project, labels, annotations } = metadata;
  const some = <T extends object>(of: T | undefined) => (of && Object.keys(of).length > 0 ? of : undefined);
  const kept = { name, project: project ?? undefined, labels: some(labels), annotations: some(annotations) };
  return {
    apiVersion,
    kind,
    metadata: Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)),
    spec: spec ?? {},
  };
}

export async function write(rows: readonly Row[], columns: readonly ListColumn[], format: Format): Promise<string> {
  if (format === "csv") return toCsv(rows, columns);
  const objects = rows.map(({ object }) => object);
  if (format === "json") return `${JSON.stringify(objects, null, 2)}\n`;
  const { write: toYaml } = await import("~/yaml/document");
  return objects.map((object) => toYaml(manifestOf(object))).join("---\n");
}

export function download(name: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
