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
