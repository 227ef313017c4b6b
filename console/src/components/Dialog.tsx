import { X } from "lucide-react";
import { Dialog as Radix } from "radix-ui";
import type { ReactNode } from "react";
import { useWords } from "~/i18n/language";
import { Button } from "./Button";
import { classes } from "./classes";
import { words } from "./words";

interface DialogProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: ReactNode;
  description?: ReactNode;
  /** The buttons at the end. */
  actions?: ReactNode;
  /** Comes from the side and is as high as the window. */
  side?: boolean;
  className?: string;
  children?: ReactNode;
}

/** A window above the page; focus stays in it and goes back to where it was. */
export function Dialog({ open, onOpenChange, title, description, actions, side, className, children }: DialogProps) {
  const say = useWords(words);
  return (
    <Radix.Root open={open} onOpenChange={onOpenChange}>
      <Radix.Portal>
        <Radix.Overlay className="fixed inset-0 z-40 bg-black/50" />
        <Radix.Content
          {...(description ? {} : { "aria-describedby": undefined })}
          className={classes(
            "fixed z-50 flex flex-col gap-3 border border-line bg-surface p-4 shadow-xl",
            side
              ? "inset-y-0 right-0 w-full max-w-xl overflow-y-auto"
              : "top-[10vh] left-1/2 max-h-[80vh] w-[calc(100%-1rem)] max-w-lg -translate-x-1/2 overflow-y-auto rounded-lg",
            className,
          )}
        >
          <div className="flex items-start justify-between gap-2">
            <Radix.Title className="font-semibold text-base">{title}</Radix.Title>
            <Radix.Close asChild>
              <Button look="quiet" icon aria-label={say("close")} className="-mt-1 -mr-1">
                <X aria-hidden />
              </Button>
            </Radix.Close>
          </div>
          {description ? <Radix.Description className="text-quiet">{description}</Radix.Description> : null}
          {children}
          {actions ? <div className="mt-1 flex flex-wrap justify-end gap-2">{actions}</div> : null}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
