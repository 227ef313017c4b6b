import { render, screen } from "@testing-library/react";
import { expect, it } from "vitest";
import { Screenshot } from "./Screenshot";

it("of a project that need not be vcctl's has a command that names it", () => {
  render(<Screenshot path="/api/v1/projects/demo/instances/db" project="demo" name="db" onClose={() => undefined} />);
  const [command] = screen.getAllByLabelText("Copy as vcctl command");
  expect(command?.title).toContain("vcctl screenshot db -p demo --file db.png");
});
