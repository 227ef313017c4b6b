import { Plug, RotateCcw } from "lucide-react";
import type { ReactNode } from "react";
import { Badge } from "~/components/Badge";
import { Button } from "~/components/Button";
import { useWords } from "~/i18n/language";
import type { Link } from "./connecting";
import { words } from "./words";

interface LinkBarProps {
  link: Link;
  /** What connects again; none where something else does. */
  onAgain?: () => void;
  hint?: string;
  children?: ReactNode;
}

/** Says how a connection is, and what can be done about it. */
export function LinkBar({ link, onAgain, hint, children }: LinkBarProps) {
  const say = useWords(words);
  return (
    <div className="flex flex-wrap items-center gap-2">
      <span role="status" className="flex min-w-0 flex-wrap items-center gap-2">
        {link.state === "Open" ? (
          <Badge tone="good">
            <Plug aria-hidden className="size-3" />
            {say("connected")}
          </Badge>
        ) : link.state === "Connecting" ? (
          <Badge tone="info">{say("connecting")}</Badge>
        ) : link.state === "Waiting" ? (
          <>
            <Badge tone="info">{say("waitingForSsh")}</Badge>
            <span className="min-w-0 break-words text-quiet">{link.why}</span>
          </>
        ) : (
          <>
            <Badge tone="bad">{say("disconnected")}</Badge>
            <span className="min-w-0 break-words">{link.why}</span>
          </>
        )}
      </span>
      {link.state === "Closed" && onAgain ? (
        <Button onClick={onAgain}>
          <RotateCcw aria-hidden />
          {say("connectAgain")}
        </Button>
      ) : null}
      {link.state === "Open" && hint ? <span className="text-quiet text-xs">{hint}</span> : null}
      <span className="ml-auto flex flex-wrap items-center gap-2">{children}</span>
    </div>
  );
}
