/** What somebody likes, kept in this browser: no secret, and nothing that the cloud has to know. */
import { create } from "zustand";
import { persist } from "zustand/middleware";
import { guessLanguage, type Language } from "~/i18n/languages";

export type Theme = "system" | "light" | "dark";

interface Preferences {
  theme: Theme;
  language: Language;
  /** The project that was looked at last. */
  project: string | null;
  /** Whether single letters do something. */
  letterKeys: boolean;
  set: (changes: Partial<Omit<Preferences, "set">>) => void;
}

export const usePreferences = create<Preferences>()(
  persist(
    (set) => ({
      theme: "system",
      language: guessLanguage(navigator.languages ?? ["en"]),
      project: null,
      letterKeys: true,
      set,
    }),
    { name: "vcstack-preferences" },
  ),
);

const dark = globalThis.matchMedia?.("(prefers-color-scheme: dark)");

/** Returns the theme that is seen. */
export const seen = (theme: Theme): Exclude<Theme, "system"> =>
  theme === "system" ? (dark?.matches ? "dark" : "light") : theme;

/** Returns the theme that is not seen, to go over to. */
export const other = (theme: Theme): Theme => (seen(theme) === "dark" ? "light" : "dark");

function apply({ theme, language }: Preferences): void {
  document.documentElement.dataset.theme = seen(theme);
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
}

/** Make the page look as preferred, now and whenever that changes. */
export function followPreferences(): void {
  apply(usePreferences.getState());
  usePreferences.subscribe(apply);
  dark?.addEventListener("change", () => apply(usePreferences.getState()));
}
