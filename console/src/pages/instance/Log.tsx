import { useEffect, useRef, useState } from "react";
import { authorizedFetch } from "~/api/client";
import { Refused, refusalOf } from "~/api/errors";
import { vcctl } from "~/api/kinds";
import { CopyButton } from "~/components/CopyButton";
import { Failure } from "~/components/Failure";
import { useWords } from "~/i18n/language";
import { words } from "./words";

const TAIL_LINES = 2_000;
/** After the stream ended: a host or the API is started anew, or the machine has no host yet. */
const AGAIN_MS = 2_000;
const PASSING = [409, 429, 503];
/** More would only slow the page down; vcctl has it all. */
const KEPT = 400_000;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is to be taken out
const CONTROLS = /\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]|[\x00-\x08\x0b-\x1f\x7f]/g;

/** Returns the text without what moves cursors and sets colours. */
export const plain = (text: string): string => text.replaceAll("\r\n", "\n").replace(CONTROLS, "");

/** Yields what comes; first nothing, as soon as there is an answer. */
async function* read(path: string, signal: AbortSignal): AsyncGenerator<string> {
  const url = new URL(`${path}/log?tail=${TAIL_LINES}&follow=true`, globalThis.location.origin);
  const answer = await authorizedFetch(new Request(url, { signal }));
  if (!answer.ok) throw await refusalOf(answer);
  yield "";
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** What the machine wrote to its serial line, as it comes. */
export function Log({ path, project, name }: { path: string; project: string; name: string }) {
  const say = useWords(words);
  const [text, setText] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  const frame = useRef<HTMLElement>(null);
  const atEnd = useRef(true);

  // biome-ignore lint/correctness/useExhaustiveDependencies: another round begins anew
  useEffect(() => {
    const stop = new AbortController();
    let again: ReturnType<typeof setTimeout> | undefined;
    const follow = async () => {
      let text = "";
      try {
        // What was read before stays to be seen until there is something new.
        for await (const chunk of read(path, stop.signal)) {
          setError(null);
          text = (text + plain(chunk)).slice(-KEPT);
          if (text) setText(text);
        }
      } catch (failure) {
        if (stop.signal.aborted) return;
        setError(failure);
        if (failure instanceof Refused && !PASSING.includes(failure.code)) return;
      }
      if (!stop.signal.aborted) again = setTimeout(() => void follow(), AGAIN_MS);
    };
    void follow();
    return () => {
      stop.abort();
      clearTimeout(again);
    };
  }, [path, round]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: when text has come
  useEffect(() => {
    if (atEnd.current && frame.current) frame.current.scrollTop = frame.current.scrollHeight;
  }, [text]);

  return (
    <div className="flex h-full min-h-80 flex-col gap-2">
      <div className="flex items-center gap-2">
        <span className="text-quiet text-xs">{say("logHint")}</span>
        <CopyButton command text={vcctl("logs", name, "-p", project, "-f")} className="ml-auto" />
        <CopyButton text={text} />
      </div>
      {error ? <Failure error={error} onRetry={() => setRound((before) => before + 1)} /> : null}
      <section
        ref={frame}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard
        tabIndex={0}
        aria-label={say("bootLog")}
        onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
          atEnd.current = scrollHeight - scrollTop - clientHeight < 40;
        }}
        className="min-h-0 flex-1 overflow-auto break-all rounded-md bg-[#0e1419] p-3 whitespace-pre-wrap font-mono text-[#e6ebf0] text-xs"
      >
        {text}
      </section>
    </div>
  );
}
