"""A project and a namespace of a test's own, seen from both sides."""

from typing import Any

from tests.e2e.cloud import KINDS, Cloud, path_of
from tests.k8s.cluster import GROUP, Cluster, condition, wait

Wire = dict[str, Any]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


class Home:
    """Where a test lives."""

    def __init__(self, cluster: Cluster, cloud: Cloud, name: str) -> None:
        self.cluster, self.cloud, self.name = cluster, cloud, name
        cluster.kubectl("create", "namespace", name)
        cloud.apply("projects", None, name, {})
        cloud.wait_ready("projects", None, name)

    def delete(self) -> None:
        """Delete all of the namespace's custom resources, and see that nothing of them is left in the project."""
        everything = "vcstack-compute,vcstack-network,vcstack-security,vcstack-identity,vcstack-core"
        names = self.cluster.kubectl("get", everything, "-n", self.name, "-o", "name").split()
        if any("/" in name for name in names):
            listed = [name for name in names if "/" in name]
            self.cluster.kubectl("delete", "-n", self.name, "--wait=false", *listed)
        wait("all gone", lambda: "/" not in self.cluster.kubectl("get", everything, "-n", self.name, "-o", "name"), 90)
        self.cluster.kubectl("delete", "namespace", self.name, "--wait=false")
        self.cloud.delete("projects", None, self.name)

    # --- in Kubernetes

    def apply(self, plural: str, name: str, spec: Wire, **metadata: Any) -> None:
        """kubectl apply."""
        self.cluster.apply(manifest(plural, name, spec, **metadata), namespace=self.name)

    def get(self, plural: str, name: str) -> Wire:
        return self.cluster.get(plural, name, self.name)

    def find(self, plural: str, name: str) -> Wire | None:
        return self.cluster.find(plural, name, self.name)

    def delete_custom(self, plural: str, name: str) -> None:
        """kubectl delete, without waiting."""
        self.cluster.kubectl("delete", f"{plural}.vcstack.io", name, "-n", self.name, "--wait=false")

    def wait_condition(
        self, plural: str, name: str, type_: str, status: str = "True", reason: str = "", seconds: float = 60
    ) -> Wire:
        """Wait until the newest generation has that condition, and return the custom resource."""

        def look() -> Wire | None:
            found = self.find(plural, name) or {}
            seen = (found.get("status") or {}).get("observedGeneration")
            if seen is None or seen != found["metadata"]["generation"]:
                return None
            has = condition(found, type_)
            return found if has.get("status") == status and reason in ("", has.get("reason")) else None

        return wait(lambda: f"{plural}/{name} {type_}={status} {reason}: {self.find(plural, name)}", look, seconds)

    def wait_gone(self, plural: str, name: str, seconds: float = 60) -> None:
        wait(lambda: f"gone: {self.find(plural, name)}", lambda: self.find(plural, name) is None, seconds)

    # --- in the cloud

    def real(self, plural: str, name: str) -> Wire | None:
        """The object of VC Stack, or None."""
        return self.cloud.find(plural, self.name, name)

    def must(self, plural: str, name: str) -> Wire:
        """The object of VC Stack."""
        return self.cloud.get(plural, self.name, name)

    def secret(self, name: str) -> dict[str, str]:
        """The values of a Secret of VC Stack."""
        values: dict[str, str] = self.cloud.call("GET", path_of("secrets", self.name, name, "value"))["values"]
        return values


def manifest(plural: str, name: str, spec: Wire, **metadata: Any) -> Wire:
    """A manifest as it lies in Git."""
    return {"apiVersion": GROUP, "kind": KINDS[plural], "metadata": {"name": name, **metadata}, "spec": spec}
