import { useQueries } from "@tanstack/react-query";
import { Command } from "cmdk";
import { Box, CornerDownRight, Folder, Keyboard, Languages, LogOut, Moon, Search } from "lucide-react";
import { Dialog } from "radix-ui";
import { type ReactNode, useMemo, useState } from "react";
import { useNavigate } from "react-router";
import { messageOf, request } from "~/api/client";
import { collectionPath, type KindInfo, linkOf, listLink } from "~/api/kinds";
import { useMe } from "~/api/me";
import { useProjects } from "~/api/projects";
import { useListableKinds } from "~/api/rights";
import { logOut } from "~/api/session";
import type { Resource, ResourceList } from "~/api/types";
import { useWords } from "~/i18n/language";
import { ENTRIES, words as pageWords } from "~/pages";
import { isFor } from "./Navigation";
import { openOverlay } from "./overlays";
import { other, usePreferences } from "./preferences";
import { useProject } from "./scope";
import { toast } from "./toasts";
import { words } from "./words";

interface Choice {
  id: string;
  text: string;
  detail?: string;
  icon: ReactNode;
  run: () => void;
}

/** Objects of these are found by name; there are more, but their names say nothing. */
const SEARCHED = ["compute", "network", "gitops"];
const OF_A_KIND = 500;
const SHOWN = 40;

/** Returns the choices in which all words stand; those whose text begins with what was typed come first. */
export function search<T extends { text: string; detail?: string }>(choices: readonly T[], typed: string): T[] {
  const asked = typed.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const first = asked[0] ?? "";
  const found = choices.filter(({ text, detail }) => {
    const all = `${text} ${detail ?? ""}`.toLowerCase();
    return asked.every((word) => all.includes(word));
  });
  const rank = ({ text }: T) => (text.toLowerCase().startsWith(first) ? 0 : 1);
  return found.sort((a, b) => rank(a) - rank(b)).slice(0, SHOWN);
}

/** Everything that can be done and found, by typing. Mounted while it is open. */
export default function Palette() {
  const say = useWords(words);
  const sayPage = useWords(pageWords);
  const [typed, setTyped] = useState("");
  const navigate = useNavigate();
  const project = useProject();
  const kinds = useListableKinds(project);
  const me = useMe();
  const { projects } = useProjects();
  const { objects, cut } = useObjects(kinds, project);
  const { theme, language, set } = usePreferences();

  const choices = useMemo<Choice[]>(() => {
    const go = (to: string) => () => void navigate(to);
    const at = (kind: KindInfo) => listLink(kind.plural, kind.scope === "Project" ? project : null);
    const choose = (name: string) => () => {
      set({ project: name });
      void navigate(listLink("instances", name));
    };
    return [
      ...ENTRIES.filter(
        ({ path, entry }) => (project !== null || !path.includes(":project")) && isFor(me, entry.only),
      ).map(({ path, entry }) => ({
        id: path,
        text: sayPage(entry.words),
        icon: <entry.icon aria-hidden />,
        run: go(path.replace(":project", encodeURIComponent(project ?? ""))),
      })),
      ...kinds.map((kind) => ({
        id: `kind/${kind.plural}`,
        text: kind.kind,
        detail: [kind.plural, ...kind.shortNames].join(" "),
        icon: <CornerDownRight aria-hidden />,
        run: go(at(kind)),
      })),
      {
        id: "theme",
        text: say(other(theme) === "light" ? "toLight" : "toDark"),
        icon: <Moon aria-hidden />,
        run: () => set({ theme: other(theme) }),
      },
      {
        id: "language",
        text: say("toOtherLanguage"),
        icon: <Languages aria-hidden />,
        run: () => set({ language: language === "en" ? "zh" : "en" }),
      },
      { id: "keys", text: say("shortcuts"), icon: <Keyboard aria-hidden />, run: () => openOverlay("Shortcuts") },
      {
        id: "out",
        text: say("logOut"),
        icon: <LogOut aria-hidden />,
        run: () => void logOut().catch((error) => toast("bad", messageOf(error))),
      },
      ...projects.map((name) => ({
        id: `project/${name}`,
        text: name,
        detail: say("project"),
        icon: <Folder aria-hidden />,
        run: choose(name),
      })),
      ...objects.map(({ kind, object }) => ({
        id: object.metadata.uid,
        text: object.metadata.name,
        detail: [kind.kind, object.metadata.project ?? ""].join(" "),
        icon: <Box aria-hidden />,
        run: go(linkOf(kind, object)),
      })),
    ];
  }, [say, sayPage, kinds, me, project, projects, objects, theme, language, set, navigate]);
  const found = useMemo(() => {
    const text = typed.trim();
    // Lists have all: what is not among the first may be there.
    const further =
      text === ""
        ? []
        : cut.map((kind): Choice => {
            const list = listLink(kind.plural, kind.scope === "Global" ? null : project);
            return {
              id: `find/${kind.plural}`,
              text: say("findIn", { text, kind: kind.kind }),
              icon: <Search aria-hidden />,
              run: () => void navigate(`${list}?${new URLSearchParams({ q: text })}`),
            };
          });
    return [...search(choices, typed), ...further];
  }, [choices, typed, cut, project, say, navigate]);

  return (
    <Dialog.Root open onOpenChange={() => openOverlay(null)}>
      <Dialog.Portal>
        <Dialog.Overlay className="fixed inset-0 z-40 bg-black/50" />
        <Dialog.Content
          aria-describedby={undefined}
          className="fixed top-[8vh] left-1/2 z-50 w-[calc(100%-1rem)] max-w-xl -translate-x-1/2 overflow-hidden rounded-lg border border-line bg-surface shadow-2xl"
        >
          <Dialog.Title className="sr-only">{say("search")}</Dialog.Title>
          <Command shouldFilter={false} loop label={say("search")}>
            <div className="flex items-center gap-2 border-line border-b px-3">
              <Search aria-hidden className="size-4 text-quiet" />
              <Command.Input
                value={typed}
                onValueChange={setTyped}
                placeholder={say("search")}
                className="h-11 w-full bg-transparent outline-none placeholder:text-quiet"
              />
            </div>
            <Command.List label={say("search")} className="max-h-[60vh] overflow-y-auto p-1">
              <Command.Empty className="p-4 text-center text-quiet">{say("nothingFound")}</Command.Empty>
              {found.map(({ id, text, detail, icon, run }) => (
                <Command.Item
                  key={id}
                  value={id}
                  onSelect={() => {
                    openOverlay(null);
                    run();
                  }}
                  className="flex cursor-pointer items-center gap-2 rounded px-2 py-1.5 data-[selected=true]:bg-raised [&_svg]:size-4 [&_svg]:shrink-0 [&_svg]:text-quiet"
                >
                  {icon}
                  <span className="truncate">{text}</span>
                  <span className="ml-auto truncate text-quiet text-xs">{detail}</span>
                </Command.Item>
              ))}
            </Command.List>
          </Command>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

interface Objects {
  objects: { kind: KindInfo; object: Resource }[];
  /** The kinds of which there are more. */
  cut: KindInfo[];
}

function useObjects(kinds: KindInfo[], project: string | null): Objects {
  const wanted = kinds.filter(({ category }) => SEARCHED.includes(category));
  return useQueries({
    queries: wanted.map((kind) => ({
      queryKey: ["search", kind.plural, project],
      queryFn: ({ signal }: { signal: AbortSignal }) => {
        const path = collectionPath(kind.plural, kind.scope === "Global" ? null : project);
        return request<ResourceList>("GET", path, { query: { limit: OF_A_KIND }, signal });
      },
      staleTime: 20_000,
      retry: false, // of what one may not see nothing is found
    })),
    combine: (results) => {
      const lists = results.flatMap(({ data }, index) => {
        const kind = wanted[index];
        return kind && data ? [{ kind, data }] : [];
      });
      return {
        objects: lists.flatMap(({ kind, data }) => data.items.map((object) => ({ kind, object }))),
        cut: lists.filter(({ data }) => data.metadata.continue).map(({ kind }) => kind),
      };
    },
  });
}
