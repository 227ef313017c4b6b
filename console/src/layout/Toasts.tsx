import { X } from "lucide-react";
import { Button } from "~/components/Button";
import { classes } from "~/components/classes";
import { useWords } from "~/i18n/language";
import { useToasts } from "./toasts";
import { words } from "./words";

const LOOKS = { good: "border-good", bad: "border-bad", info: "border-info" } as const;

export function Toasts() {
  const say = useWords(words);
  const { items, dismiss } = useToasts();
  return (
    <section
      aria-label={say("messages")}
      aria-live="polite"
      className="pointer-events-none fixed right-2 bottom-2 z-50 flex w-[calc(100%-1rem)] max-w-sm flex-col gap-2"
    >
      {items.map(({ id, tone, text, action }) => (
        <div
          key={id}
          className={classes(
            "pointer-events-auto flex items-start gap-2 rounded-md border-l-4 bg-surface p-3 shadow-lg ring-1 ring-line",
            LOOKS[tone],
          )}
        >
          <p className="min-w-0 flex-1 break-words">{text}</p>
          {action ? (
            <Button
              onClick={() => {
                dismiss(id);
                action.run();
              }}
            >
              {action.label}
            </Button>
          ) : null}
          <Button look="quiet" icon aria-label={say("dismiss")} onClick={() => dismiss(id)}>
            <X aria-hidden />
          </Button>
        </div>
      ))}
    </section>
  );
}
