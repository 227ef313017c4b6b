"""The life of instances, as a user lives it: with vcctl, seen from within the guests and from the hosts."""

import json
from pathlib import Path

from tests.e2e.cloud import FLAVOR, HOSTS, IMAGE, Cloud, Wire, condition, path_of
from tests.e2e.tenant import NETWORK, Tenant

SSH = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes")


def steps_of(task: Wire) -> list[tuple[str, str]]:
    return [(step["name"], step["state"]) for step in task["status"]["steps"]]


def only_task(tenant: Tenant) -> Wire:
    (task,) = tenant.cloud.items("tasks", tenant.name)
    return task


def test_manifests_become_two_guests_that_reach_each_other_and_nothing_remains_after_them(
    cloud: Cloud, tenant: Tenant
) -> None:
    place = {"project": tenant.name}
    shown = cloud.apply_yaml(
        {"kind": "Network", "metadata": {**place, "name": "web"}, "spec": {}},
        {"kind": "Subnet", "metadata": {**place, "name": "web"}, "spec": {"network": "web", "cidr": "10.21.0.0/24"}},
        *(
            {
                "kind": "Instance",
                "metadata": {**place, "name": f"on-{host}"},
                "spec": {
                    "flavor": FLAVOR,
                    "image": IMAGE,
                    "placement": {"host": host},
                    "networkInterfaces": [{"name": "eth0", "network": "web"}],
                },
            }
            for host in HOSTS
        ),
    )
    assert "Ready" in shown
    one, two = tenant.guest("on-h1"), tenant.guest("on-h2")
    assert (one.host, two.host) == HOSTS
    # Default group: everything out, each other in.
    cloud.wait("the guests reach each other, once both have booted", lambda: one.reaches(two.address))
    two.sh("echo served >/tmp/file; busybox httpd -p 80 -h /tmp")
    assert one.sh(f"timeout 20 wget -q -O- http://{two.address}/file") == "served"
    names = f"{one.uid} {two.uid}"
    cloud.vcctl("delete", "instance", "on-h1", "on-h2", "-p", tenant.name, "--timeout", "5m")
    left = [thing for thing in cloud.inventory() if any(uid in thing for uid in names.split())]
    assert left == []


def test_a_guest_gets_address_name_key_and_user_data(cloud: Cloud, pair: Tenant, ssh_key: Path) -> None:
    guest = pair.guest("a")
    assert guest.sh("hostname") == "a"
    shows = "ip -4 -o addr show eth0 | sed 's/.*inet //;s/ .*//'"
    cloud.wait("its address", lambda: guest.sh(shows) == f"{guest.address}/24")  # it boots without one that is late
    status = pair.get("instances", "a")["status"]
    assert guest.sh("cat /sys/class/net/eth0/address") == status["addresses"][0]["mac"]
    assert guest.sh("cat /sys/class/net/eth0/mtu") == "1442"

    client = pair.client("h2", "client")
    done = client.run("ssh", *SSH, "-i", ssh_key, f"root@{guest.address}", "hostname; cat /data/told")
    assert done.stdout.split("\n")[:2] == ["a", "user data of a"], done.stderr


def test_the_serial_log_and_the_console_are_reached_through_the_api(cloud: Cloud, pair: Tenant) -> None:
    log = cloud.wait("the boot in the log", lambda: _log_with(cloud, "GUEST-READY"))
    assert "USERDATA: user data of a" in log
    assert "GUEST-READY" in cloud.vcctl("logs", "a", "-p", pair.name)
    assert str(cloud.call("GET", path_of("instances", pair.name, "a", "log"), tail=1)).count("\n") <= 1

    def answer() -> str:
        """What is shown until nothing comes for a moment."""
        return cloud.vcctl("console", "a", "-p", pair.name, stdin="root\n")

    cloud.wait("an answer on the console", lambda: any(word in answer() for word in ("Password", "login")))


def _log_with(cloud: Cloud, words: str) -> str:
    log = str(cloud.call("GET", path_of("instances", "pair", "a", "log")))
    return log if words in log else ""


def test_power_states_follow_the_spec_both_ways(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    first = guest.pid
    for verb, state in (("pause", "Paused"), ("start", "Running")):
        cloud.vcctl(verb, "a", "-p", pair.name, "--wait")
        assert pair.get("instances", "a")["status"]["powerState"] == state
        assert guest.pid == first
        assert cloud.run(guest.host, "virsh", "domstate", guest.uid) == state.lower()
    guest.sh("true")  # the guest has booted so far that it sees its power button
    cloud.vcctl("stop", "a", "-p", pair.name, "--wait")
    assert pair.get("instances", "a")["status"]["powerState"] == "Stopped"
    assert cloud.qemu_pids(guest.host).get(guest.uid) is None
    assert "GUEST-POWERBUTTON" in _log_with(cloud, "GUEST")
    cloud.vcctl("start", "a", "-p", pair.name, "--wait")
    assert guest.pid != first
    assert pair.guest("a").sh("hostname") == "a"


def test_an_interface_comes_and_goes_while_the_guest_runs(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    first = guest.pid
    spec = pair.get("instances", "a")["spec"]
    more = [*spec["networkInterfaces"], {"name": "eth1", "network": NETWORK}]
    pair.patch("instances", "a", {"spec": {"networkInterfaces": more}})
    pair.wait_ready("instances", "a")
    second = cloud.wait("a second address", lambda: _address_of(pair, "eth1"))
    cloud.wait("an address on eth1", lambda: second in guest.sh("ip -4 -o addr show eth1 2>&1", check=False))

    pair.patch("instances", "a", {"spec": {"networkInterfaces": more[:1]}})
    pair.wait_ready("instances", "a")
    cloud.wait("eth1 gone", lambda: not guest.succeeds("ip link show eth1"))
    cloud.wait("its port gone", lambda: len(cloud.items("ports", pair.name)) == 2)
    assert guest.pid == first


def _address_of(tenant: Tenant, interface: str) -> str:
    addresses = tenant.get("instances", "a")["status"]["addresses"]
    return next((str(a["address"]) for a in addresses if a["interface"] == interface), "")


def test_a_hard_reboot_is_a_task_with_steps(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    first = guest.pid
    cloud.vcctl("reboot", "a", "-p", pair.name, "--hard", "--wait")
    task = only_task(pair)
    assert task["status"]["phase"] == "Succeeded"
    assert steps_of(task) == [("Observe", "Succeeded"), ("Stop", "Succeeded"), ("Start", "Succeeded")]
    assert guest.pid != first


def test_a_soft_reboot_asks_the_guest(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("b")
    boots = guest.sh("sync; cat /data/boots")
    cloud.vcctl("reboot", "b", "-p", pair.name, "--wait")
    assert only_task(pair)["status"]["phase"] == "Succeeded"
    assert int(guest.sh("cat /data/boots")) == int(boots) + 1
    log = str(cloud.call("GET", path_of("instances", pair.name, "b", "log")))
    assert "GUEST-POWERBUTTON" in log


def test_a_larger_flavor_waits_for_a_reboot_and_says_so(cloud: Cloud, pair: Tenant) -> None:
    cloud.apply("flavors", None, "larger", {"vcpus": 1, "memoryMiB": 128, "rootDiskGiB": 1})
    try:
        guest = pair.guest("a")
        first = guest.pid
        pair.patch("instances", "a", {"spec": {"flavor": "larger"}})
        cloud.wait("UpToDate False", lambda: _up_to_date(pair) == ("False", "RebootRequired"))
        assert guest.pid == first
        cloud.vcctl("reboot", "a", "-p", pair.name, "--hard", "--wait")
        cloud.wait("UpToDate True", lambda: _up_to_date(pair)[0] == "True")
        assert "131072" in cloud.run(guest.host, "virsh", "dominfo", guest.uid)
        claimed = cloud.etcdctl("get", "--print-value-only", f"/vcstack/.claims/capacity/{guest.host}/{guest.uid}")
        assert json.loads(claimed)["memoryMiB"] == 128
    finally:
        pair.patch("instances", "a", {"spec": {"flavor": FLAVOR}})
        cloud.vcctl("reboot", "a", "-p", pair.name, "--hard", "--wait")
        cloud.delete("flavors", None, "larger")


def _up_to_date(tenant: Tenant) -> tuple[str, str]:
    found = condition(tenant.get("instances", "a"), "UpToDate")
    return found["status"], found["reason"]


def test_recreate_makes_the_root_disk_anew_and_keeps_the_identity(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("b")
    before = pair.get("instances", "b")
    guest.sh("echo precious >/data/file; sync")
    cloud.vcctl("rebuild", "b", "-p", pair.name, "--yes", "--wait")
    after = pair.wait_ready("instances", "b")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["addresses"] == before["status"]["addresses"]
    assert guest.sh("cat /data/file 2>/dev/null; cat /data/boots") == "1"


def test_labels_change_without_touching_the_guest(cloud: Cloud, pair: Tenant) -> None:
    guest = pair.guest("a")
    first, generation = guest.pid, pair.get("instances", "a")["metadata"]["generation"]
    cloud.vcctl("label", "instance", "a", "tier=front", "-p", pair.name)
    found = cloud.items("instances", pair.name, labelSelector="tier=front")
    assert [(i["metadata"]["name"], i["metadata"]["generation"]) for i in found] == [("a", generation)]
    cloud.vcctl("label", "instance", "a", "tier-", "-p", pair.name)
    assert cloud.items("instances", pair.name, labelSelector="tier=front") == []
    assert guest.pid == first


def test_a_stopped_guests_definition_is_rebuilt_when_it_starts(cloud: Cloud, tenant: Tenant) -> None:
    tenant.instance("late", powerState="Stopped")
    found = tenant.wait_ready("instances", "late")
    assert found["status"]["powerState"] == "Stopped"
    host, uid = found["status"]["host"], found["metadata"]["uid"]
    assert cloud.qemu_pids(host).get(uid) is None
    tenant.patch("instances", "late", {"spec": {"powerState": "Running"}})
    assert tenant.wait_ready("instances", "late")["status"]["powerState"] == "Running"
    assert cloud.qemu_pid(host, uid)
