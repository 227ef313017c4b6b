/** All addresses: logging in without the shell, the pages within it. */
import type { RouteObject } from "react-router";
import { Busy } from "~/components/Busy";
import { Shell } from "~/layout/Shell";
import { PAGES } from "~/pages";

export const ROUTES: RouteObject[] = [
  { path: "/login", lazy: () => import("./pages/login/Login"), HydrateFallback: Busy },
  { path: "/oidc/:provider", lazy: () => import("./pages/login/ProviderReturn"), HydrateFallback: Busy },
  {
    Component: Shell,
    HydrateFallback: Busy,
    children: [
      ...PAGES.map(({ path, load }) => ({ path, lazy: load })),
      { path: "*", lazy: () => import("./pages/notfound/NotFound") },
    ],
  },
];
