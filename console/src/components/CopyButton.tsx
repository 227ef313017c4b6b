import { Check, Copy, Terminal } from "lucide-react";
import { useEffect, useState } from "react";
import { useWords } from "~/i18n/language";
import { Button, type ButtonProps } from "./Button";
import { words } from "./words";

interface CopyButtonProps extends Omit<ButtonProps, "onClick"> {
  text: string;
  /** The text is a command: it is shown when the pointer rests on the button. */
  command?: boolean;
  label?: string;
}

/** Copies a text; with `command` what the page does, as vcctl would do it. */
export function CopyButton({ text, command = false, label, ...rest }: CopyButtonProps) {
  const say = useWords(words);
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const name = label ?? say(command ? "copyCommand" : "copy");
  const Icon = copied ? Check : command ? Terminal : Copy;
  return (
    <Button
      look="quiet"
      icon
      aria-label={copied ? say("copied") : name}
      title={command ? `${name}: ${text}` : name}
      onClick={() => void navigator.clipboard.writeText(text).then(() => setCopied(true))}
      {...rest}
    >
      <Icon aria-hidden />
    </Button>
  );
}
