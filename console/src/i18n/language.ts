/**
 * The words of the console. Each folder has a `words.ts` with its own, loaded with the page that uses them:
 *
 *     export const words = defineWords({ en: { title: "{count} hosts" }, zh: { title: "{count} 台主机" } });
 *     const say = useWords(words);
 *     <h1>{say("title", { count: 3 })}</h1>
 *
 * A key that one language lacks is an error of types; placeholders that differ fail a test.
 */
import { useCallback } from "react";
import { usePreferences } from "~/layout/preferences";
import type { Language } from "./languages";

export type Words<K extends string> = Record<Language, Record<K, string>>;
export type Values = Record<string, string | number>;
export type Say<K extends string> = (key: K, values?: Values) => string;

export function defineWords<const E extends Record<string, string>>(words: {
  en: E;
  zh: Record<keyof E, string>;
}): Words<keyof E & string> {
  return words as Words<keyof E & string>;
}

/** Returns the text with `{name}` replaced. What is put in is text, never markup. */
export function fill(text: string, values: Values = {}): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

export function useLanguage(): Language {
  return usePreferences((state) => state.language);
}

export function useWords<K extends string>(words: Words<K>): Say<K> {
  const language = useLanguage();
  return useCallback((key, values) => fill(words[language][key], values), [words, language]);
}

/** The same outside of components: in what is logged in toasts by code that is no component. */
export function say<K extends string>(words: Words<K>, key: K, values?: Values): string {
  return fill(words[usePreferences.getState().language][key], values);
}
