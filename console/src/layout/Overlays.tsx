import { lazy, Suspense, useEffect } from "react";
import { useOverlay } from "./overlays";
import { Shortcuts } from "./Shortcuts";
import { useShortcuts } from "./shortcuts";

const load = () => import("./Palette");
const Palette = lazy(load);

/** The shell's own windows and the keys that open them. */
export function Overlays() {
  useShortcuts();
  useEffect(() => {
    // Who opens it goes on typing: it must not come later than the letters.
    void load().catch(() => undefined);
  }, []);
  const open = useOverlay((overlay) => overlay.open);
  return (
    <>
      <Shortcuts />
      {open === "Palette" ? (
        <Suspense fallback={null}>
          <Palette />
        </Suspense>
      ) : null}
    </>
  );
}
