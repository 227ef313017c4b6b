import { Link } from "react-router";
import { useWords } from "~/i18n/language";
import { words } from "./words";

export function Logo() {
  const say = useWords(words);
  return (
    <Link to="/" aria-label={say("console")} className="shrink-0 rounded">
      <img src="/console/icon.svg" alt="" className="size-7" />
    </Link>
  );
}
