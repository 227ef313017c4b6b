/**
 * The pages within the shell. To add one: a folder here whose file exports `Component`, and a line below. It is loaded
 * when it is first opened. Addresses follow the API's: what is at /api/v1/projects/demo/instances is at
 * /console/projects/demo/instances. A fixed address goes before `:plural` by itself.
 */
import type { LucideIcon } from "lucide-react";
import { Gauge, History, House, KeyRound, Rocket, ScrollText, Server, ShieldHalf, Waypoints } from "lucide-react";
import type { ComponentType } from "react";
import { defineWords } from "~/i18n/language";

/** The pages' names in the navigation. */
export const words = defineWords({
  en: {
    home: "Overview",
    launch: "Launch an instance",
    timeline: "Timeline",
    topology: "Network map",
    firewall: "Firewall",
    usage: "Quotas in use",
    placement: "Hosts and load",
    access: "Who may what",
    audit: "Audit trail",
  },
  zh: {
    home: "概览",
    launch: "启动实例",
    timeline: "时间线",
    topology: "网络拓扑",
    firewall: "防火墙",
    usage: "配额用量",
    placement: "主机与负载",
    access: "谁可以做什么",
    audit: "审计记录",
  },
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
  /** Who sees it; default everybody. Operators are those who see all projects. */
  only?: "operators" | "tenants";
}

export const PAGES: readonly Page[] = [
  { path: "/", load: () => import("./dashboard/Dashboard"), entry: { words: "home", icon: House } },
  { path: "/account", load: () => import("./account/Account") },
  { path: "/launch", load: () => import("./launch/Where") },
  {
    path: "/projects/:project/launch",
    load: () => import("./launch/Launch"),
    entry: { words: "launch", icon: Rocket },
  },
  // Before the pages of one object of a kind: _new is no name, and of two that fit alike the first counts.
  { path: "/projects/:project/:plural/_new", load: () => import("./object/Edit") },
  { path: "/projects/:project/instances/:name", load: () => import("./instance/Instance") },
  {
    path: "/projects/:project/topology",
    load: () => import("./topology/Topology"),
    entry: { words: "topology", icon: Waypoints },
  },
  {
    path: "/projects/:project/firewall",
    load: () => import("./firewall/Firewall"),
    entry: { words: "firewall", icon: ShieldHalf },
  },
  { path: "/projects/:project/recordings", load: () => import("./recordings/Recordings") },
  { path: "/projects/:project/usage", load: () => import("./usage/Usage"), entry: { words: "usage", icon: Gauge } },
  { path: "/usage", load: () => import("./usage/Usage") },
  {
    path: "/placement",
    load: () => import("./hosts/Hosts"),
    entry: { words: "placement", icon: Server, only: "operators" },
  },
  {
    path: "/access",
    load: () => import("./access/Access"),
    entry: { words: "access", icon: KeyRound, only: "operators" },
  },
  {
    path: "/audit",
    load: () => import("./audit/Audit"),
    entry: { words: "audit", icon: ScrollText, only: "operators" },
  },
  {
    path: "/projects/:project/audit",
    load: () => import("./audit/Audit"),
    entry: { words: "audit", icon: ScrollText, only: "tenants" },
  },
  {
    path: "/projects/:project/timeline",
    load: () => import("./timeline/Timeline"),
    entry: { words: "timeline", icon: History },
  },
  { path: "/:plural/_new", load: () => import("./object/Edit") },
  { path: "/:plural/:name", load: () => import("./object/Detail") },
  { path: "/:plural/:name/edit", load: () => import("./object/Edit") },
  { path: "/:plural/:name/timeline", load: () => import("./timeline/Timeline") },
  { path: "/projects/:project/:plural/:name", load: () => import("./object/Detail") },
  { path: "/projects/:project/:plural/:name/edit", load: () => import("./object/Edit") },
  { path: "/projects/:project/:plural/:name/timeline", load: () => import("./timeline/Timeline") },
  { path: "/:plural", load: () => import("./list/List") },
  { path: "/projects/:project/:plural", load: () => import("./list/List") },
];

export const ENTRIES = PAGES.filter((page): page is Page & { entry: Entry } => page.entry !== undefined);
