import { useEffect, useState } from "react";
import { messageOf } from "~/api/client";
import { useWords } from "~/i18n/language";
import { type Link, streamAddress } from "./connecting";
import { LinkBar } from "./LinkBar";
import { TerminalFrame } from "./TerminalFrame";
import { words } from "./words";
import { useTerminal } from "./xterm";

/** A terminal at the serial console of the instance. It stays connected while it is hidden. */
export function Terminal({ path, shown }: { path: string; shown: boolean }) {
  const say = useWords(words);
  const [host, terminal] = useTerminal(say("terminal"));
  const [link, setLink] = useState<Link>({ state: "Connecting" });
  const [round, setRound] = useState(1);

  useEffect(() => {
    if (round === 0 || !terminal) return;
    let over = false;
    let socket: WebSocket | null = null;
    const typing = terminal.onData((text) => {
      if (socket?.readyState === WebSocket.OPEN) socket.send(new TextEncoder().encode(text));
    });
    setLink({ state: "Connecting" });
    streamAddress(path, "Console").then(
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
  }, [path, terminal, round]);

  useEffect(() => {
    if (shown && link.state === "Open") terminal?.focus();
  }, [shown, link.state, terminal]);

  return (
    <div className="flex h-full min-h-80 flex-col gap-2">
      <LinkBar link={link} onAgain={() => setRound((before) => before + 1)} hint={say("consoleHint")} />
      <TerminalFrame ref={host} testId="terminal" />
    </div>
  );
}
