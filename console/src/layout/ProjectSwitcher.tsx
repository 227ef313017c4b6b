import { ChevronsUpDown, Folder, FolderOpen } from "lucide-react";
import { Popover } from "radix-ui";
import { useId, useMemo, useState } from "react";
import { useLocation, useNavigate } from "react-router";
import { listLink, useKinds } from "~/api/kinds";
import { useMe } from "~/api/me";
import { useProjects } from "~/api/projects";
import { Button } from "~/components/Button";
import { classes } from "~/components/classes";
import { Input } from "~/components/Field";
import { useWords } from "~/i18n/language";
import { usePreferences } from "./preferences";
import { useProject } from "./scope";
import { words } from "./words";

/** Returns where the same list is for another project; null: for all. An object's page becomes its kind's list. */
export function inProject(pathname: string, project: string | null, plurals: readonly string[]): string {
  const [, first = "", , inside] = pathname.split("/");
  const plural = first === "projects" ? inside : first;
  if (!plural || !(first === "projects" || plurals.includes(plural))) return pathname;
  if (project === null && !plurals.includes(plural)) return "/";
  return listLink(plural, project);
}

export function ProjectSwitcher() {
  const say = useWords(words);
  const [open, setOpen] = useState(false);
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const listId = useId();
  const me = useMe();
  const { projects: names } = useProjects();
  const present = useProject();
  const kinds = useKinds();
  const navigate = useNavigate();
  const { pathname } = useLocation();

  const choices = useMemo(() => {
    const found = names.filter((name) => name.includes(text.trim().toLowerCase()));
    return [...(text ? [] : [null]), ...found];
  }, [names, text]);

  const projectKinds = useMemo(
    () => kinds.filter(({ scope }) => scope !== "Global").map(({ plural }) => plural),
    [kinds],
  );
  const choose = (project: string | null) => {
    setOpen(false);
    setText("");
    usePreferences.getState().set({ project });
    const to = inProject(pathname, project, projectKinds);
    if (to !== pathname) void navigate(to);
  };

  if (me && names.length === 0 && !me.allProjects) return null;
  return (
    <Popover.Root open={open} onOpenChange={setOpen}>
      <Popover.Trigger asChild>
        <Button look="quiet" aria-label={`${say("project")}: ${present ?? say("allProjects")}`}>
          <Folder aria-hidden />
          <span className="max-w-32 truncate sm:max-w-56">{present ?? say("allProjects")}</span>
          <ChevronsUpDown aria-hidden className="text-quiet" />
        </Button>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="start"
          sideOffset={4}
          aria-label={say("project")}
          className="z-50 w-64 rounded-md border border-line bg-surface p-2 shadow-lg"
        >
          <Input
            role="combobox"
            aria-expanded
            aria-controls={listId}
            aria-activedescendant={choices.length > 0 ? `${listId}-${at}` : undefined}
            aria-label={say("findProject")}
            placeholder={say("findProject")}
            value={text}
            onChange={(event) => {
              setText(event.target.value);
              setAt(0);
            }}
            onKeyDown={(event) => {
              if (event.key === "ArrowDown") setAt(Math.min(at + 1, choices.length - 1));
              else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
              else if (event.key === "Enter" && at < choices.length) choose(choices[at] ?? null);
              else return;
              event.preventDefault();
            }}
          />
          <div role="listbox" id={listId} aria-label={say("project")} className="mt-2 max-h-72 overflow-y-auto">
            {choices.map((name, index) => (
              // biome-ignore lint/a11y/useKeyWithClickEvents: the keys are the input's, as in any combobox
              <div
                key={name ?? ""}
                id={`${listId}-${index}`}
                role="option"
                tabIndex={-1}
                aria-selected={index === at}
                onClick={() => choose(name)}
                onPointerMove={() => setAt(index)}
                className={classes(
                  "flex cursor-pointer items-center gap-2 rounded px-2 py-1.5",
                  index === at && "bg-raised",
                )}
              >
                {name ? <Folder aria-hidden className="size-4" /> : <FolderOpen aria-hidden className="size-4" />}
                <span className={classes("truncate", name === present && "font-semibold")}>
                  {name ?? say("allProjects")}
                </span>
              </div>
            ))}
            {choices.length === 0 ? <p className="px-2 py-1.5 text-quiet">{say("noProject")}</p> : null}
          </div>
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}
