/** The steps of a login as the API takes them; pure but for the requests. */
import { Refused } from "~/api/errors";
import { look, post, type Tokens } from "~/api/session";
import type { Schemas } from "~/api/types";

type Challenge = Schemas["ChallengeReply"];
type Enrolled = Schemas["EnrolledReply"];
type Enrolment = Schemas["EnrolmentReply"];
export type Provider = Schemas["OfferedProvider"];

export type Step =
  | { kind: "Credentials" }
  | { kind: "SetPassword"; challenge: string }
  | { kind: "VerifyMFA"; challenge: string }
  | { kind: "EnrolMFA"; challenge: string; enrolment: Enrolment }
  | { kind: "Recovery"; codes: string[]; tokens: Tokens }
  | { kind: "Done"; tokens: Tokens };

/** Kept in the browser: it lets nobody in, but tells the API that this is not a stranger's guess. */
const DEVICE = "vcstack-device";
const device = () => localStorage.getItem(DEVICE) ?? "";

export const ask = async <T>(path: string, body: unknown, token?: string): Promise<T> =>
  accepted(await post(path, body, token));

function accepted<T>(answer: unknown): T {
  if (answer instanceof Refused) throw answer;
  return answer as T;
}

/** What the page offers besides a password; those of one domain to who came for it. */
export async function offeredProviders(domain: string | null): Promise<Provider[]> {
  const query = domain ? `?${new URLSearchParams({ domain })}` : "";
  return accepted<Schemas["ProvidersReply"]>(await look(`providers${query}`)).items;
}

/** Which provider this browser logged in by; null: by a password of the cloud's own, or nobody did yet. */
const LAST = "vcstack-login";
export function lastProvider(): Provider | null {
  try {
    const { name, displayName, type } = JSON.parse(localStorage.getItem(LAST) ?? "{}");
    return name && (type === "OIDC" || type === "LDAP") ? { name, displayName, type } : null;
  } catch {
    return null;
  }
}
export const rememberProvider = (provider: Provider | null): void =>
  provider ? localStorage.setItem(LAST, JSON.stringify(provider)) : localStorage.removeItem(LAST);

async function next(answer: Challenge | Tokens): Promise<Step> {
  if (!("challenge" in answer)) return done(answer);
  const { kind, challenge } = answer;
  if (kind !== "EnrolMFA") return { kind, challenge };
  return { kind, challenge, enrolment: await ask<Enrolment>("mfa/enrol", { challenge }) };
}

function done(tokens: Tokens): Step {
  if (tokens.deviceToken) localStorage.setItem(DEVICE, tokens.deviceToken);
  return { kind: "Done", tokens };
}

export const logIn = async (user: string, password: string): Promise<Step> =>
  next(await ask("login", { user, password, device: device() }));

export const logInByDirectory = async (provider: string, user: string, password: string): Promise<Step> =>
  next(await ask("ldap/login", { provider, user, password }));

export const setPassword = async (challenge: string, newPassword: string): Promise<Step> =>
  next(await ask("password", { challenge, newPassword, device: device() }));

export const verify = async (challenge: string, code: string): Promise<Step> =>
  next(await ask("mfa/verify", { challenge, code: code.trim(), device: device() }));

export async function confirm(challenge: string, code: string): Promise<Step> {
  const answer = await ask<Enrolled>("mfa/confirm", { challenge, code: code.trim(), device: device() });
  if (!answer.tokens) throw new Error("the API gave no tokens");
  done(answer.tokens);
  return { kind: "Recovery", codes: answer.recoveryCodes, tokens: answer.tokens };
}

/** A login by OpenID Connect that is under way; in this tab alone, gone with it. */
interface UnderWay {
  provider: string;
  state: string;
  challenge: string;
  to: string;
}
const UNDER_WAY = "vcstack-oidc";

/** Begin a login by OpenID Connect; returns where the browser goes, null when the provider is a directory. */
export async function beginProvider(provider: string, to: string): Promise<string | null> {
  const redirectUri = `${location.origin}/console/oidc/${encodeURIComponent(provider)}`;
  const answer = await post("oidc/begin", { provider, redirectUri });
  const causes = answer instanceof Refused ? answer.status.details?.causes : undefined;
  if (causes?.some((cause) => cause.reason === "PasswordLogin")) return null;
  const begun = accepted<Schemas["OidcBeginReply"]>(answer);
  // What a provider says of itself must not become a script of this page.
  if (!begun.authorizationUrl.startsWith("https://")) throw new Error(`not https: ${begun.authorizationUrl}`);
  const underWay: UnderWay = { provider, state: begun.state, challenge: begun.challenge, to };
  sessionStorage.setItem(UNDER_WAY, JSON.stringify(underWay));
  return begun.authorizationUrl;
}

/** Returns the login that the browser comes back from, once; null when it was not begun here. */
export function takeUnderWay(provider: string, state: string | null): UnderWay | null {
  const kept = sessionStorage.getItem(UNDER_WAY);
  sessionStorage.removeItem(UNDER_WAY);
  const underWay = kept === null ? null : (JSON.parse(kept) as UnderWay);
  return underWay?.provider === provider && underWay.state === state ? underWay : null;
}

export const completeProvider = async (challenge: string, given: URLSearchParams): Promise<Step> =>
  next(
    await ask("oidc/complete", {
      challenge,
      code: given.get("code") ?? "",
      state: given.get("state") ?? "",
      issuer: given.get("iss") ?? "",
    }),
  );

/** Returns an address within the console, whatever the address bar asks for. */
export const safeTarget = (to: string | null): string => (to && /^\/(?![/\\])/.test(to) ? to : "/");
