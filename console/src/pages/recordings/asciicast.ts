/**
 * Recordings of terminals in asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/): a line of JSON about the
 * terminal, then one for each event. What is in them was written by a machine, and is not trusted.
 */

export type Event = { at: number; output: string } | { at: number; columns: number; rows: number };

export interface Cast {
  columns: number;
  rows: number;
  events: Event[];
  /** In seconds, as all times here. */
  length: number;
}

/** More than any terminal; what a file says may not make the page draw millions of cells. */
const MOST = 500;
const SIZE = /^(\d{1,4})x(\d{1,4})$/;
const cells = (count: unknown, otherwise: number): number =>
  typeof count === "number" && count >= 1 ? Math.min(Math.floor(count), MOST) : otherwise;

/** Returns what was recorded. A last line that was cut off is left out. Raises when it is no such recording. */
export function readCast(text: string): Cast {
  const [first = "", ...rest] = text.split("\n");
  const header = lineOf(first) as { version?: unknown; width?: unknown; height?: unknown } | undefined;
  if (header?.version !== 2) throw new Error("This is no recording in asciicast v2.");
  const events: Event[] = [];
  let length = 0;
  for (const line of rest) {
    const event = eventOf(lineOf(line), length);
    if (!event) continue;
    events.push(event);
    length = event.at;
  }
  return { columns: cells(header.width, 80), rows: cells(header.height, 24), events, length };
}

function lineOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function eventOf(line: unknown, before: number): Event | undefined {
  if (!Array.isArray(line) || typeof line[0] !== "number" || typeof line[2] !== "string") return undefined;
  const at = Math.max(line[0], before);
  if (line[1] === "o") return { at, output: line[2] };
  const size = line[1] === "r" ? SIZE.exec(line[2]) : null;
  return size ? { at, columns: cells(Number(size[1]), 80), rows: cells(Number(size[2]), 24) } : undefined;
}

/** Returns the same recording with no pause longer than that. */
export function withoutPauses(cast: Cast, longest: number): Cast {
  let before = 0;
  let saved = 0;
  const events = cast.events.map((event) => {
    saved += Math.max(0, event.at - before - longest);
    before = event.at;
    return { ...event, at: event.at - saved };
  });
  return { ...cast, events, length: cast.length - saved };
}

/** Returns how many of the events are over at that moment. */
export function countUntil(events: readonly Event[], moment: number): number {
  let low = 0;
  let high = events.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((events[middle] as Event).at <= moment) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Returns seconds as a clock shows them: 0:07, 12:30, 1:00:00. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
