import { CircleDot, Plug } from "lucide-react";
import { type FormEvent, useEffect, useId, useRef, useState } from "react";
import { messageOf } from "~/api/client";
import { vcctl } from "~/api/kinds";
import { Badge } from "~/components/Badge";
import { Button } from "~/components/Button";
import { CopyButton } from "~/components/CopyButton";
import { Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { type Link, streamAddress } from "./connecting";
import { LinkBar } from "./LinkBar";
import { readNotice } from "./shellnotices";
import { TerminalFrame } from "./TerminalFrame";
import { words } from "./words";
import { useTerminal } from "./xterm";

interface Props {
  path: string;
  project: string;
  name: string;
  shown: boolean;
}

/** A guest takes its time to boot: so long it is tried again, and that often. */
const PATIENCE_MS = 120_000;
const AGAIN_MS = 3_000;
const OPEN: Link = { state: "Open" };

/** One shell: as whom it was asked for. Another one, also of the same login, is another object. */
interface Asked {
  login: string;
}

/** A shell in the guest by SSH, as whom one likes. It stays connected while it is hidden. */
export function Shell({ path, project, name, shown }: Props) {
  const say = useWords(words);
  const field = useId();
  const [host, terminal] = useTerminal(say("shellTerminal"));
  const [login, setLogin] = useState("");
  const [asked, setAsked] = useState<Asked | null>(null);
  const [link, setLink] = useState<Link>({ state: "Closed", why: "" });
  const [isRecorded, setRecorded] = useState(false);

  // A shell goes on in whatever language the page is.
  const sayNow = useRef(say);
  sayNow.current = say;

  useEffect(() => {
    if (!asked || !terminal) return;
    let over = false;
    let socket: WebSocket | null = null;
    let again: ReturnType<typeof setTimeout> | undefined;
    const patientUntil = Date.now() + PATIENCE_MS;
    const send = (data: string | Uint8Array<ArrayBuffer>) => {
      if (socket?.readyState === WebSocket.OPEN) socket.send(data);
    };
    const size = () => ({ columns: terminal.cols, rows: terminal.rows });
    const typing = terminal.onData((text) => send(new TextEncoder().encode(text)));
    const resizing = terminal.onResize(() => send(JSON.stringify({ resize: size() })));
    setLink({ state: "Connecting" });
    const open = () => {
      let ending = "";
      let isPassing = false;
      let wasOpen = false;
      terminal.reset();
      setRecorded(false);
      const take = (text: string) => {
        const notice = readNotice(text);
        isPassing = notice.passing ?? false;
        if (notice.recorded) setRecorded(true);
        if (notice.fault) ending = notice.fault;
        if (notice.ended !== undefined) ending = sayNow.current("shellEnded", { status: notice.ended });
      };
      streamAddress(path, "Shell", { user: asked.login || undefined, ...size() }).then(
        (address) => {
          if (over) return;
          socket = new WebSocket(address);
          socket.binaryType = "arraybuffer";
          socket.onmessage = ({ data }) => {
            // The first that comes says that there is a shell: a websocket alone is none.
            if (typeof data === "string") take(data);
            else {
              wasOpen = true;
              terminal.write(new Uint8Array(data as ArrayBuffer));
            }
            if (!ending) setLink(OPEN);
          };
          socket.onclose = ({ reason }) => {
            if (over) return;
            const why = ending || reason || sayNow.current("broken");
            if (isPassing && !wasOpen && Date.now() < patientUntil) {
              setLink({ state: "Waiting", why });
              again = setTimeout(open, AGAIN_MS);
            } else setLink({ state: "Closed", why });
          };
        },
        (error) => {
          if (!over) setLink({ state: "Closed", why: messageOf(error) });
        },
      );
    };
    open();
    return () => {
      over = true;
      clearTimeout(again);
      typing.dispose();
      resizing.dispose();
      socket?.close();
    };
  }, [path, terminal, asked]);

  useEffect(() => {
    if (shown && link.state === "Open") terminal?.focus();
  }, [shown, link.state, terminal]);

  const connect = (event: FormEvent) => {
    event.preventDefault();
    setAsked({ login: login.trim() });
  };
  const command = (
    <CopyButton command text={vcctl("ssh", name, "-p", project, ...(login.trim() ? ["--user", login.trim()] : []))} />
  );
  return (
    <div className="flex h-full min-h-80 flex-col gap-2">
      {asked ? (
        <LinkBar link={link}>
          {isRecorded && link.state === "Open" ? (
            <Badge tone="warn">
              <CircleDot aria-hidden className="size-3" />
              {say("recorded")}
            </Badge>
          ) : null}
          {link.state === "Waiting" ? (
            <Button
              onClick={() => {
                setAsked(null);
                setLink({ state: "Closed", why: "" });
              }}
            >
              {say("stopWaiting")}
            </Button>
          ) : null}
          {command}
        </LinkBar>
      ) : null}
      {link.state === "Closed" ? (
        <form onSubmit={connect} className="flex flex-wrap items-center gap-2">
          <label htmlFor={field} className="text-quiet">
            {say("login")}
          </label>
          <Input
            id={field}
            value={login}
            placeholder="root"
            maxLength={64}
            spellCheck={false}
            autoComplete="off"
            autoCapitalize="none"
            className="w-40 font-mono"
            onChange={({ target }) => setLogin(target.value)}
          />
          <Button type="submit" look="primary" disabled={!terminal}>
            <Plug aria-hidden />
            {say("openShell")}
          </Button>
          <span className="min-w-0 flex-1 text-quiet text-xs">{say("shellHint")}</span>
          {asked ? null : command}
        </form>
      ) : null}
      {isRecorded && link.state === "Open" ? <p className="text-quiet text-xs">{say("recordedHint")}</p> : null}
      <TerminalFrame ref={host} testId="shell" />
    </div>
  );
}
