/** What the wizard makes of the choices: manifests as anybody would write them. */

export interface Choices {
  name: string;
  image: string;
  flavor: string;
  networks: string[];
  securityGroups: string[];
  sshKeys: string[];
  userData: string;
  zone: string;
}

export const NOTHING: Choices = {
  name: "",
  image: "",
  flavor: "",
  networks: [],
  securityGroups: [],
  sshKeys: [],
  userData: "",
  zone: "",
};

/** Where the choices that were made so far are kept. */
export const draftKey = (project: string) => ["launch", project];

export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { project: string; name: string };
  spec: Record<string, unknown>;
}

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
export const isName = (name: string): boolean => LABEL.test(name);

export function instanceOf(project: string, choices: Choices): Manifest {
  const { name, image, flavor, networks, securityGroups, sshKeys, userData, zone } = choices;
  const groups = securityGroups.length > 0 ? { securityGroups } : {};
  return {
    apiVersion: "vcstack.io/v1",
    kind: "Instance",
    metadata: { project, name },
    spec: {
      flavor,
      image,
      networkInterfaces: networks.map((network, i) => ({ name: `eth${i}`, network, ...groups })),
      ...(sshKeys.length > 0 ? { sshKeys } : {}),
      ...(userData.trim() ? { userData } : {}),
      ...(zone.trim() ? { placement: { zone: zone.trim() } } : {}),
    },
  };
}

export function networkOf(project: string, name: string, cidr: string): Manifest[] {
  const shared = { apiVersion: "vcstack.io/v1" };
  return [
    { ...shared, kind: "Network", metadata: { project, name }, spec: {} },
    { ...shared, kind: "Subnet", metadata: { project, name: `${name}-v4` }, spec: { network: name, cidr } },
  ];
}

/** Returns a name that says what it is and is free. */
export function freeName(base: string, taken: ReadonlySet<string>): string {
  const stem = isName(base) ? base.slice(0, 58) : "instance";
  for (let number = 1; ; number += 1) {
    const name = `${stem}-${number}`;
    if (!taken.has(name)) return name;
  }
}
