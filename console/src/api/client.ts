/**
 * Requests to the API. `api` is typed by the OpenAPI document: `await api.GET("/api/v1/me")`. What is generic over
 * kinds has paths that no type knows, and uses `request`.
 */
import createClient from "openapi-fetch";
import { words } from "~/components/words";
import { say } from "~/i18n/language";
import { Refused, refusalOf, Unreachable } from "./errors";
import { noteAnswer, noteSilence } from "./reach";
import { freshToken, renew, useSession } from "./session";
import type { paths } from "./types";

/** fetch with the session's token, once more with a new one when it was refused. Raises Unreachable. */
export async function authorizedFetch(input: Request): Promise<Response> {
  const again = input.clone();
  const first = await send(input, await freshToken());
  if (first.status !== 401 || useSession.getState().state !== "In") return first;
  const token = await renew();
  return token === null ? first : send(again, token);
}

async function send(request: Request, token: string | null): Promise<Response> {
  if (token !== null) request.headers.set("authorization", `Bearer ${token}`);
  try {
    const response = await fetch(request);
    noteAnswer();
    return response;
  } catch (error) {
    if (request.signal.aborted) throw error;
    noteSilence();
    throw new Unreachable(error);
  }
}

export const api = createClient<paths>({ baseUrl: globalThis.location?.origin ?? "", fetch: authorizedFetch });
api.use({
  async onResponse({ response }) {
    if (!response.ok) throw await refusalOf(response);
  },
});

export interface Options {
  query?: Record<string, string | number | boolean | undefined>;
  body?: unknown;
  contentType?: string;
  signal?: AbortSignal;
}

/** As whom the console writes: whose the fields are, and what stands in the history. */
export const MANAGER = "console";

/** Change an object, at the path of it or of its collection. Raises Refused, Unreachable. */
export function writeObject<T>(
  method: "POST" | "PUT" | "PATCH" | "DELETE",
  path: string,
  options: Options = {},
): Promise<T> {
  return answerTo(method, path, { ...options, query: { fieldManager: MANAGER, ...options.query } });
}

/** Returns the answer to what changes no object. Raises Refused, Unreachable. */
export function request<T>(method: "GET" | "POST", path: string, options: Options = {}): Promise<T> {
  return answerTo(method, path, options);
}

async function answerTo<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const url = new URL(path, globalThis.location.origin);
  for (const [name, value] of Object.entries(options.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  const init: RequestInit = { method };
  if (options.signal) init.signal = options.signal;
  if (options.body !== undefined) {
    init.body = typeof options.body === "string" ? options.body : JSON.stringify(options.body);
    init.headers = { "content-type": options.contentType ?? "application/json" };
  }
  const response = await authorizedFetch(new Request(url, init));
  if (!response.ok) throw await refusalOf(response);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** Returns what to tell people of an error. */
export function messageOf(error: unknown): string {
  if (error instanceof Refused) {
    const causes = error.status.details?.causes ?? [];
    return causes.length > 0 && !causes.some((cause) => error.message.includes(cause.message))
      ? `${error.message} (${causes.map((cause) => `${cause.field}: ${cause.message}`).join("; ")})`
      : error.message;
  }
  // The API's words are English; that there are none is ours to say.
  if (error instanceof Unreachable) return say(words, "unreachable");
  return error instanceof Error ? error.message : String(error);
}
