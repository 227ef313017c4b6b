import type { ReactNode } from "react";
import { useWords } from "~/i18n/language";
import { LANGUAGES, type Language } from "~/i18n/languages";
import { Banners } from "~/layout/Banners";
import { usePreferences } from "~/layout/preferences";
import { words } from "~/layout/words";

/** The page of who is not signed in. */
export function Frame({ title, children }: { title: string; children: ReactNode }) {
  const say = useWords(words);
  const { language, set } = usePreferences();
  return (
    <div className="flex min-h-full flex-col">
      <Banners />
      <main className="m-auto flex w-full max-w-sm flex-col gap-4 p-4">
        <div className="flex items-center gap-3">
          <img src="/console/icon.svg" alt="" className="size-9" />
          <h1 className="font-semibold text-lg">{title}</h1>
        </div>
        {children}
      </main>
      <footer className="flex justify-center p-3">
        <select
          aria-label={say("language")}
          value={language}
          onChange={(event) => set({ language: event.target.value as Language })}
          className="rounded-md border border-line bg-surface px-2 py-1"
        >
          {Object.entries(LANGUAGES).map(([key, name]) => (
            <option key={key} value={key}>
              {name}
            </option>
          ))}
        </select>
      </footer>
    </div>
  );
}
