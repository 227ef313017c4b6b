import { History as HistoryIcon, Pencil } from "lucide-react";
import { Link } from "react-router";
import { Button } from "~/components/Button";
import { useWords } from "~/i18n/language";
import { words } from "./words";

/** The ways to what an object was, and to what it shall be. */
export function ChangeLinks({ link, writable }: { link: string; writable: boolean }) {
  const say = useWords(words);
  return (
    <>
      <Button asChild>
        <Link to={`${link}/timeline`}>
          <HistoryIcon aria-hidden />
          {say("timeline")}
        </Link>
      </Button>
      {writable ? (
        <Button asChild>
          <Link to={`${link}/edit`}>
            <Pencil aria-hidden />
            {say("edit")}
          </Link>
        </Button>
      ) : null}
    </>
  );
}
