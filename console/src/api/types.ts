/** Names for what is generated from the OpenAPI document, and the shape that all resources share. */
import type { components, paths } from "../../.generated/schema";

export type { paths };
export type Schemas = components["schemas"];
export type Me = Schemas["Me"];
export type ErrorStatus = Schemas["ErrorStatus"];

export interface Condition {
  type: string;
  status: "True" | "False" | "Unknown";
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
  observedGeneration?: number;
}

export interface Metadata {
  name: string;
  project?: string | null;
  uid: string;
  resourceVersion: string;
  generation: number;
  creationTimestamp: string;
  deletionTimestamp?: string | null;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: { kind: string; name: string; uid: string }[];
}

/** Any object. Pages for one kind use its generated type, `Schemas["Instance"]`. */
export interface Resource {
  apiVersion: string;
  kind: string;
  metadata: Metadata;
  spec?: Record<string, unknown>;
  status?: { conditions?: Condition[] } & Record<string, unknown>;
}

export interface ResourceList {
  kind: string;
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
  items: Resource[];
}
