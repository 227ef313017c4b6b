/**
 * The pages within the shell. To add one: a folder here whose file exports `Component`, and a line below. It is loaded
 * when it is first opened. Addresses follow the API's: what is at /api/v1/projects/demo/instances is at
 * /console/projects/demo/instances. A fixed address goes before `:plural` by itself.
 */
import type { LucideIcon } from "lucide-react";
import { History, House, Rocket } from "lucide-react";
import type { ComponentType } from "react";
import { defineWords } from "~/i18n/language";

/** The pages' names in the navigation. */
export const words = defineWords({
  en: { home: "Overview", launch: "Launch an instance", timeline: "Timeline" },
  zh: { home: "概览", launch: "启动实例", timeline: "时间线" },
});

interface Page {
  path: string;
  load: () => Promise<{ Component: ComponentType }>;
  /** Makes it stand in the navigation, above the kinds; one with `:project` only when a project was chosen. */
  entry?: Entry;
}

interface Entry {
  words: keyof (typeof words)["en"];
  icon: LucideIcon;
}

export const PAGES: readonly Page[] = [
  { path: "/", load: () => import("./home/Home"), entry: { words: "home", icon: House } },
  { path: "/account", load: () => import("./account/Account") },
  {
    path: "/projects/:project/launch",
    load: () => import("./launch/Launch"),
    entry: { words: "launch", icon: Rocket },
  },
  { path: "/projects/:project/instances/:name", load: () => import("./instance/Instance") },
  {
    path: "/projects/:project/timeline",
    load: () => import("./timeline/Timeline"),
    entry: { words: "timeline", icon: History },
  },
  // Before the page of one instance, for _new is no name.
  { path: "/projects/:project/instances/_new", load: () => import("./object/Edit") },
  { path: "/:plural/_new", load: () => import("./object/Edit") },
  { path: "/:plural/:name", load: () => import("./object/Detail") },
  { path: "/:plural/:name/edit", load: () => import("./object/Edit") },
  { path: "/:plural/:name/timeline", load: () => import("./timeline/Timeline") },
  { path: "/projects/:project/:plural/_new", load: () => import("./object/Edit") },
  { path: "/projects/:project/:plural/:name", load: () => import("./object/Detail") },
  { path: "/projects/:project/:plural/:name/edit", load: () => import("./object/Edit") },
  { path: "/projects/:project/:plural/:name/timeline", load: () => import("./timeline/Timeline") },
  { path: "/:plural", load: () => import("./list/List") },
  { path: "/projects/:project/:plural", load: () => import("./list/List") },
];

export const ENTRIES = PAGES.filter((page): page is Page & { entry: Entry } => page.entry !== undefined);
