/** Keys that do something anywhere. Single letters can be turned off (WCAG 2.1.4): speech input types them by accident. */
import { useEffect } from "react";
import { useNavigate } from "react-router";
import { listLink } from "~/api/kinds";
import { openOverlay } from "./overlays";
import { other, usePreferences } from "./preferences";
import type { words } from "./words";

type Key = keyof (typeof words)["en"];

/** Where `g` and then a letter leads: the plural of a kind, empty for the start. */
const PLACES = { o: "", i: "instances", n: "networks", h: "hosts", p: "projects", u: "users" } as const;
const IN_PROJECT = new Set(["instances", "networks"]);

export const SHORTCUTS: readonly { keys: string; says: Key }[] = [
  { keys: "Ctrl+K", says: "search" },
  { keys: "?", says: "shortcuts" },
  { keys: "/", says: "key.find" },
  { keys: "g o", says: "key.home" },
  { keys: "g i", says: "key.instances" },
  { keys: "g n", says: "key.networks" },
  { keys: "g h", says: "key.hosts" },
  { keys: "g p", says: "key.projects" },
  { keys: "g u", says: "key.users" },
  { keys: "t", says: "key.theme" },
];
const SECOND_KEY_MS = 1_500;

/** Whether what is typed goes into something: there letters are letters. */
export function takesText(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return (
    target.isContentEditable ||
    /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) ||
    target.closest("[data-keys]") !== null
  );
}

export function useShortcuts(): void {
  const navigate = useNavigate();
  useEffect(() => {
    let began = 0;
    const onKey = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
        event.preventDefault();
        openOverlay("Palette");
        return;
      }
      const { letterKeys, project, theme, set } = usePreferences.getState();
      const typed = event.ctrlKey || event.metaKey || event.altKey || takesText(event.target);
      if (typed || !letterKeys || document.querySelector("[role=dialog],[role=menu]")) return;
      const place = event.timeStamp - began < SECOND_KEY_MS ? PLACES[event.key as keyof typeof PLACES] : undefined;
      began = event.key === "g" ? event.timeStamp : 0;
      if (place !== undefined) void navigate(place ? listLink(place, IN_PROJECT.has(place) ? project : null) : "/");
      else if (event.key === "?") openOverlay("Shortcuts");
      else if (event.key === "/") document.querySelector<HTMLElement>("[data-find]")?.focus();
      else if (event.key === "t") set({ theme: other(theme) });
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [navigate]);
}
