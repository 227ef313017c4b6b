import { type ReactNode, useId, useMemo } from "react";
import { NavLink } from "react-router";
import { type KindInfo, listLink } from "~/api/kinds";
import { useMe } from "~/api/me";
import { useListableKinds } from "~/api/rights";
import type { Me } from "~/api/types";
import { classes } from "~/components/classes";
import { useWords } from "~/i18n/language";
import { ENTRIES, words as pageWords } from "~/pages";
import { useProject } from "./scope";
import { words } from "./words";

const CATEGORIES = ["compute", "network", "storage", "gitops", "security", "identity", "core"] as const;

/** Returns the kinds by category, those of known categories first. */
export function group(kinds: KindInfo[]): [string, KindInfo[]][] {
  const found = new Map<string, KindInfo[]>(CATEGORIES.map((name) => [name, []]));
  for (const kind of kinds) {
    const into = found.get(kind.category) ?? [];
    into.push(kind);
    found.set(kind.category, into);
  }
  return [...found].filter(([, members]) => members.length > 0);
}

export function Navigation({ open }: { open: boolean }) {
  const say = useWords(words);
  const sayPage = useWords(pageWords);
  const project = useProject();
  const kinds = useListableKinds(project);
  const groups = useMemo(() => group(kinds), [kinds]);
  const me = useMe();
  return (
    <nav
      id="navigation"
      aria-label={say("navigation")}
      className={classes(
        "w-56 shrink-0 overflow-y-auto border-line border-r bg-surface p-2",
        "max-md:absolute max-md:inset-y-0 max-md:left-0 max-md:z-30 max-md:shadow-xl",
        !open && "max-md:hidden",
      )}
    >
      <Section>
        {ENTRIES.filter(
          ({ path, entry }) => (project !== null || !path.includes(":project")) && isFor(me, entry.only),
        ).map(({ path, entry }) => (
          <Entry
            key={path}
            to={path.replace(":project", encodeURIComponent(project ?? ""))}
            icon={<entry.icon aria-hidden className="size-4 shrink-0" />}
          >
            {sayPage(entry.words)}
          </Entry>
        ))}
      </Section>
      {groups.map(([category, members]) => (
        <Section key={category} title={isKnown(category) ? say(`category.${category}`) : category}>
          {members.map((kind) => (
            <Entry
              key={kind.plural}
              to={listLink(kind.plural, kind.scope === "Project" ? project : null)}
              title={kind.doc}
            >
              {kind.kind}
            </Entry>
          ))}
        </Section>
      ))}
    </nav>
  );
}

export const isFor = (me: Me | undefined, only: "operators" | "tenants" | undefined): boolean =>
  only === undefined || (me !== undefined && me.allProjects === (only === "operators"));

const isKnown = (category: string): category is (typeof CATEGORIES)[number] =>
  (CATEGORIES as readonly string[]).includes(category);

function Section({ title, children }: { title?: string; children: ReactNode }) {
  const id = useId();
  return (
    <div className="mb-3">
      {title ? (
        <h2 id={id} className="px-2 pb-1 font-semibold text-quiet text-xs">
          {title}
        </h2>
      ) : null}
      <ul {...(title ? { "aria-labelledby": id } : {})}>{children}</ul>
    </div>
  );
}

interface EntryProps {
  to: string;
  icon?: ReactNode;
  title?: string;
  children: ReactNode;
}

const Entry = ({ to, icon, title, children }: EntryProps) => (
  <li>
    <NavLink
      to={to}
      end={to === "/"}
      {...(title ? { title } : {})}
      className={({ isActive }) =>
        classes(
          "flex items-center gap-2 rounded-md px-2 py-1 hover:bg-raised",
          isActive && "bg-raised font-semibold text-accent",
        )
      }
    >
      {icon}
      {children}
    </NavLink>
  </li>
);
