/** xterm.js, loaded when the first terminal is opened. What is written to it comes from a machine, and is not trusted. */
import type { FitAddon } from "@xterm/addon-fit";
import type { Terminal as Xterm } from "@xterm/xterm";
import { type RefObject, useEffect, useRef, useState } from "react";

export interface Wired {
  terminal: Xterm;
  fit: FitAddon;
}

export const FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace";

export async function makeTerminal(host: HTMLElement, readOnly = false): Promise<Wired> {
  const [{ Terminal }, { FitAddon }] = await Promise.all([
    import("@xterm/xterm"),
    import("@xterm/addon-fit"),
    import("@xterm/xterm/css/xterm.css"),
  ]);
  const terminal = new Terminal({
    cursorBlink: !readOnly,
    disableStdin: readOnly,
    fontFamily: FONT,
    fontSize: 14,
    // With less, rows cut off underscores.
    lineHeight: 1.2,
    scrollback: 5_000,
    screenReaderMode: true,
    theme: { background: "#0e1419", foreground: "#e6ebf0", cursor: "#2dd4bf" },
    // What a machine writes may not open windows, and not set what people read elsewhere.
    linkHandler: { activate: () => undefined },
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(host);
  return { terminal, fit };
}

/** Returns a place for a terminal that is as large as the place, and the terminal when it is there. */
export function useTerminal(label: string): [RefObject<HTMLDivElement>, Xterm | null] {
  const host = useRef<HTMLDivElement>(null);
  const [terminal, setTerminal] = useState<Xterm | null>(null);
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    let over = false;
    let made: Wired | null = null;
    void makeTerminal(element).then((found) => {
      if (over) return found.terminal.dispose();
      made = found;
      found.fit.fit();
      setTerminal(found.terminal);
    });
    // One that is hidden keeps its size.
    const watcher = new ResizeObserver(() => {
      if (element.clientWidth > 0) made?.fit.fit();
    });
    watcher.observe(element);
    return () => {
      over = true;
      watcher.disconnect();
      made?.terminal.dispose();
      setTerminal(null);
    };
  }, []);
  useEffect(() => terminal?.textarea?.setAttribute("aria-label", label), [terminal, label]);
  return [host, terminal];
}
