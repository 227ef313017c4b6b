import { lazy, Suspense } from "react";
import type { Resource } from "~/api/types";
import { Busy } from "~/components/Busy";
import { CopyButton } from "~/components/CopyButton";
import { useWords } from "~/i18n/language";
import { write } from "~/yaml/document";
import { words } from "./words";

const Editor = lazy(() => import("~/yaml/Editor"));

/** The object as it is, to be read and copied. */
export function Yaml({ object }: { object: Resource }) {
  const say = useWords(words);
  const { managedFields: _, ...metadata } = object.metadata as Resource["metadata"] & { managedFields?: unknown };
  const text = write({ ...object, metadata });
  return (
    <div className="flex flex-col gap-2">
      <CopyButton text={text} className="self-end" />
      <Suspense fallback={<Busy />}>
        <Editor text={text} label={say("yaml")} className="rounded-md border border-line" />
      </Suspense>
    </div>
  );
}
