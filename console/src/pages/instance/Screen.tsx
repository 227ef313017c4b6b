import type RFB from "@novnc/novnc";
import { Camera, Keyboard, Maximize } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { messageOf } from "~/api/client";
import { Button } from "~/components/Button";
import { useWords } from "~/i18n/language";
import { type Link, streamAddress } from "./connecting";
import { LinkBar } from "./LinkBar";
import { Screenshot } from "./Screenshot";
import { words } from "./words";

interface Props {
  path: string;
  project: string;
  name: string;
  shown: boolean;
}

/** The machine's screen, keyboard and pointer. It stays connected while it is hidden. */
export function Screen({ path, project, name, shown }: Props) {
  const say = useWords(words);
  const frame = useRef<HTMLDivElement>(null);
  const screen = useRef<RFB | null>(null);
  const [link, setLink] = useState<Link>({ state: "Connecting" });
  const [round, setRound] = useState(1);
  const [picture, setPicture] = useState(false);

  useEffect(() => {
    const element = frame.current;
    if (!element || round === 0) return;
    let over = false;
    const connect = async () => {
      const [{ default: Viewer }, address] = await Promise.all([import("@novnc/novnc"), streamAddress(path, "VNC")]);
      if (over) return;
      const made = new Viewer(element, address, { shared: true });
      made.scaleViewport = true;
      made.background = "transparent";
      made.addEventListener("connect", () => setLink({ state: "Open" }));
      made.addEventListener("disconnect", ({ detail }) => {
        if (!over) setLink({ state: "Closed", why: detail.clean ? "" : say("broken") });
      });
      screen.current = made;
    };
    setLink({ state: "Connecting" });
    connect().catch((error) => {
      if (!over) setLink({ state: "Closed", why: messageOf(error) });
    });
    return () => {
      over = true;
      screen.current?.disconnect();
      screen.current = null;
      element.replaceChildren();
    };
  }, [path, round, say]);

  useEffect(() => {
    if (shown && link.state === "Open") screen.current?.focus();
  }, [shown, link.state]);

  return (
    <div className="flex h-full min-h-80 flex-col gap-2">
      <LinkBar link={link} onAgain={() => setRound((before) => before + 1)} hint={say("screenHint")}>
        <Button disabled={link.state !== "Open"} onClick={() => screen.current?.sendCtrlAltDel()}>
          <Keyboard aria-hidden />
          {"Ctrl+Alt+Del"}
        </Button>
        <Button onClick={() => setPicture(true)}>
          <Camera aria-hidden />
          {say("screenshot")}
        </Button>
        <Button icon aria-label={say("fullScreen")} onClick={() => void frame.current?.requestFullscreen()}>
          <Maximize aria-hidden />
        </Button>
      </LinkBar>
      <section
        ref={frame}
        aria-label={say("screenOf", { name })}
        data-testid="screen"
        className="min-h-0 flex-1 overflow-hidden rounded-md bg-black"
      />
      {picture ? <Screenshot path={path} project={project} name={name} onClose={() => setPicture(false)} /> : null}
    </div>
  );
}
