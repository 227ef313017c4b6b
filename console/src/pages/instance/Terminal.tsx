import type { FitAddon } from "@xterm/addon-fit";
import type { Terminal as Xterm } from "@xterm/xterm";
import { useEffect, useRef, useState } from "react";
import { messageOf } from "~/api/client";
import { useWords } from "~/i18n/language";
import { type Link, type Stream, streamAddress } from "./connecting";
import { LinkBar } from "./LinkBar";
import { words } from "./words";

interface Wired {
  terminal: Xterm;
  fit: FitAddon;
}

async function makeTerminal(host: HTMLElement, label: string): Promise<Wired> {
  const [{ Terminal }, { FitAddon }] = await Promise.all([
    import("@xterm/xterm"),
    import("@xterm/addon-fit"),
    import("@xterm/xterm/css/xterm.css"),
  ]);
  const terminal = new Terminal({
    cursorBlink: true,
    fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace",
    fontSize: 14,
    scrollback: 5_000,
    screenReaderMode: true,
    theme: { background: "#0e1419", foreground: "#e6ebf0", cursor: "#2dd4bf" },
    // What a machine writes may not open windows, and not set what people read elsewhere.
    linkHandler: { activate: () => undefined },
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(host);
  terminal.textarea?.setAttribute("aria-label", label);
  return { terminal, fit };
}

/** A terminal at a stream of the instance. It stays connected while it is hidden. */
export function Terminal({ path, stream, shown }: { path: string; stream: Stream; shown: boolean }) {
  const say = useWords(words);
  const host = useRef<HTMLDivElement>(null);
  const wired = useRef<Wired | null>(null);
  const [link, setLink] = useState<Link>({ state: "Connecting" });
  const [round, setRound] = useState(0);
  const label = say("terminal");

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    let over = false;
    let made: Wired | null = null;
    void makeTerminal(element, label).then((found) => {
      if (over) return found.terminal.dispose();
      made = found;
      wired.current = found;
      found.fit.fit();
      setRound(1);
    });
    const watcher = new ResizeObserver(() => {
      if (element.clientWidth > 0) made?.fit.fit();
    });
    watcher.observe(element);
    return () => {
      over = true;
      watcher.disconnect();
      made?.terminal.dispose();
      wired.current = null;
    };
  }, [label]);

  useEffect(() => {
    const terminal = wired.current?.terminal;
    if (round === 0 || !terminal) return;
    let over = false;
    let socket: WebSocket | null = null;
    const typing = terminal.onData((text) => {
      if (socket?.readyState === WebSocket.OPEN) socket.send(new TextEncoder().encode(text));
    });
    setLink({ state: "Connecting" });
    streamAddress(path, stream).then(
      (address) => {
        if (over) return;
        socket = new WebSocket(address);
        socket.binaryType = "arraybuffer";
        socket.onopen = () => {
          setLink({ state: "Open" });
          terminal.focus();
        };
        socket.onmessage = ({ data }) => terminal.write(new Uint8Array(data as ArrayBuffer));
        socket.onclose = ({ reason }) => {
          if (!over) setLink({ state: "Closed", why: reason });
        };
      },
      (error) => {
        if (!over) setLink({ state: "Closed", why: messageOf(error) });
      },
    );
    return () => {
      over = true;
      typing.dispose();
      socket?.close();
    };
  }, [path, stream, round]);

  useEffect(() => {
    if (shown && link.state === "Open") wired.current?.terminal.focus();
  }, [shown, link.state]);

  return (
    <div className="flex h-full min-h-80 flex-col gap-2">
      <LinkBar link={link} onAgain={() => setRound((before) => before + 1)} hint={say("consoleHint")} />
      <div className="min-h-0 flex-1 overflow-hidden rounded-md bg-[#0e1419] p-2">
        <div ref={host} className="h-full" data-testid="terminal" />
      </div>
    </div>
  );
}
