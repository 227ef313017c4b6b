import { useEffect, useRef, useState } from "react";
import { messageOf, request } from "~/api/client";
import { readableBytes } from "~/components/values";
import { useWords } from "~/i18n/language";
import { type Metrics as Observed, type Rates, ratesBetween, tellsMemory } from "./rates";
import { words } from "./words";

const EVERY_MS = 2_000;
const KEPT = 150;
const WIDTH = 300;
const HEIGHT = 64;

interface ChartProps {
  title: string;
  /** What it is now, as text. */
  now: string;
  lines: { points: [at: number, value: number][]; className: string }[];
  most: number;
}

/** Lines over the last five minutes; the text above says the newest value. */
function Chart({ title, now, lines, most }: ChartProps) {
  return (
    <figure className="rounded-lg border border-line bg-surface p-3">
      <figcaption className="mb-2 flex flex-wrap justify-between gap-2">
        <span className="font-medium">{title}</span>
        <span className="tabular-nums">{now}</span>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden className="h-16 w-full">
        {lines.map(({ points, className }) => (
          <polyline
            key={className}
            fill="none"
            strokeWidth="1.5"
            vectorEffect="non-scaling-stroke"
            className={className}
            points={points
              .map(([at, value]) => {
                const x = WIDTH - (((points.at(-1)?.[0] ?? at) - at) * WIDTH) / (KEPT * EVERY_MS);
                return `${x.toFixed(1)},${(HEIGHT - 1 - (value / most) * (HEIGHT - 2)).toFixed(1)}`;
              })
              .join(" ")}
          />
        ))}
      </svg>
    </figure>
  );
}

/** What the machine uses, read each two seconds while it runs and the window is seen; the history is this page's alone. */
export function Metrics({ path, running }: { path: string; running: boolean }) {
  const say = useWords(words);
  const [history, setHistory] = useState<Rates[]>([]);
  const [error, setError] = useState("");
  const [newest, setNewest] = useState<Observed | null>(null);
  const last = useRef<Observed | null>(null);

  useEffect(() => {
    if (!running) return;
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async () => {
      try {
        if (document.hidden) return;
        const found = await request<Observed>("GET", `${path}/metrics`);
        if (over) return;
        const rates = last.current && ratesBetween(last.current, found);
        if (last.current && last.current.machine !== found.machine) setHistory([]);
        last.current = found;
        setNewest(found);
        setError("");
        if (rates) setHistory((before) => [...before, rates].slice(-KEPT));
      } catch (failure) {
        if (over) return;
        setError(messageOf(failure));
      } finally {
        if (!over) timer = setTimeout(() => void look(), EVERY_MS);
      }
    };
    void look();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [path, running]);

  const now = running ? history.at(-1) : undefined;
  const told = tellsMemory(newest);
  const line = (pick: (rates: Rates) => number, className: string) => ({
    points: history.map((rates): [number, number] => [rates.at, pick(rates)]),
    className,
  });
  const most = (...picks: ((rates: Rates) => number)[]) =>
    Math.max(1024, ...history.flatMap((rates) => picks.map((pick) => pick(rates))));
  const speed = (bytes: number | undefined) => (bytes === undefined ? "–" : `${readableBytes(bytes)}/s`);
  return (
    <section aria-label={say("metrics")} className="flex flex-col gap-2">
      {error ? <p className="text-quiet">{error}</p> : null}
      <div className="grid gap-3 md:grid-cols-2">
        <Chart
          title={say("cpu", { count: newest?.vcpus ?? "–" })}
          now={now ? `${now.cpu.toFixed(0)} %` : "–"}
          most={100}
          lines={[line(({ cpu }) => cpu, "stroke-accent")]}
        />
        <Chart
          title={say(told ? "memory" : "memoryOfHost")}
          now={
            newest && now ? readableBytes(now.memory) + (told ? ` / ${readableBytes(newest.memoryBytes)}` : "") : "–"
          }
          most={Math.max(newest?.memoryBytes ?? 1, told ? 0 : most(({ memory }) => memory))}
          lines={[line(({ memory }) => memory, "stroke-accent")]}
        />
        <Chart
          title={say("disk")}
          now={say("readWritten", { read: speed(now?.readBytes), written: speed(now?.writtenBytes) })}
          most={most(
            ({ readBytes }) => readBytes,
            ({ writtenBytes }) => writtenBytes,
          )}
          lines={[
            line(({ readBytes }) => readBytes, "stroke-accent"),
            line(({ writtenBytes }) => writtenBytes, "stroke-warn"),
          ]}
        />
        <Chart
          title={say("network")}
          now={say("receivedSent", { received: speed(now?.receivedBytes), sent: speed(now?.sentBytes) })}
          most={most(
            ({ receivedBytes }) => receivedBytes,
            ({ sentBytes }) => sentBytes,
          )}
          lines={[
            line(({ receivedBytes }) => receivedBytes, "stroke-accent"),
            line(({ sentBytes }) => sentBytes, "stroke-warn"),
          ]}
        />
      </div>
    </section>
  );
}
