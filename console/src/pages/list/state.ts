/** How a list is looked at; it stands in the address, so that it can be kept and sent. */
import { useCallback, useState } from "react";
import { useLocation, useNavigationType, useSearchParams } from "react-router";

export interface ListState {
  text: string;
  label: string;
  condition: string;
  sort: string;
  wide: boolean;
}

const NAMES = { text: "q", label: "label", condition: "condition", sort: "sort" } as const;
export const DEFAULT_SORT = "name";

export function readState(parameters: URLSearchParams): ListState {
  return {
    text: parameters.get(NAMES.text) ?? "",
    label: parameters.get(NAMES.label) ?? "",
    condition: parameters.get(NAMES.condition) ?? "",
    sort: parameters.get(NAMES.sort) ?? DEFAULT_SORT,
    wide: parameters.get("wide") === "1",
  };
}

export function writeState(before: URLSearchParams, changes: Partial<ListState>): URLSearchParams {
  const after = new URLSearchParams(before);
  const state = { ...readState(before), ...changes };
  for (const [key, name] of Object.entries(NAMES) as [keyof typeof NAMES, string][]) {
    if (state[key] && !(key === "sort" && state[key] === DEFAULT_SORT)) after.set(name, state[key]);
    else after.delete(name);
  }
  if (state.wide) after.set("wide", "1");
  else after.delete("wide");
  return after;
}

/**
 * Returns how the list is looked at, and what changes it.
 *
 * What is typed is here before it is in the address: the router takes its time for that, and what changes in a list
 * of thousands would interrupt it again and again.
 */
export function useListState(): [ListState, (changes: Partial<ListState>) => void] {
  const [parameters, setParameters] = useSearchParams();
  const { key } = useLocation();
  const hasMoved = useNavigationType() !== "REPLACE";
  const written = readState(parameters);
  const [typed, setTyped] = useState({ text: written.text, key });
  // Another address than those that are written here, by a link or the way back: its text holds.
  const isElsewhere = hasMoved && typed.key !== key;
  if (isElsewhere) setTyped({ text: written.text, key });
  const change = useCallback(
    (changes: Partial<ListState>) => {
      const { text } = changes;
      if (text !== undefined) setTyped((before) => ({ ...before, text }));
      // Not of what was drawn last: that may be older than the address, and would take back what was typed just before.
      const address = new URLSearchParams(globalThis.location.search);
      setParameters(writeState(address, changes), { replace: true });
    },
    [setParameters],
  );
  return [{ ...written, text: isElsewhere ? written.text : typed.text }, change];
}
