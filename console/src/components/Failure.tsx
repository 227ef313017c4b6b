import { CircleAlert } from "lucide-react";
import { messageOf } from "~/api/client";
import { useWords } from "~/i18n/language";
import { Button } from "./Button";
import { words } from "./words";

/** What went wrong, in the API's own words. */
export function Failure({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const say = useWords(words);
  return (
    <div role="alert" className="flex items-start gap-2 rounded-md bg-bad-ground p-3 text-bad">
      <CircleAlert aria-hidden className="mt-0.5 size-4 shrink-0" />
      <p className="min-w-0 flex-1 break-words">{messageOf(error)}</p>
      {onRetry ? <Button onClick={onRetry}>{say("retry")}</Button> : null}
    </div>
  );
}
