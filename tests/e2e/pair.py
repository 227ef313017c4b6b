"""Two guests on two hosts that outlive single tests; each test finds them Ready and as they were made."""

import subprocess

from tests.e2e.cloud import HOSTS, Cloud, condition
from tests.e2e.tenant import Tenant

PROJECT = "pair"
NAMES = ("a", "b")
USER_DATA = "#!/bin/sh\necho user data of $(hostname) | tee /data/told\n"


class Pair:
    """The project `pair`: instance a on h1, b on h2."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.key = cloud.lab.path("e2e-key")
        if not self.key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "e2e", "-f", self.key], check=True)

    def make(self) -> Tenant:
        """The project; applied again, so whatever a test changed in it is as before."""
        made = Tenant(self._cloud, PROJECT, cidr="10.30.0.0/24")
        made.apply("sshkeys", "me", {"publicKey": self.key.with_suffix(".pub").read_text().strip()})
        return made

    def ensure(self) -> Tenant:
        """Have both Ready, with nothing pending, and return the project."""
        tenant = self.make()
        for name, host in zip(NAMES, HOSTS, strict=True):
            found = self._cloud.find("instances", PROJECT, name)
            if found is not None and found["metadata"].get("deletionTimestamp"):
                self._cloud.delete("instances", PROJECT, name)
            tenant.instance(name, host, powerState="Running", sshKeys=["me"], userData=USER_DATA)
        for name in NAMES:
            found = tenant.wait_ready("instances", name)
            pending = condition(found, "UpToDate")
            if pending["status"] == "False":
                verb = ("rebuild", "--yes") if pending["reason"] == "RecreateRequired" else ("reboot", "--hard")
                self._cloud.vcctl(verb[0], name, "-p", PROJECT, "--wait", *verb[1:])
        return tenant

    def delete(self) -> None:
        """Delete the project."""
        self._cloud.delete("projects", None, PROJECT)
