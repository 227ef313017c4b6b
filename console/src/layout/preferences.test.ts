import { expect, it, vi } from "vitest";

it("the other theme is the one that is not seen, whoever chose the present one", async () => {
  vi.stubGlobal("matchMedia", () => ({ matches: true, addEventListener: () => undefined }));
  const { other, seen } = await import("./preferences");
  expect([seen("system"), other("system")]).toEqual(["dark", "light"]);
  expect([other("dark"), other("light")]).toEqual(["light", "dark"]);
});
