"""History, images, scheduling and projects, on the real thing."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cloud import HOSTS, Cloud, Refused, condition, path_of
from tests.e2e.tenant import Tenant

PING = {"name": "ping", "direction": "Ingress", "protocol": "ICMP", "remoteCidr": "0.0.0.0/0"}


def acl_count(cloud: Cloud, tenant: Tenant, group: str) -> int:
    uid = tenant.get("securitygroups", group)["metadata"]["uid"]
    return len(cloud.nb_find("ACL", vcstack_uid=uid))


def test_history_tells_who_changed_what_and_a_rollback_reaches_ovn(cloud: Cloud, tenant: Tenant) -> None:
    made = tenant.apply("securitygroups", "web", {"rules": []})
    revision = made["metadata"]["resourceVersion"]
    tenant.wait_ready("securitygroups", "web")
    empty = acl_count(cloud, tenant, "web")
    tenant.apply("securitygroups", "web", {"rules": [PING]})
    cloud.wait("the rule in OVN", lambda: acl_count(cloud, tenant, "web") > empty)

    path = path_of("securitygroups", tenant.name, "web", "history")
    cloud.wait("the mirror", lambda: any("spec.rules" in str(i["diff"]) for i in cloud.call("GET", path)["items"]))
    shown = cloud.vcctl("history", "securitygroup", "web", "-p", tenant.name, "--diff", "--no-status")
    assert "admin" in shown
    assert "spec.rules" in shown
    past = json.loads(cloud.vcctl("get", "sg", "web", "-p", tenant.name, "--at-revision", revision, "-o", "json"))
    assert past["spec"].get("rules", []) == []

    plan = cloud.vcctl("rollback", "sg", "web", "-p", tenant.name, "--to-revision", revision, "--yes")
    assert "spec.rules" in plan
    cloud.wait("the rule gone from OVN", lambda: acl_count(cloud, tenant, "web") == empty)


def test_what_was_deleted_still_has_its_history(cloud: Cloud, tenant: Tenant) -> None:
    tenant.apply("ports", "gone", {"network": "net"})
    cloud.delete("ports", tenant.name, "gone")
    path = path_of("ports", tenant.name, "gone", "history")
    cloud.wait("its end", lambda: "Deleted" in [i["operation"] for i in cloud.call("GET", path)["items"]])


@pytest.mark.parametrize(
    ("kind", "options"),
    [("backing file", ["-b", "/etc/passwd", "-F", "raw"]), ("data file", ["-o", "data_file=data.raw"])],
)
def test_a_dangerous_image_is_refused(
    cloud: Cloud, tenant: Tenant, tmp_path: Path, kind: str, options: list[str]
) -> None:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", *options, "bad.qcow2", "1M"]
    subprocess.run(argv, check=True, cwd=tmp_path)
    shown = cloud.vcctl("image", "upload", "bad", "--file", tmp_path / "bad.qcow2", "-p", tenant.name, check=False)
    assert "is Ready" not in shown
    assert not cloud.is_ready("images", tenant.name, "bad")
    assert kind in shown.lower().replace("-", " ").replace("_", " "), shown


def test_an_image_of_another_format_than_declared_is_refused(cloud: Cloud, tenant: Tenant, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"\0" * 65536)
    shown = cloud.vcctl(
        "image", "upload", "bad", "--file", tmp_path / "raw", "--format", "qcow2", "-p", tenant.name, check=False
    )
    assert "is Ready" not in shown
    assert not cloud.is_ready("images", tenant.name, "bad")


def test_an_image_in_use_stays_and_says_who_uses_it(cloud: Cloud, tenant: Tenant) -> None:
    cloud.vcctl("image", "upload", "own", "--file", cloud.image_file, "-p", tenant.name)
    tenant.instance("user", image="own", powerState="Stopped")
    tenant.wait_ready("instances", "user")
    cloud.delete("images", tenant.name, "own", wait=False)
    cloud.wait("the user named", lambda: "user" in str(tenant.get("images", "own")["status"]["conditions"]))
    cloud.delete("instances", tenant.name, "user")
    cloud.wait("the image gone", lambda: cloud.find("images", tenant.name, "own") is None)


def test_a_cordoned_host_gets_nothing_new_and_says_why(cloud: Cloud, tenant: Tenant) -> None:
    cloud.vcctl("cordon", "h2")
    try:
        tenant.instance("waits", "h2", powerState="Stopped")
        found = cloud.wait("the reason", lambda: _unschedulable(tenant, "waits"))
        assert "h2" in condition(found, "Scheduled")["message"]
        why = cloud.vcctl("why", "instance", "waits", "-p", tenant.name, check=False)
        assert "h2" in why
        assert "cordon" in why.lower() or "Disabled" in why
    finally:
        cloud.vcctl("uncordon", "h2")
    assert tenant.wait_ready("instances", "waits")["status"]["host"] == "h2"


def _unschedulable(tenant: Tenant, name: str) -> dict[str, object] | None:
    found = tenant.get("instances", name)
    return found if condition(found, "Scheduled")["reason"] == "Unschedulable" else None


def test_the_reason_of_every_rejected_host_is_told(cloud: Cloud, tenant: Tenant) -> None:
    cloud.apply("flavors", None, "huge", {"vcpus": 1, "memoryMiB": 900000, "rootDiskGiB": 1})
    try:
        tenant.instance("big", flavor="huge")
        message = str(condition(cloud.wait("a reason", lambda: _unschedulable(tenant, "big")), "Scheduled")["message"])
        assert all(host in message for host in HOSTS), message
        assert "memory" in message.lower()
    finally:
        cloud.delete("instances", tenant.name, "big")
        cloud.delete("flavors", None, "huge")


def test_a_project_goes_with_all_that_is_in_it(cloud: Cloud, tenant: Tenant) -> None:
    for name, host in zip(("one", "two"), HOSTS, strict=True):
        tenant.instance(name, host)
    tenant.apply("ports", "spare", {"network": "net"})
    for name in ("one", "two"):
        tenant.wait_ready("instances", name)
    uids = [i["metadata"]["uid"] for i in cloud.items("instances", tenant.name)]
    shown = cloud.vcctl("delete", "project", tenant.name, "--yes", "--timeout", "5m")
    assert tenant.name in shown
    left = [thing for thing in cloud.inventory() if tenant.name in thing or any(uid in thing for uid in uids)]
    assert left == []
    with pytest.raises(Refused) as refused:
        cloud.apply("networks", tenant.name, "late", {})
    assert refused.value.code in (404, 422)


def test_status_is_not_written_by_people(cloud: Cloud, pair: Tenant) -> None:
    with pytest.raises(Refused) as refused:
        pair.patch("instances", "a", {"status": {"powerState": "Stopped"}})
    assert 400 <= refused.value.code < 500
    assert "status" in str(refused.value)
    with pytest.raises(Refused):
        cloud.call(
            "PATCH",
            path_of("instances", pair.name, "a", "status"),
            {"status": {"host": "h2"}},
            kind="application/merge-patch+json",
        )
    assert pair.get("instances", "a")["status"]["host"] == "h1"
