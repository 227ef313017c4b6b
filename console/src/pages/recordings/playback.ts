/** What was recorded, written into a terminal as time goes on, forwards and backwards. */
import type { Terminal as Xterm } from "@xterm/xterm";
import { useEffect, useRef, useState } from "react";
import { type Cast, countUntil, type Event } from "./asciicast";

/** xterm.js takes more only to throw it away. */
const PORTION = 500_000;
/** A page that nobody looks at gets no frames: what passed meanwhile is not made up for. */
const LONGEST_FRAME = 0.25;

export interface Playback {
  playing: boolean;
  position: number;
  toggle: () => void;
  seek: (moment: number) => void;
}

/** Writes events one after the other: what changes the terminal's size waits for what was written before. */
class Writer {
  private done = 0;
  private queue = Promise.resolve();

  constructor(
    private readonly terminal: Xterm,
    private readonly cast: Cast,
  ) {
    this.afterwards(() => this.clear());
  }

  showUntil(moment: number): void {
    const { events } = this.cast;
    const until = countUntil(events, moment);
    if (until === this.done) return;
    const from = until < this.done ? 0 : this.done;
    if (from === 0) this.afterwards(() => this.clear());
    this.done = until;
    this.afterwards(() => this.write(events.slice(from, until)));
  }

  private afterwards(step: () => Promise<void> | void): void {
    this.queue = this.queue.then(step);
  }

  private clear(): void {
    this.terminal.reset();
    this.terminal.resize(this.cast.columns, this.cast.rows);
  }

  private async write(events: readonly Event[]): Promise<void> {
    let text = "";
    const flush = async () => {
      for (let start = 0; start < text.length; start += PORTION) {
        const portion = text.slice(start, start + PORTION);
        await new Promise<void>((resolve) => this.terminal.write(portion, resolve));
      }
      text = "";
    };
    for (const event of events) {
      if ("output" in event) text += event.output;
      else {
        await flush();
        this.terminal.resize(event.columns, event.rows);
      }
    }
    await flush();
  }
}

/** Plays a recording into a terminal, from its beginning and at once. */
export function usePlayback(terminal: Xterm | null, cast: Cast, speed: number): Playback {
  const [playing, setPlaying] = useState(true);
  const [position, setPosition] = useState(0);
  const moment = useRef(0);
  const writer = useRef<Writer | null>(null);
  const before = useRef(cast);

  useEffect(() => {
    if (!terminal) return;
    // The same place, where pauses are longer or shorter now.
    const done = countUntil(before.current.events, moment.current);
    if (before.current !== cast) moment.current = done === 0 ? 0 : (cast.events[done - 1] as Event).at;
    before.current = cast;
    writer.current = new Writer(terminal, cast);
    writer.current.showUntil(moment.current);
    setPosition(moment.current);
    return () => {
      writer.current = null;
    };
  }, [terminal, cast]);

  useEffect(() => {
    if (!terminal || !playing) return;
    let last = performance.now();
    let frame = 0;
    const step = (now: number) => {
      moment.current += Math.min((now - last) / 1000, LONGEST_FRAME) * speed;
      last = now;
      const isOver = moment.current >= cast.length;
      if (isOver) {
        moment.current = cast.length;
        setPlaying(false);
      } else frame = requestAnimationFrame(step);
      writer.current?.showUntil(moment.current);
      setPosition(isOver ? cast.length : Math.floor(moment.current * 10) / 10);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [terminal, cast, playing, speed]);

  const seek = (to: number) => {
    moment.current = Math.min(Math.max(to, 0), cast.length);
    writer.current?.showUntil(moment.current);
    setPosition(moment.current);
  };
  return {
    playing,
    position,
    seek,
    toggle: () => {
      if (!playing && moment.current >= cast.length) seek(0);
      setPlaying(!playing);
    },
  };
}
