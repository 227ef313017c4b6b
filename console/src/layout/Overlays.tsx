import { lazy, Suspense } from "react";
import { useOverlay } from "./overlays";
import { Shortcuts } from "./Shortcuts";
import { useShortcuts } from "./shortcuts";

const Palette = lazy(() => import("./Palette"));

/** The shell's own windows and the keys that open them. */
export function Overlays() {
  useShortcuts();
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
