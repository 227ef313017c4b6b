import { LoaderCircle } from "lucide-react";
import { useWords } from "~/i18n/language";
import { words } from "./words";

/** Stands where something is still to come. */
export function Busy({ label }: { label?: string }) {
  const say = useWords(words);
  return (
    <div role="status" className="flex items-center justify-center gap-2 p-8 text-quiet">
      <LoaderCircle aria-hidden className="size-5 motion-safe:animate-spin" />
      <span>{label ?? say("loading")}</span>
    </div>
  );
}
