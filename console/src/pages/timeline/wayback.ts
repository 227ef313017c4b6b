/** The way back of a whole project: what has to be made, changed and deleted, as one plan; and carrying that out. */
import { messageOf, request, writeObject } from "~/api/client";
import { Refused } from "~/api/errors";
import { type KindInfo, objectPath } from "~/api/kinds";
import { inTurns } from "~/api/turns";
import type { Resource, Schemas } from "~/api/types";
import { say } from "~/i18n/language";
import { type Links, placeOf, placesIn, without } from "~/pages/object/losses";
import { carryOut, type How, isStale, manifestOf, type PlannedItem, plan, type Wanted } from "~/pages/object/plan";
import { same } from "~/schema/changes";
import { type Moment, type Page, type Touched, touchedBetween } from "./moments";
import { words } from "./words";

const REPLACE: How = { force: true, replace: true };
const PAGE = 500;
/** Whoever asks for what was at this revision asks for now, with all that was written before. */
const NEWEST = String(2 ** 53);
/** So many the API plans at once (vcstack/apiclient/planmessages.py). */
const MOST = 1_000;

/** One object on the way back. */
export interface Step {
  kind: KindInfo;
  name: string;
  project: string | null;
}

/** Is made again, or made as it was. */
export interface Making extends Step {
  wanted: Wanted;
  /** What is there, as people write it; null: nothing. */
  present: Wanted | null;
  item: PlannedItem;
}

/** Was not there then. */
export interface Leaving extends Step {
  object: Resource;
  /** What goes with it. */
  owned: Links[];
  /** What names it, stays, and so keeps it from going. */
  users: Links[];
}

export interface WayBack {
  makings: Making[];
  leavings: Leaving[];
  /** Objects that follow others by themselves: they have owners, or the cloud made them. */
  followers: number;
  /** Why the API refuses it as a whole: a quota. */
  refusal: string | null;
  /** The newest revision that the plan knows of. */
  newest: string | null;
}

/** Returns what a request finds, null when there is nothing. */
async function find<T>(path: string, query: Record<string, string>, signal: AbortSignal): Promise<T | null> {
  try {
    return await request<T>("GET", path, { query, signal });
  } catch (error) {
    if (error instanceof Refused && error.code === 404) return null;
    throw error;
  }
}

/** Returns all that has happened in the project after the revision, the oldest first, and when the last before was. */
async function momentsAfter(
  project: string,
  revision: string,
  signal: AbortSignal,
): Promise<{ moments: Moment[]; since: string }> {
  const found: Moment[] = [];
  let before: string | undefined;
  let cuts: string | undefined;
  for (;;) {
    const page: Page<Moment> = await request("GET", `${objectPath("projects", null, project)}/timeline`, {
      query: { limit: PAGE, before },
      signal,
    });
    const { reach } = page.metadata;
    // What retention has removed would look as if nothing had happened.
    if (reach && BigInt(revision) < BigInt(reach.revision)) throw new Error(say(words, "tooFarBack", { revision }));
    if (cuts !== undefined && cuts !== (reach?.cuts ?? "0")) throw new Error(say(words, "justRemoved"));
    cuts = reach?.cuts ?? "0";
    found.push(...page.items.filter((moment) => BigInt(moment.revision) > BigInt(revision)));
    const last = page.items.find((moment) => BigInt(moment.revision) <= BigInt(revision));
    if (last) return { moments: found.reverse(), since: last.time };
    before = page.metadata.before;
    if (before === undefined && reach?.time) return { moments: found.reverse(), since: reach.time };
    // What history has not seen would look as if it had not been there, and be deleted.
    if (before === undefined) throw new Error(say(words, "tooFarBack", { revision }));
  }
}

/** Plan how a project becomes again what it was at a revision; nothing is changed by that. */
export async function planWayBack(
  project: string,
  revision: string,
  kinds: readonly KindInfo[],
  signal: AbortSignal,
): Promise<WayBack> {
  // History follows at some distance: what it has not come to yet would be left out.
  await find<Resource>(objectPath("projects", null, project), { atRevision: NEWEST }, signal);
  const { moments, since } = await momentsAfter(project, revision, signal);
  const newest = moments.at(-1)?.revision ?? null;
  const touched = newest === null ? [] : touchedBetween(moments, revision, newest);
  const seen = await inTurns(touched, (each) => lookAt(each, revision, kinds, signal));
  const found = seen.filter((each) => each !== null);
  const unknown = found.find(({ was, is }) => !was && is && isOlder(is, since));
  if (unknown) throw new Error(say(words, "notSeen", { kind: unknown.step.kind.kind, name: unknown.step.name }));
  const wanted = found.flatMap(({ step, was, is }) =>
    was ? [{ step, wanted: manifestOf(was), present: is && manifestOf(is) }] : [],
  );
  const makings: Making[] = [];
  let refusal: string | null = null;
  for (let at = 0; at < wanted.length; at += MOST) {
    const some = wanted.slice(at, at + MOST);
    const planned = await plan(
      some.map((each) => each.wanted),
      REPLACE,
      signal,
    );
    refusal ??= planned.refusal?.message ?? null;
    some.forEach((each, index) => {
      const item = planned.items[index];
      if (item && item.action !== "Unchanged")
        makings.push({ ...each.step, wanted: each.wanted, present: each.present, item });
    });
  }
  const gone = found.flatMap(({ step, was, is }) => (!was && is ? [{ step, object: is }] : []));
  const going = new Set(gone.map(({ object }) => placeOf(object)));
  const leavings = await inTurns(gone, async ({ step, object }): Promise<Leaving> => {
    const path = `${objectPath(step.kind.plural, step.project, step.name)}/related`;
    const related = await find<Schemas["RelatedReply"]>(path, {}, signal);
    return { ...step, object, owned: related?.owned ?? [], users: related?.users ?? [] };
  });
  const goingAlong = leavings.flatMap(({ owned }) => placesIn(owned));
  for (const leaving of leavings) leaving.users = without(new Set([...going, ...goingAlong]), leaving.users);
  const followers = seen.length - found.length;
  return { makings, leavings, followers, refusal, newest };
}

interface Seen {
  step: Step;
  /** As it was; null: it was not there. */
  was: Resource | null;
  /** As it is; null: it is not there. */
  is: Resource | null;
}

/** Returns an object then and now; null when it follows others, or cannot be written by people. */
async function lookAt(
  { kind: wanted, project, name, isSystems }: Touched,
  revision: string,
  kinds: readonly KindInfo[],
  signal: AbortSignal,
): Promise<Seen | null> {
  const kind = kinds.find((each) => each.kind === wanted);
  if (!kind?.verbs.includes("update")) return null;
  const path = objectPath(kind.plural, project, name);
  const [past, is] = await Promise.all([
    find<Resource>(path, { atRevision: revision }, signal).catch((error) => {
      if (error instanceof Refused && error.code === 410) return error;
      throw error;
    }),
    find<Resource>(path, {}, signal),
  ]);
  if (past instanceof Refused) {
    // Whether it was there nobody knows any more. What follows others need not be known.
    if (is?.metadata.ownerReferences?.length) return null;
    throw past;
  }
  // What was on its way out then is not brought back.
  const was = past?.metadata.deletionTimestamp ? null : past;
  // What the cloud made by itself, such as a project's default group, is nothing that somebody did and takes back.
  if ((was ?? is)?.metadata.ownerReferences?.length || (isSystems && !was)) return null;
  const step = { kind, project, name };
  if (was && is && same(manifestOf(was), manifestOf(is))) return { step, was: null, is: null };
  return { step, was, is: was === null && is?.metadata.deletionTimestamp ? null : is };
}

/** Returns whether an object was made before a time; its own is in whole seconds. */
function isOlder(object: Resource, time: string): boolean {
  const made = object.metadata.creationTimestamp;
  return made !== undefined && Date.parse(made) < Math.floor(Date.parse(time) / 1000) * 1000;
}

export interface NotDone {
  step: Step;
  message: string;
}

export interface Outcome {
  done: number;
  failed: NotDone[];
  /** What the plan refused, so that nobody tried. */
  leftOut: NotDone[];
}

/**
 * Do what was planned, each on the very version that the plan was made on.
 *
 * What names something that is not there yet is tried again as long as others still succeed, so the order follows by
 * itself. Deletions come last: what they take is named no more then.
 */
export async function goBack(way: WayBack, onDone: (done: number) => void): Promise<Outcome> {
  const leftOut = way.makings.flatMap((making) =>
    making.item.refusal ? [{ step: making, message: messageOf(new Refused(making.item.refusal)) }] : [],
  );
  const outcome: Outcome = { done: 0, failed: [], leftOut };
  const count = () => onDone(++outcome.done);
  let waiting = way.makings.filter(({ item }) => item.action !== "Refused");
  for (let before = -1; waiting.length > 0 && before !== outcome.done; ) {
    before = outcome.done;
    outcome.failed = [];
    const again: Making[] = [];
    await inTurns(waiting, async (making) => {
      try {
        await make(making);
        count();
      } catch (error) {
        again.push(making);
        outcome.failed.push({ step: making, message: messageOf(error) });
      }
    });
    waiting = again;
  }
  await inTurns(way.leavings, async (leaving) => {
    const { uid } = leaving.object.metadata;
    try {
      const path = objectPath(leaving.kind.plural, leaving.project, leaving.name);
      await writeObject("DELETE", path, { query: { uid } });
      count();
    } catch (error) {
      if (error instanceof Refused && error.code === 404) count();
      else outcome.failed.push({ step: leaving, message: messageOf(error) });
    }
  });
  return outcome;
}

/** Write to the version that was planned on, or to a later one that differs from it only in what was observed. */
async function make({ kind, name, project, wanted, present, item }: Making): Promise<void> {
  for (let tries = 5, planned = item; ; tries--) {
    try {
      await carryOut(kind, wanted, planned, REPLACE);
      return;
    } catch (error) {
      if (!isStale(error) || !present || tries === 0) throw error;
      const now = await request<Resource>("GET", objectPath(kind.plural, project, name));
      if (!same(manifestOf(now), present)) throw error;
      planned = { ...item, resourceVersion: now.metadata.resourceVersion };
    }
  }
}
