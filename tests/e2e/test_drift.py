"""What somebody else breaks behind the cloud's back is put right by events, and what is not ours is left alone.

The resync would find it too, after a minute: the waits here are shorter, so it was the event.
"""

import os
import signal
from collections.abc import Callable
from typing import TypeVar

import pytest

from deploy.lab.errors import LabError
from tests.e2e.cloud import Cloud, condition
from tests.e2e.tenant import Guest, Tenant

REPAIR_SECONDS = 45.0
T = TypeVar("T")
FOREIGN = """<domain type='qemu'><name>foreign</name><memory unit='MiB'>16</memory>
<os><type arch='x86_64'>hvm</type></os></domain>"""


def repaired(cloud: Cloud, what: str, look: Callable[[], T]) -> T:
    """Wait for a repair; what cannot be looked at in between counts as not yet."""

    def calm() -> T | None:
        try:
            return look()
        except (ValueError, AssertionError, LabError):
            return None

    found = cloud.wait(what, calm, REPAIR_SECONDS)
    assert found is not None
    return found


def port_of(cloud: Cloud, guest: Guest) -> str:
    """The uid of the guest's port."""
    return str(cloud.get("ports", "pair", f"{guest.uid}-eth0")["metadata"]["uid"])


def tap_of(cloud: Cloud, guest: Guest) -> str:
    return "tap" + port_of(cloud, guest).rpartition("-")[2]


# --- on the host -------------------------------------------------------------------------------------------


def test_a_destroyed_domain_is_started_again(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    first = guest.pid
    cloud.run(guest.host, "virsh", "destroy", guest.uid)
    repaired(cloud, "another QEMU", lambda: guest.pid != first)
    pair.wait_ready("instances", "a")
    assert pair.guest("a").sh("hostname") == "a"


def test_an_undefined_domain_is_defined_again_and_goes_on_running(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    first = guest.pid
    cloud.run(guest.host, "virsh", "undefine", guest.uid)
    repaired(
        cloud, "persistent again", lambda: "Persistent:     yes" in cloud.run(guest.host, "virsh", "dominfo", guest.uid)
    )
    assert guest.pid == first


def test_a_destroyed_and_undefined_domain_comes_back(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("b")
    cloud.run(guest.host, "sh", "-c", f"virsh undefine {guest.uid}; virsh destroy {guest.uid}")
    repaired(
        cloud, "running again", lambda: cloud.run(guest.host, "virsh", "domstate", guest.uid, check=False) == "running"
    )
    pair.wait_ready("instances", "b")


def test_a_killed_qemu_is_started_again(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("b")
    first = guest.pid
    os.kill(first, signal.SIGKILL)
    repaired(cloud, "another QEMU", lambda: guest.pid != first)
    pair.wait_ready("instances", "b")


def test_a_paused_domain_goes_on(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    cloud.run(guest.host, "virsh", "suspend", guest.uid)
    repaired(cloud, "running", lambda: cloud.run(guest.host, "virsh", "domstate", guest.uid) == "running")


def test_a_deleted_tap_is_made_again_and_the_guest_is_reached_over_it(cloud: Cloud, pair: Tenant) -> None:
    guest, other = pair.guest("a"), pair.guest("b")
    cloud.wait("they reach each other", lambda: other.reaches(guest.address))
    first, tap = guest.pid, tap_of(cloud, guest)
    cloud.run(guest.host, "ip", "link", "del", tap)
    repaired(cloud, "the tap", lambda: tap in cloud.run(guest.host, "ls", "/sys/class/net").split())
    cloud.wait("traffic", lambda: other.reaches(guest.address))
    assert guest.pid == first


def test_a_removed_bridge_port_is_added_again(cloud: Cloud, pair: Tenant) -> None:
    guest, other = pair.guest("a"), pair.guest("b")
    cloud.wait("they reach each other", lambda: other.reaches(guest.address))
    first, tap = guest.pid, tap_of(cloud, guest)
    cloud.vsctl(guest.host, "del-port", "br-int", tap)
    repaired(cloud, "the port", lambda: tap in cloud.vsctl(guest.host, "list-ports", "br-int").split())
    cloud.wait("traffic", lambda: other.reaches(guest.address))
    assert guest.pid == first


def test_an_edited_bridge_port_is_put_right(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("b")
    tap, uid = tap_of(cloud, guest), port_of(cloud, guest)
    cloud.vsctl(guest.host, "set", "Interface", tap, "external_ids:iface-id=wrong")
    repaired(
        cloud, "iface-id", lambda: uid in cloud.vsctl(guest.host, "get", "Interface", tap, "external_ids:iface-id")
    )


def test_an_edited_definition_is_put_right(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("b")
    first = guest.pid
    xml = cloud.run(guest.host, "virsh", "dumpxml", "--inactive", guest.uid)
    edited = xml.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>3<")
    assert edited != xml
    with cloud.libvirt(guest.host) as connection:
        connection.defineXML(edited)
    repaired(
        cloud, "one vcpu", lambda: ">1</vcpu>" in cloud.run(guest.host, "virsh", "dumpxml", "--inactive", guest.uid)
    )
    assert guest.pid == first


def test_a_deleted_root_disk_is_reported_and_not_replaced(cloud: Cloud, tenant: Tenant) -> None:
    tenant.instance("lost", "h1")
    tenant.wait_ready("instances", "lost")
    guest = tenant.guest("lost")
    disk = cloud.lab.layout.node("h1") / "compute/instances" / guest.uid / "root.qcow2"
    disk.unlink()
    os.kill(guest.pid, signal.SIGKILL)
    found = cloud.wait("the report", lambda: _reported(tenant, "lost"))
    assert "disk" in condition(found, "DisksReady")["message"]
    assert not disk.exists()
    assert "disk" in cloud.vcctl("why", "instance", "lost", "-p", tenant.name, check=False).lower()


def _reported(tenant: Tenant, name: str) -> dict[str, object] | None:
    found = tenant.get("instances", name)
    return found if condition(found, "DisksReady")["status"] == "False" else None


def test_foreign_domains_ports_and_taps_are_left_alone(cloud: Cloud, tenant: Tenant) -> None:
    with cloud.libvirt("h1") as connection:
        connection.defineXML(FOREIGN).create()
    cloud.run("h1", "ip", "tuntap", "add", "dev", "tapforeign", "mode", "tap")
    cloud.run("h1", "ip", "tuntap", "add", "dev", "tap0123456789ab", "mode", "tap")
    cloud.vsctl("h1", "add-port", "br-int", "tapforeign")
    cloud.nbctl("--", "ls-add", "foreign", "--", "lsp-add", "foreign", "foreign-port")
    try:
        tenant.instance("ours", "h1")
        tenant.wait_ready("instances", "ours")
        cloud.lab.restart("h1", "vc-compute")  # begins with a sweep
        cloud.delete("instances", tenant.name, "ours")
        assert cloud.run("h1", "virsh", "domstate", "foreign") == "running"
        links = cloud.run("h1", "ls", "/sys/class/net").split()
        assert {"tapforeign", "tap0123456789ab"} <= set(links)
        assert "tapforeign" in cloud.vsctl("h1", "list-ports", "br-int").split()
        assert "foreign-port" in cloud.nbctl("lsp-list", "foreign")
    finally:
        cloud.run("h1", "sh", "-c", "virsh destroy foreign; virsh undefine foreign", check=False)
        cloud.vsctl("h1", "--if-exists", "del-port", "br-int", "tapforeign")
        for name in ("tapforeign", "tap0123456789ab"):
            cloud.run("h1", "ip", "link", "del", name)
        cloud.nbctl("--if-exists", "ls-del", "foreign")


# --- in OVN ------------------------------------------------------------------------------------------------


def test_a_deleted_switch_port_is_made_again(cloud: Cloud, pair: Tenant) -> None:
    guest, other = pair.guest("a"), pair.guest("b")
    uid = port_of(cloud, guest)
    cloud.nbctl("lsp-del", uid)
    repaired(cloud, "the switch port", lambda: cloud.nb_find("Logical_Switch_Port", vcstack_uid=uid))
    cloud.wait("traffic", lambda: other.reaches(guest.address))


@pytest.mark.parametrize(
    ("column", "wrong"),
    [("addresses", '"52:54:00:00:00:01"'), ("port_security", "[]"), ("enabled", "false"), ("dhcpv4_options", "[]")],
)
def test_an_edited_switch_port_is_put_right(cloud: Cloud, pair: Tenant, column: str, wrong: str) -> None:
    uid = port_of(cloud, pair.guest("a"))
    right = cloud.nb_get("Logical_Switch_Port", uid, column)
    cloud.nbctl("set", "Logical_Switch_Port", uid, f"{column}={wrong}")
    repaired(cloud, column, lambda: cloud.nb_get("Logical_Switch_Port", uid, column) == right)


def acls(cloud: Cloud, pair: Tenant) -> list[str]:
    """What the pair's group allows, without the rows' uuids."""
    uid = pair.get("securitygroups", "open")["metadata"]["uid"]
    columns = "direction,priority,match,action"
    found = cloud.nbctl(
        "--format=csv", "--no-headings", f"--columns={columns}", "find", "ACL", f"external_ids:vcstack-uid={uid}"
    )
    return sorted(found.splitlines())


def test_deleted_acls_are_made_again(cloud: Cloud, pair: Tenant) -> None:
    right = acls(cloud, pair)
    assert right
    uid = pair.get("securitygroups", "open")["metadata"]["uid"]
    (group,) = cloud.nb_find("Port_Group", vcstack_uid=uid)
    cloud.nbctl("clear", "Port_Group", group, "acls")
    repaired(cloud, "the ACLs", lambda: acls(cloud, pair) == right)


@pytest.mark.parametrize("edit", ["action=drop", 'match="ip4"', "priority=1", "external_ids={}"])
def test_an_edited_acl_is_put_right(cloud: Cloud, pair: Tenant, edit: str) -> None:
    right = acls(cloud, pair)
    uid = pair.get("securitygroups", "open")["metadata"]["uid"]
    row = cloud.nb_find("ACL", vcstack_uid=uid)[0]
    cloud.nbctl("set", "ACL", row, edit)
    repaired(cloud, "the ACLs", lambda: acls(cloud, pair) == right)


def test_a_port_that_left_its_group_is_put_back(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    uid = pair.get("securitygroups", "open")["metadata"]["uid"]
    (group,) = cloud.nb_find("Port_Group", vcstack_uid=uid)
    right = sorted(cloud.nb_get("Port_Group", group, "ports").strip("[]").split(", "))
    cloud.nbctl("set", "Port_Group", group, "ports=[]")
    repaired(
        cloud, "members", lambda: sorted(cloud.nb_get("Port_Group", group, "ports").strip("[]").split(", ")) == right
    )
    client = pair.client("h2", "after")
    cloud.wait("traffic", lambda: client.reaches(guest.address))


def test_deleted_and_edited_dhcp_options_are_put_right(cloud: Cloud, pair: Tenant) -> None:
    uid = pair.get("subnets", "v4")["metadata"]["uid"]
    (row,) = cloud.nb_find("DHCP_Options", vcstack_uid=uid)
    right = cloud.nb_get("DHCP_Options", row, "options")
    cloud.nbctl("dhcp-options-set-options", row, "lease_time=1")
    repaired(cloud, "the options", lambda: cloud.nb_get("DHCP_Options", row, "options") == right)

    cloud.nbctl("dhcp-options-del", row)
    port = port_of(cloud, pair.guest("a"))
    repaired(cloud, "the row", lambda: cloud.nb_find("DHCP_Options", vcstack_uid=uid))
    (fresh,) = cloud.nb_find("DHCP_Options", vcstack_uid=uid)
    repaired(cloud, "the reference", lambda: fresh in cloud.nb_get("Logical_Switch_Port", port, "dhcpv4_options"))
    assert cloud.nb_get("DHCP_Options", fresh, "options") == right


def test_a_deleted_switch_comes_back_with_its_ports(cloud: Cloud, pair: Tenant) -> None:
    guest, other = pair.guest("a"), pair.guest("b")
    uid = pair.get("networks", "net")["metadata"]["uid"]
    cloud.nbctl("ls-del", uid)
    repaired(cloud, "the switch", lambda: cloud.nb_find("Logical_Switch", vcstack_uid=uid))
    repaired(cloud, "its ports", lambda: len(cloud.nbctl("lsp-list", uid).splitlines()) == 3)
    cloud.wait("traffic", lambda: other.reaches(guest.address))


def test_repairs_write_nothing_but_what_was_broken(cloud: Cloud, pair: Tenant) -> None:
    """Foreign columns and rows in OVN survive a repair beside them."""
    uid = port_of(cloud, pair.guest("a"))
    cloud.nbctl("set", "Logical_Switch_Port", uid, "external_ids:neighbour=kept")
    cloud.nbctl("set", "Logical_Switch_Port", uid, "port_security=[]")
    try:
        repaired(cloud, "port security", lambda: cloud.nb_get("Logical_Switch_Port", uid, "port_security") != "[]")
        assert cloud.nb_get("Logical_Switch_Port", uid, "external_ids:neighbour") == "kept"
    finally:
        cloud.nbctl("remove", "Logical_Switch_Port", uid, "external_ids", "neighbour")
