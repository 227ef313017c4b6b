"""A host's real certificate opens what is bound to the host, and nothing else."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.e2e.cloud import HOSTS, Cloud, path_of
from tests.e2e.tenant import Tenant

OWN = {"fieldSelector": "status.host=h1"}
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
def h1(cloud: Cloud) -> Iterator[httpx2.Client]:
    pki = cloud.lab.layout.node("h1") / "compute/pki"
    with cloud.client(certificate=(pki / "host.crt", pki / "host.key")) as client:
        yield client


def port_path(pair: Tenant, instance: str, sub: str = "") -> str:
    uid = pair.get("instances", instance)["metadata"]["uid"]
    return path_of("ports", pair.name, f"{uid}-eth0", sub)


def test_it_reads_its_own_and_what_that_refers_to(h1: httpx2.Client, pair: Tenant) -> None:
    assert h1.get(path_of("instances", pair.name, "a")).status_code == 200
    assert h1.get(port_path(pair, "a")).status_code == 200
    found = h1.get("/api/v1/instances", params=OWN).json()
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]
    for path in (
        path_of("hosts", None, "h1"),
        path_of("flavors", None, "small"),
        path_of("images", None, "tiny"),
        path_of("networks", pair.name, "net"),
        path_of("sshkeys", pair.name, "me"),
    ):
        assert h1.get(path).status_code == 200, path


def test_with_its_certificate_ovn_changes_nothing_but_its_own_chassis(cloud: Cloud, pair: Tenant) -> None:
    pki = cloud.lab.layout.node("h1") / "compute/pki"
    files = ("-p", str(pki / "host.key"), "-c", str(pki / "host.crt"), "-C", str(pki / "ca.crt"))

    def southbound(*args: str) -> tuple[str, str]:
        done = cloud.lab.host_exec("h1", ["ovn-sbctl", "--timeout=60", "--db=ssl:10.98.0.1:6642", *files, *args])
        return done.stdout.strip(), done.stderr

    assert southbound("get", "Chassis", "system:host:h1", "hostname") == ("h1", "")
    flow = southbound("--bare", "--columns=_uuid", "list", "Logical_Flow")[0].split()[0]
    port = southbound("--bare", "--columns=_uuid", "find", "Port_Binding", "chassis!=[]")[0].split()[0]
    for attempt in (
        ("set", "Logical_Flow", flow, "priority=4711"),
        ("--all", "destroy", "Logical_Flow"),
        ("set", "Port_Binding", port, "mac=unknown"),
        ("chassis-del", "system:host:h2"),
    ):
        assert "permission error" in southbound(*attempt)[1], attempt


def test_it_reads_nothing_of_another_host(h1: httpx2.Client, pair: Tenant, tenant: Tenant) -> None:
    tenant.apply("sshkeys", "theirs", {"publicKey": KEY})
    for path in (
        path_of("instances", pair.name, "b"),
        path_of("instances", pair.name, "b", "status"),
        path_of("instances", pair.name, "b", "log"),
        path_of("instances", pair.name, "a", "log"),
        port_path(pair, "b"),
        port_path(pair, "b", "status"),
        path_of("hosts", None, "h2"),
        path_of("networks", tenant.name, "net"),
        path_of("sshkeys", tenant.name, "theirs"),
        path_of("projects", None, tenant.name),
        path_of("instances", pair.name, "b", "history"),
    ):
        assert h1.get(path).status_code == 403, path


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJlZWZiZWVmYmVlZmJlZWZiZWVmYmVlZmJlZWZiZWVmYmVl e2e"


@pytest.mark.parametrize("watch", [False, True], ids=["list", "watch"])
def test_it_lists_and_watches_only_what_is_bound_to_it(h1: httpx2.Client, pair: Tenant, watch: bool) -> None:
    for selector in (None, "status.host=h2", "status.host!=h1", "metadata.name=b", "status.host="):
        query = {"fieldSelector": selector} if selector is not None else {}
        query |= {"watch": "true"} if watch else {}
        for plural in ("instances", "ports", "tasks"):
            for path in (path_of(plural), path_of(plural, pair.name)):
                assert h1.get(path, params=query).status_code == 403, (path, query)
    for plural in ("projects", "hosts", "images", "flavors", "networks", "securitygroups", "sshkeys", "events"):
        assert h1.get(path_of(plural), params={"watch": "true"} if watch else {}).status_code == 403, plural


def refused(client: httpx2.Client, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    answer = client.request(method, path, json=body or {}, headers=MERGE if method == "PATCH" else {})
    assert answer.status_code == 403, (method, path, answer.text)


def test_it_writes_nothing_of_another_host(h1: httpx2.Client, cloud: Cloud, pair: Tenant) -> None:
    before = pair.get("instances", "b")
    uid = before["metadata"]["uid"]
    lie = {"status": {"powerState": "Stopped", "host": "h1"}}
    refused(h1, "PATCH", path_of("instances", pair.name, "b", "status"), lie)
    refused(h1, "PUT", path_of("instances", pair.name, "b", "status"), {**before, **lie})
    refused(h1, "POST", path_of("instances", pair.name, "b", "finalize"), {"remove": ["vcstack.io/domain"], "uid": uid})
    refused(h1, "PATCH", port_path(pair, "b", "status"), {"status": {"host": "h1"}})
    refused(h1, "PATCH", path_of("hosts", None, "h2", "status"), {"status": {"address": "10.0.0.1"}})
    refused(h1, "POST", path_of("hosts", None, "h2", "heartbeat"))
    refused(h1, "POST", path_of("hosts", None, "h2", "certificate"), {"csr": "x"})
    refused(h1, "POST", path_of("hosts", None, "h2", "jointoken"))
    refused(h1, "DELETE", path_of("instances", pair.name, "b"))
    after = pair.get("instances", "b")
    assert after["status"]["host"] == "h2"
    assert after["metadata"]["uid"] == uid


def test_it_changes_no_spec_not_even_of_its_own(h1: httpx2.Client, pair: Tenant) -> None:
    refused(h1, "PATCH", path_of("instances", pair.name, "a"), {"spec": {"powerState": "Stopped"}})
    refused(h1, "DELETE", path_of("instances", pair.name, "a"))
    refused(h1, "PATCH", path_of("hosts", None, "h1"), {"spec": {"scheduling": "Disabled"}})
    refused(h1, "DELETE", path_of("hosts", None, "h1"))
    refused(
        h1, "POST", "/api/v1/projects", {"apiVersion": "vcstack.io/v1", "kind": "Project", "metadata": {"name": "x"}}
    )


def test_it_cannot_take_another_hosts_instance_by_status(h1: httpx2.Client, cloud: Cloud, pair: Tenant) -> None:
    """Its own status it may write; the binding stays with the scheduler."""
    h1.patch(path_of("instances", pair.name, "a", "status"), json={"status": {"host": "h2"}}, headers=MERGE)
    assert pair.get("instances", "a")["status"]["host"] == "h1"


def test_without_certificate_or_token_nothing_is_read(cloud: Cloud, pair: Tenant) -> None:
    with cloud.client() as nobody:
        for path in ("/api/v1/instances", path_of("hosts", None, "h1"), path_of("instances", pair.name, "a", "log")):
            assert nobody.get(path).status_code == 401, path
        assert nobody.get("/api/v1/instances", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert nobody.get("/healthz").status_code == 200


def test_both_hosts_stayed_alive_meanwhile(cloud: Cloud) -> None:
    for host in HOSTS:
        cloud.wait_ready("hosts", None, host)
