import { Dialog } from "~/components/Dialog";
import { useWords } from "~/i18n/language";
import { openOverlay, useOverlay } from "./overlays";
import { usePreferences } from "./preferences";
import { SHORTCUTS } from "./shortcuts";
import { words } from "./words";

/** All keys that do something, on `?`. */
export function Shortcuts() {
  const say = useWords(words);
  const open = useOverlay((overlay) => overlay.open === "Shortcuts");
  const { letterKeys, set } = usePreferences();
  return (
    <Dialog open={open} onOpenChange={(now) => openOverlay(now ? "Shortcuts" : null)} title={say("shortcuts")}>
      <dl className="grid grid-cols-[auto_1fr] items-center gap-x-4 gap-y-2">
        {SHORTCUTS.map(({ keys, says }) => (
          <div key={keys} className="contents">
            <dt className="flex gap-1">
              {keys.split(" ").map((key) => (
                <kbd key={key} className="rounded border border-line bg-raised px-1.5 py-0.5 font-mono text-xs">
                  {key}
                </kbd>
              ))}
            </dt>
            <dd>{say(says)}</dd>
          </div>
        ))}
      </dl>
      <label className="flex items-center gap-2">
        <input type="checkbox" checked={letterKeys} onChange={(event) => set({ letterKeys: event.target.checked })} />
        {say("letterKeys")}
      </label>
    </Dialog>
  );
}
