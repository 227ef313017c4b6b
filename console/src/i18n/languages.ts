export const LANGUAGES = { en: "English", zh: "中文" } as const;
export type Language = keyof typeof LANGUAGES;

/** The browser's first language that we know. */
export function guessLanguage(wanted: readonly string[]): Language {
  for (const each of wanted) {
    const base = each.split("-")[0] as Language;
    if (base in LANGUAGES) return base;
  }
  return "en";
}
