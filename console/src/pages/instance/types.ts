import type { Condition, Resource } from "~/api/types";

export interface InstanceSpec {
  flavor: string;
  image: string;
  powerState?: PowerState;
  networkInterfaces?: { name: string; network?: string; port?: string }[];
  sshKeys?: string[];
}

export type PowerState = "Running" | "Stopped" | "Paused";

export interface Instance extends Resource {
  spec: InstanceSpec & Record<string, unknown>;
  status?: {
    conditions?: Condition[];
    host?: string;
    powerState?: PowerState;
    addresses?: { interface: string; address: string; mac: string }[];
    startedAt?: string;
  } & Record<string, unknown>;
}
