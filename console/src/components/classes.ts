import { type ClassValue, clsx } from "clsx";
import { twMerge } from "tailwind-merge";

/** Joins class names; of two that contradict each other the later counts. */
export const classes = (...given: ClassValue[]): string => twMerge(clsx(given));
