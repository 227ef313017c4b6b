/** Rules of a security group while they are edited: presets, what is wrong with one, what would change. */
import type { Resource } from "~/api/types";

export const DIRECTIONS = ["Ingress", "Egress"] as const;
export const PROTOCOLS = ["Any", "TCP", "UDP", "ICMP", "ICMPv6"] as const;

export interface Rule {
  name: string;
  direction: (typeof DIRECTIONS)[number];
  protocol: (typeof PROTOCOLS)[number];
  portMin?: number | null;
  portMax?: number | null;
  icmpType?: number | null;
  icmpCode?: number | null;
  remoteCidr?: string | null;
  remoteSecurityGroup?: string | null;
}

/** Returns a group's rules; what the API leaves out, since it is the default, is filled in. */
export function rulesOf({ spec }: Resource): Rule[] {
  const rules = (spec?.rules ?? []) as (Omit<Rule, "protocol"> & Partial<Rule>)[];
  return rules.map((rule) => ({ ...rule, protocol: rule.protocol ?? "Any" }));
}

export const hasPorts = ({ protocol }: Rule): boolean => protocol === "TCP" || protocol === "UDP";

export const PRESETS = {
  ssh: [{ name: "ssh", direction: "Ingress", protocol: "TCP", portMin: 22 }],
  web: [
    { name: "http", direction: "Ingress", protocol: "TCP", portMin: 80 },
    { name: "https", direction: "Ingress", protocol: "TCP", portMin: 443 },
  ],
  ping: [
    { name: "ping", direction: "Ingress", protocol: "ICMP", icmpType: 8 },
    { name: "ping-v6", direction: "Ingress", protocol: "ICMPv6", icmpType: 128 },
  ],
  rdp: [{ name: "rdp", direction: "Ingress", protocol: "TCP", portMin: 3389 }],
  postgresql: [{ name: "postgresql", direction: "Ingress", protocol: "TCP", portMin: 5432 }],
  members: [{ name: "members", direction: "Ingress", protocol: "Any", remoteSecurityGroup: "" }],
  egress: [{ name: "egress", direction: "Egress", protocol: "Any" }],
  custom: [{ name: "rule", direction: "Ingress", protocol: "TCP" }],
} as const satisfies Record<string, readonly Rule[]>;

export type Preset = keyof typeof PRESETS;

/** Returns the rules with those of a preset added under names that are free; `members` means the group itself. */
export function addPreset(rules: readonly Rule[], preset: Preset, group: string): Rule[] {
  const found = [...rules];
  for (const each of PRESETS[preset] as readonly Rule[]) {
    const taken = new Set(found.map(({ name }) => name));
    let { name } = each;
    for (let number = 2; taken.has(name); number += 1) name = `${each.name}-${number}`;
    found.push({ ...each, name, ...(preset === "members" ? { remoteSecurityGroup: group } : {}) });
  }
  return found;
}

/** Returns a rule without what its protocol does not have, as the API wants it. */
export function clean(rule: Rule): Rule {
  const result: Rule = { name: rule.name.trim(), direction: rule.direction, protocol: rule.protocol };
  if (hasPorts(rule) && rule.portMin) {
    result.portMin = rule.portMin;
    if (rule.portMax && rule.portMax !== rule.portMin) result.portMax = rule.portMax;
  }
  if ((rule.protocol === "ICMP" || rule.protocol === "ICMPv6") && typeof rule.icmpType === "number") {
    result.icmpType = rule.icmpType;
    if (typeof rule.icmpCode === "number") result.icmpCode = rule.icmpCode;
  }
  if (rule.remoteSecurityGroup) result.remoteSecurityGroup = rule.remoteSecurityGroup;
  else if (rule.remoteCidr?.trim()) result.remoteCidr = rule.remoteCidr.trim();
  return result;
}

/** Returns ports as people write them: 22, 8000-8100, or nothing for all. */
export function portsText({ portMin, portMax }: Rule): string {
  if (!portMin) return "";
  return portMax && portMax !== portMin ? `${portMin}-${portMax}` : String(portMin);
}

/** Returns the ports that a text means; null: it means none. */
export function parsePorts(text: string): Pick<Rule, "portMin" | "portMax"> | null {
  const wanted = text.trim();
  if (wanted === "") return { portMin: null, portMax: null };
  const found = /^(\d{1,5})(?:\s*[-:]\s*(\d{1,5}))?$/.exec(wanted);
  if (!found) return null;
  const portMin = Number(found[1]);
  const portMax = found[2] === undefined ? null : Number(found[2]);
  const good = (port: number) => port >= 1 && port <= 65_535;
  if (!good(portMin) || (portMax !== null && (!good(portMax) || portMax < portMin))) return null;
  return { portMin, portMax };
}

export interface Difference {
  name: string;
  change: "added" | "removed" | "changed";
  before: Rule | null;
  after: Rule | null;
}

/** Returns how the rules differ, by name; their order means nothing. */
export function compare(before: readonly Rule[], after: readonly Rule[]): Difference[] {
  const old = new Map(before.map((rule) => [rule.name, clean(rule)]));
  const now = new Map(after.map((rule) => [rule.name, clean(rule)]));
  const found: Difference[] = [];
  for (const name of [...new Set([...old.keys(), ...now.keys()])].sort()) {
    const [was, is] = [old.get(name) ?? null, now.get(name) ?? null];
    if (was && is && JSON.stringify(was) === JSON.stringify(is)) continue;
    found.push({ name, change: was ? (is ? "changed" : "removed") : "added", before: was, after: is });
  }
  return found;
}

/** Whether a rule lets the whole internet in, which is seldom meant for more than the web. */
export function isWide(rule: Rule): boolean {
  const anywhere = !rule.remoteSecurityGroup && (!rule.remoteCidr || /\/0$/.test(rule.remoteCidr));
  const web = rule.protocol === "TCP" && (rule.portMin === 80 || rule.portMin === 443) && !rule.portMax;
  return rule.direction === "Ingress" && anywhere && !web && !rule.protocol.startsWith("ICMP");
}
