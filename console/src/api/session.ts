/**
 * The session in this browser. The access token lives in memory alone; the refresh token is in a cookie that no script
 * can read (docs/edges.md). Tabs share that cookie and it is good once, so they take turns by a lock.
 */
import { create } from "zustand";
import { Refused, refusalOf, Unreachable } from "./errors";
import type { Schemas } from "./types";

export type Tokens = Schemas["TokensReply"];

interface SessionState {
  /** Unknown until the first answer of the server; Out after a logout, or when the session ended elsewhere. */
  state: "Unknown" | "Out" | "In";
  token: string | null;
  /** The session's name. */
  name: string | null;
  expiresAt: number;
  /** Whether it ended without being asked to: the login page says so. */
  ended: boolean;
}

export const useSession = create<SessionState>()(() => ({
  state: "Unknown",
  token: null,
  name: null,
  expiresAt: 0,
  ended: false,
}));

/** With it the API hands out the refresh token in a cookie. */
export const COOKIE_HEADERS = { "vcstack-session": "cookie", "content-type": "application/json" } as const;
const LOCK = "vcstack-refresh";
/** Renewed that long before its end. */
const EARLY_MS = 60_000;
const channel = new BroadcastChannel("vcstack-session");

let timer: ReturnType<typeof setTimeout> | undefined;
let renewal: Promise<string | null> | null = null;

/** Take over the tokens of a login that is complete. */
export function enter(tokens: Tokens): void {
  accept(tokens);
  channel.postMessage("in");
}

function accept(tokens: Tokens): string {
  const expiresAt = Date.parse(tokens.expiresAt);
  const name = tokens.session ?? null;
  useSession.setState({ state: "In", token: tokens.accessToken, name, expiresAt, ended: false });
  clearTimeout(timer);
  timer = setTimeout(() => void renew().catch(() => undefined), Math.max(expiresAt - Date.now() - EARLY_MS, 5_000));
  return tokens.accessToken;
}

function leave(ended: boolean): void {
  clearTimeout(timer);
  useSession.setState({ state: "Out", token: null, name: null, expiresAt: 0, ended });
}

/** Returns a new access token, null when there is no session any more. Raises Unreachable. */
export function renew(): Promise<string | null> {
  renewal ??= inTurn(exchange).finally(() => {
    renewal = null;
  });
  return renewal;
}

async function exchange(): Promise<string | null> {
  const answer = await post("refresh", {});
  if (!(answer instanceof Refused)) {
    const tokens = answer as Tokens;
    const { state, name } = useSession.getState();
    // The tab slept while somebody else logged in in another one: what it shows is not for them.
    if (state === "In" && name !== (tokens.session ?? null)) location.reload();
    return accept(tokens);
  }
  if (answer.code !== 401) throw answer;
  leave(useSession.getState().state === "In");
  return null;
}

const inTurn = async <T>(run: () => Promise<T>): Promise<T> => await navigator.locks.request(LOCK, run);

/** Returns an access token that is good for a while. */
export async function freshToken(): Promise<string | null> {
  const { token, expiresAt } = useSession.getState();
  return token !== null && expiresAt - Date.now() > 10_000 ? token : renew();
}

/** End the session, in all tabs. Raises Unreachable, and Refused: then it goes on, and nobody may believe that it is over. */
export async function logOut(): Promise<void> {
  const answer = await inTurn(() => post("logout", {}));
  if (answer instanceof Refused && answer.code !== 401) throw answer;
  leave(false);
  channel.postMessage("out");
}

/** POST to a route of logging in; returns its answer or the refusal. Raises Unreachable. */
export function post(path: string, body: unknown, token?: string): Promise<unknown> {
  const headers = { ...COOKIE_HEADERS, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  return send(path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** GET a route of logging in, as nobody; returns its answer or the refusal. Raises Unreachable. */
export const look = (path: string): Promise<unknown> => send(path, { credentials: "omit" });

async function send(path: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/auth/${path}`, init);
  } catch (error) {
    throw new Unreachable(error);
  }
  if (!response.ok) return refusalOf(response);
  return response.status === 204 ? {} : response.json();
}

/** Find out whether there is a session, again and again while nothing answers, and listen to other tabs. */
export async function begin(): Promise<void> {
  channel.onmessage = ({ data }) => {
    if (data === "out" && useSession.getState().state !== "Out") leave(false);
    if (data === "in" && useSession.getState().state === "Out") void renew().catch(() => undefined);
  };
  for (let waited = 500; useSession.getState().state === "Unknown"; waited = Math.min(waited * 2, 10_000)) {
    try {
      await renew();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, waited));
    }
  }
}
