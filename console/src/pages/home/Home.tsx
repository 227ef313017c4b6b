import { useMemo } from "react";
import { Link } from "react-router";
import { listLink, useKinds } from "~/api/kinds";
import { useMe } from "~/api/me";
import { useWords } from "~/i18n/language";
import { group } from "~/layout/Navigation";
import { useProject } from "~/layout/scope";
import { words } from "./words";

/** The start: all that there is, with what it is for. */
export function Component() {
  const say = useWords(words);
  const kinds = useKinds();
  const me = useMe();
  const project = useProject();
  const groups = useMemo(() => group(kinds), [kinds]);
  return (
    <div className="flex flex-col gap-6 p-4">
      <h1 className="font-semibold text-lg">{say("title")}</h1>
      {me?.notice ? <p className="rounded-md bg-info-ground p-3 text-info">{me.notice}</p> : null}
      {groups.map(([category, members]) => (
        <ul key={category} className="grid gap-3 sm:grid-cols-2 lg:grid-cols-3 xl:grid-cols-4">
          {members.map((kind) => (
            <li key={kind.plural}>
              <Link
                to={listLink(kind.plural, kind.scope === "Project" ? project : null)}
                className="flex h-full flex-col gap-1 rounded-lg border border-line bg-surface p-3 hover:border-accent"
              >
                <span className="font-semibold">{kind.kind}</span>
                <span className="line-clamp-2 text-quiet">{kind.doc}</span>
              </Link>
            </li>
          ))}
        </ul>
      ))}
    </div>
  );
}
