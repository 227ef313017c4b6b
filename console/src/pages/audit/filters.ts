/** Which records are asked for; it stands in the address, so that a search can be kept and sent. */

export const FIELDS = ["subject", "verb", "kind", "name", "outcome", "since", "until", "requestId"] as const;
export type Filters = Partial<Record<(typeof FIELDS)[number], string>>;
export const OUTCOMES = ["Allowed", "Denied", "Failed"] as const;

export function readFilters(parameters: URLSearchParams): Filters {
  const found: Filters = {};
  for (const field of FIELDS) {
    const value = parameters.get(field);
    if (value) found[field] = value;
  }
  return found;
}

/** Returns the API's query: times of the page have no offset, and mean the browser's. */
export function queryOf(filters: Filters): Record<string, string> {
  const query: Record<string, string> = {};
  for (const field of FIELDS) {
    const value = filters[field];
    if (!value) continue;
    if (field === "since" || field === "until") {
      const time = new Date(value);
      if (!Number.isNaN(time.getTime())) query[field] = time.toISOString();
    } else query[field] = value;
  }
  return query;
}

/** Returns the words of vcctl for the same search. */
export function flagsOf(filters: Filters): string[] {
  const { kind, name, ...rest } = queryOf(filters);
  const flags: Record<string, string> = { subject: "user", requestId: "request" };
  return [
    ...(kind ? [name ? `${kind.toLowerCase()}/${name}` : kind.toLowerCase()] : []),
    ...Object.entries(rest).flatMap(([field, value]) => [`--${flags[field] ?? field}`, value]),
  ];
}
