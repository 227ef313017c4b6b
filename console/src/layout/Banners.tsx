import { CloudOff, History } from "lucide-react";
import { useReach } from "~/api/reach";
import { useWords } from "~/i18n/language";
import { words } from "./words";

/** Says when what is seen may not be what is there. */
export function Banners() {
  const say = useWords(words);
  const { answers, behind } = useReach();
  return (
    <div role="status">
      {!answers ? (
        <p className="flex items-center justify-center gap-2 bg-bad-ground px-3 py-1.5 text-bad">
          <CloudOff aria-hidden className="size-4 shrink-0" />
          {say("unreachable")}
        </p>
      ) : behind ? (
        <p className="flex items-center justify-center gap-2 bg-warn-ground px-3 py-1.5 text-warn">
          <History aria-hidden className="size-4 shrink-0" />
          {say("behind")}
        </p>
      ) : null}
    </div>
  );
}
