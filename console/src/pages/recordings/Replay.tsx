import { useQuery } from "@tanstack/react-query";
import type { Terminal as Xterm } from "@xterm/xterm";
import { ArrowLeft, Download, Pause, Play } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";
import { authorizedFetch } from "~/api/client";
import { refusalOf } from "~/api/errors";
import { vcctl } from "~/api/kinds";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Failure } from "~/components/Failure";
import { INPUT } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { makeTerminal } from "~/pages/instance/xterm";
import { download } from "~/pages/list/export";
import { type Cast, clock, readCast, withoutPauses } from "./asciicast";
import { usePlayback } from "./playback";
import { words } from "./words";

const SPEEDS = [0.5, 1, 2, 4, 8];
/** In seconds, when pauses are left out. */
const SHORT = 2;
const [SMALLEST, LARGEST] = [5, 14];

async function fetchText(path: string, signal: AbortSignal): Promise<string> {
  const answer = await authorizedFetch(new Request(new URL(path, globalThis.location.origin), { signal }));
  if (!answer.ok) throw await refusalOf(answer);
  return answer.text();
}

interface Props {
  /** The collection that it is in. */
  path: string;
  id: string;
  project: string;
  onClose: () => void;
}

/** One recording: loaded, then played. */
export function Replay({ path, id, project, onClose }: Props) {
  const say = useWords(words);
  const query = useQuery({
    queryKey: ["recording", path, id],
    queryFn: async ({ signal }) => {
      const text = await fetchText(`${path}/${encodeURIComponent(id)}`, signal);
      return { text, cast: readCast(text) };
    },
    staleTime: Number.POSITIVE_INFINITY,
    // It may be large, and is not for whoever comes next.
    gcTime: 0,
    structuralSharing: false,
  });
  return (
    <section aria-label={say("replay")} className="flex flex-col gap-2">
      <div className="flex flex-wrap items-center gap-2">
        <Button onClick={onClose}>
          <ArrowLeft aria-hidden />
          {say("back")}
        </Button>
        <span className="ml-auto flex items-center gap-2">
          <CopyButton command text={vcctl("recordings", "get", id, "-p", project, "--file", `${id}.cast`)} />
          <Button disabled={!query.data} onClick={() => query.data && download(`${id}.cast`, query.data.text)}>
            <Download aria-hidden />
            {say("download")}
          </Button>
        </span>
      </div>
      {query.error ? <Failure error={query.error} onRetry={() => void query.refetch()} /> : null}
      {query.isPending ? <Busy /> : null}
      {query.data ? <Player cast={query.data.cast} /> : null}
    </section>
  );
}

function Player({ cast: whole }: { cast: Cast }) {
  const say = useWords(words);
  const host = useRef<HTMLDivElement>(null);
  const [terminal, setTerminal] = useState<Xterm | null>(null);
  const [speed, setSpeed] = useState(1);
  const [brief, setBrief] = useState(true);
  const cast = useMemo(() => (brief ? withoutPauses(whole, SHORT) : whole), [whole, brief]);
  const playback = usePlayback(terminal, cast, speed);
  const label = say("recordedTerminal");

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    let over = false;
    let watcher: ResizeObserver | null = null;
    let made: Xterm | null = null;
    void makeTerminal(element, true).then(({ terminal: found, fit }) => {
      if (over) return found.dispose();
      made = found;
      // It keeps its own size; the letters are as large as there is room for.
      const scale = () => {
        const room = fit.proposeDimensions()?.cols;
        const size = found.options.fontSize ?? LARGEST;
        if (room)
          found.options.fontSize = Math.max(SMALLEST, Math.min(LARGEST, Math.floor((size * room) / found.cols)));
      };
      watcher = new ResizeObserver(scale);
      watcher.observe(element);
      found.onResize(scale);
      setTerminal(found);
    });
    return () => {
      over = true;
      watcher?.disconnect();
      made?.dispose();
      setTerminal(null);
    };
  }, []);
  useEffect(() => terminal?.textarea?.setAttribute("aria-label", label), [terminal, label]);

  return (
    <>
      <div className="flex flex-wrap items-center gap-x-3 gap-y-2">
        <Button icon look="primary" aria-label={say(playback.playing ? "pause" : "play")} onClick={playback.toggle}>
          {playback.playing ? <Pause aria-hidden /> : <Play aria-hidden />}
        </Button>
        <input
          type="range"
          min={0}
          max={cast.length}
          step="any"
          value={playback.position}
          aria-label={say("position")}
          aria-valuetext={`${clock(playback.position)} / ${clock(cast.length)}`}
          onChange={({ target }) => playback.seek(Number(target.value))}
          className="min-w-32 flex-1 accent-(--accent)"
        />
        <span className="font-mono text-quiet text-xs">{`${clock(playback.position)} / ${clock(cast.length)}`}</span>
        <label className="flex items-center gap-1.5 whitespace-nowrap">
          <span className="text-quiet">{say("speed")}</span>
          <select value={speed} onChange={({ target }) => setSpeed(Number(target.value))} className={`${INPUT} w-auto`}>
            {SPEEDS.map((each) => (
              <option key={each} value={each}>
                {`${each}×`}
              </option>
            ))}
          </select>
        </label>
        <label className="flex items-center gap-1.5 whitespace-nowrap">
          <input
            type="checkbox"
            checked={brief}
            onChange={({ target }) => setBrief(target.checked)}
            className="accent-(--accent)"
          />
          {say("withoutPauses")}
        </label>
      </div>
      <div className="overflow-auto rounded-md border border-line bg-[#0e1419] p-2">
        <div ref={host} data-testid="replay" />
      </div>
    </>
  );
}
