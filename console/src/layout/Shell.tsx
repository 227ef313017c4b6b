import { Menu as MenuIcon, Search, X } from "lucide-react";
import { Suspense, useEffect, useState } from "react";
import { Navigate, Outlet, useLocation, useNavigation, useParams } from "react-router";
import { useSession } from "~/api/session";
import { Busy } from "~/components/Busy";
import { Button } from "~/components/Button";
import { FaultBoundary } from "~/components/FaultBoundary";
import { useWords } from "~/i18n/language";
import { AccountMenu } from "./AccountMenu";
import { Banners } from "./Banners";
import { Logo } from "./Logo";
import { Navigation } from "./Navigation";
import { Overlays } from "./Overlays";
import { openOverlay } from "./overlays";
import { ProjectSwitcher } from "./ProjectSwitcher";
import { usePreferences } from "./preferences";
import { words } from "./words";

/** What stands around every page of who is signed in. */
export function Shell() {
  const say = useWords(words);
  const state = useSession((session) => session.state);
  const location = useLocation();
  const { project } = useParams();
  const loading = useNavigation().state === "loading";
  const [open, setOpen] = useState(false);

  useEffect(() => {
    if (project) usePreferences.getState().set({ project });
  }, [project]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: on a phone the navigation goes away when one went somewhere
  useEffect(() => setOpen(false), [location.pathname]);

  if (state === "Out") {
    const to = location.pathname + location.search;
    return <Navigate to={to === "/" ? "/login" : `/login?${new URLSearchParams({ to })}`} replace />;
  }
  if (state === "Unknown") {
    return (
      <div className="grid h-full place-items-center">
        <div>
          <Busy label={say("console")} />
          <Banners />
        </div>
      </div>
    );
  }
  return (
    <div className="flex h-full flex-col">
      <a
        href="#content"
        className="sr-only z-50 rounded bg-accent p-2 text-on-accent focus:not-sr-only focus:absolute focus:top-1 focus:left-1"
      >
        {say("skip")}
      </a>
      <header className="flex items-center gap-1 border-line border-b bg-surface px-2 py-1.5 sm:gap-2 sm:px-3">
        <Button
          look="quiet"
          icon
          className="md:hidden"
          aria-label={say(open ? "closeNavigation" : "openNavigation")}
          aria-expanded={open}
          aria-controls="navigation"
          onClick={() => setOpen(!open)}
        >
          {open ? <X aria-hidden /> : <MenuIcon aria-hidden />}
        </Button>
        <Logo />
        <ProjectSwitcher />
        <div className="flex-1" />
        <Button look="quiet" title={say("search")} onClick={() => openOverlay("Palette")}>
          <Search aria-hidden />
          <span className="sr-only">{say("search")}</span>
          <kbd className="hidden rounded border border-line px-1 font-mono text-quiet text-xs md:inline">
            {"Ctrl+K"}
          </kbd>
        </Button>
        <AccountMenu />
      </header>
      <Banners />
      <Overlays />
      <div className="relative flex min-h-0 flex-1">
        <Navigation open={open} />
        <main id="content" tabIndex={-1} aria-busy={loading} className="min-w-0 flex-1 overflow-auto outline-none">
          <FaultBoundary key={location.pathname}>
            <Suspense fallback={<Busy />}>
              <Outlet />
            </Suspense>
          </FaultBoundary>
        </main>
      </div>
    </div>
  );
}
