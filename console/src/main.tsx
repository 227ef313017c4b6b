import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createBrowserRouter, RouterProvider } from "react-router";
import { queryClient } from "./api/queries";
import { begin } from "./api/session";
import { followPreferences } from "./layout/preferences";
import { Toasts } from "./layout/Toasts";
import { ROUTES } from "./routes";
import "./index.css";

// A page that was opened before the console was built anew asks for files that are gone.
addEventListener("vite:preloadError", () => {
  const last = Number(sessionStorage.getItem("vcstack-reloaded") ?? 0);
  sessionStorage.setItem("vcstack-reloaded", String(Date.now()));
  if (Date.now() - last > 30_000) location.reload();
});
followPreferences();
void begin();
const router = createBrowserRouter(ROUTES, { basename: "/console" });
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queryClient}>
        <RouterProvider router={router} />
        <Toasts />
      </QueryClientProvider>
    </StrictMode>,
  );
}
