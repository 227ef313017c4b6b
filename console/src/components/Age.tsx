import { create } from "zustand";
import { useLanguage } from "~/i18n/language";
import type { Language } from "~/i18n/languages";

/** One clock for all ages on the page. */
const useNow = create<{ now: number }>()(() => ({ now: Date.now() }));
setInterval(() => useNow.setState({ now: Date.now() }), 1_000);

/** Tells whether a time lies less than that long ago; drawn anew when it does no more. */
export const useIsWithin = (time: string | null | undefined, milliseconds: number): boolean =>
  useNow(({ now }) => now - Date.parse(time ?? "") < milliseconds);

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

/** Returns a time span in its largest unit, such as 5d, 3h, 12m, 40s. */
export function shortAge(seconds: number): string {
  for (const [unit, length] of UNITS) {
    if (seconds >= length || length === 1) return `${Math.max(0, Math.floor(seconds / length))}${unit[0]}`;
  }
  return "";
}

const formats = new Map<Language, Intl.DateTimeFormat>();
function formatOf(language: Language): Intl.DateTimeFormat {
  let found = formats.get(language);
  if (!found) {
    found = new Intl.DateTimeFormat(language === "zh" ? "zh-CN" : "en-GB", {
      dateStyle: "medium",
      timeStyle: "medium",
    });
    formats.set(language, found);
  }
  return found;
}

const two = (value: number) => String(value).padStart(2, "0");

/** Returns a moment as the clocks here show it, as fields for dates take it: 2026-11-23 17:04:05. */
export function localTime(time: string): string {
  const at = new Date(time);
  const date = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return `${date} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}`;
}

/** How long ago something was; the exact time when the pointer rests on it. */
export function Age({ of }: { of: string | null | undefined }) {
  const time = Date.parse(of ?? "");
  // The words are what is followed: most stay the same each second.
  const age = useNow(({ now }) => shortAge((now - time) / 1000));
  const language = useLanguage();
  if (!of) return null;
  return (
    <time dateTime={of} title={formatOf(language).format(time)}>
      {age}
    </time>
  );
}
