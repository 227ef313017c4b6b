/** Which of the shell's own windows is open. */
import { create } from "zustand";

export const useOverlay = create<{ open: "Palette" | "Shortcuts" | null }>()(() => ({ open: null }));
export const openOverlay = (open: "Palette" | "Shortcuts" | null): void => useOverlay.setState({ open });
