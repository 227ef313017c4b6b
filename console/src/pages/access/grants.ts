/** Who has which role where, of what bindings and groups say. */
import type { Resource } from "~/api/types";

export interface Binding {
  object: Resource;
  subject: { kind: string; name: string; project: string | null };
  role: string;
  project: string | null;
  domain: string | null;
  expiresAt: string | null;
}

export function bindingOf(object: Resource): Binding {
  const spec = object.spec as {
    subject: { kind: string; name: string; project?: string | null };
    role: string;
    domain?: string | null;
    expiresAt?: string | null;
  };
  const project = object.metadata.project ?? null;
  return {
    object,
    subject: {
      kind: spec.subject.kind,
      name: spec.subject.name,
      project: spec.subject.kind === "ServiceAccount" ? (spec.subject.project ?? project) : null,
    },
    role: spec.role,
    project,
    domain: spec.domain ?? null,
    expiresAt: spec.expiresAt ?? null,
  };
}

export interface Grant extends Binding {
  /** The group by which somebody has it. */
  through: string | null;
}

/** Returns the names of groups that a user is in: those of the cloud, and those that its provider told. */
export function groupsOf(user: Resource, groups: readonly Resource[]): string[] {
  const external = (user.status?.externalGroups ?? []) as string[];
  const own = groups
    .filter(({ spec }) => ((spec?.members ?? []) as string[]).includes(user.metadata.name))
    .map(({ metadata }) => metadata.name);
  return [...new Set([...own, ...external])].sort();
}

/** Returns what was given to a user, directly and by groups. */
export function grantsOf(user: Resource, groups: readonly string[], bindings: readonly Binding[]): Grant[] {
  return bindings.flatMap((binding): Grant[] => {
    const { kind, name } = binding.subject;
    if (kind === "User" && name === user.metadata.name) return [{ ...binding, through: null }];
    if (kind === "Group" && groups.includes(name)) return [{ ...binding, through: name }];
    return [];
  });
}

/** Returns a subject as the API writes it. */
export function subjectText({ kind, name, project }: Binding["subject"]): string {
  if (kind === "ServiceAccount") return `serviceaccount:${project}/${name}`;
  return `${kind.toLowerCase()}:${name}`;
}

export interface RoleRule {
  verbs: string[];
  kinds: string[];
  subresources?: string[] | null;
  labelSelector?: string;
}

/** Returns a rule in one line: get, list Instance/console where env=dev. */
export function ruleText({ verbs, kinds, subresources, labelSelector }: RoleRule): string {
  const of = kinds.join(", ");
  const what = subresources ? `${of} / ${subresources.join(", ")}` : of;
  return `${verbs.join(", ")}: ${what}${labelSelector ? ` (${labelSelector})` : ""}`;
}
