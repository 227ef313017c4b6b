/** Amounts of resources as people say them. */
import { readableBytes } from "~/components/values";
import type { Amounts } from "./facts";

const MIB = 1024 * 1024;

export const amountText = (name: keyof Amounts, value: number): string =>
  name === "vcpus" ? String(value) : readableBytes(value * (name === "memoryMiB" ? MIB : 1024 * MIB));
