"""Parts die or freeze while the cloud works: guests go on, nothing acknowledged is lost, nothing is doubled."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from deploy.lab.layout import BIN, CENTRAL
from tests.e2e.cloud import AWAY, HOSTS, Cloud, Refused, Wire, condition, doubled, path_of
from tests.e2e.tenant import Guest, Tenant
from tests.fixtures import freezer

FREEZE_SECONDS = 15
"""Longer than any lease of the cloud."""
MANAGER, AGENT = "vc-management", "vc-compute"


PROBE = """
import ssl, urllib.request
urllib.request.urlopen("https://10.98.0.1:8444/healthz", context=ssl._create_unverified_context(), timeout=5)
"""


def thaw(cloud: Cloud, node: str, program: str) -> None:
    cloud.lab.kill(node, program, signal.SIGCONT)


@contextlib.contextmanager
def frozen(cloud: Cloud, node: str, program: str) -> Iterator[None]:
    pid = cloud.lab.pid(node, program)
    assert pid is not None
    freezer.freeze(pid)
    try:
        yield
    finally:
        thaw(cloud, node, program)


def works(tenant: Tenant, name: str) -> None:
    """A port gets its address and its place in OVN."""
    tenant.apply("ports", name, {"network": "net"})
    tenant.wait_ready("ports", name)


def all_ready(cloud: Cloud, pair: Tenant) -> None:
    """Both hosts and both guests are Ready again."""
    for host in HOSTS:
        cloud.wait_ready("hosts", None, host, 90)
    for name in ("a", "b"):
        pair.wait_ready("instances", name)


def pids(guests: list[Guest]) -> list[int]:
    return [guest.pid for guest in guests]


@pytest.fixture
def guests(pair: Tenant) -> list[Guest]:
    return [Guest(pair, name) for name in ("a", "b")]


# --- the store ---------------------------------------------------------------------------------------------


def test_a_restart_of_etcd_is_survived(cloud: Cloud, pair: Tenant, tenant: Tenant, guests: list[Guest]) -> None:
    before = pids(guests)
    cloud.lab.restart(CENTRAL, "etcd")
    cloud.wait("writes", lambda: tenant.apply("ports", "after", {"network": "net"}))
    works(tenant, "after")
    all_ready(cloud, pair)
    assert pids(guests) == before


def test_a_frozen_etcd_is_survived(cloud: Cloud, pair: Tenant, tenant: Tenant, guests: list[Guest]) -> None:
    before = pids(guests)
    with frozen(cloud, CENTRAL, "etcd"):
        ends = time.monotonic() + FREEZE_SECONDS
        with pytest.raises((Refused, *AWAY)) as refused:
            cloud.items("instances", pair.name)
        assert not isinstance(refused.value, Refused) or refused.value.code == 503
        time.sleep(max(0.0, ends - time.monotonic()))
    cloud.wait("writes", lambda: tenant.apply("ports", "after", {"network": "net"}))
    works(tenant, "after")
    all_ready(cloud, pair)
    assert pids(guests) == before


def test_what_was_written_and_compacted_while_the_manager_stood_still_is_seen(cloud: Cloud, tenant: Tenant) -> None:
    tenant.apply("sshkeys", "key", {"publicKey": _public_key()})
    key = f"/vcstack/sshkeys/{tenant.name}/key"
    with frozen(cloud, CENTRAL, MANAGER):
        stored = json.loads(cloud.etcdctl("get", "--print-value-only", key))
        stored["metadata"]["labels"] = {"written": "meanwhile"}
        cloud.etcdctl("put", key, json.dumps(stored))
        for i in range(3):
            cloud.etcdctl("put", "/elsewhere", str(i))
        told = json.loads(cloud.etcdctl("del", "/elsewhere", "-w", "json"))
        cloud.etcdctl("compaction", str(told["header"]["revision"]))
    seen = cloud.wait("the label", lambda: cloud.items("sshkeys", tenant.name, labelSelector="written=meanwhile"))
    assert [k["metadata"]["name"] for k in seen] == ["key"]
    works(tenant, "after")


def _public_key() -> str:
    return "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJlZWZiZWVmYmVlZmJlZWZiZWVmYmVlZmJlZWZiZWVmYmVl e2e"


def test_acknowledged_writes_survive_etcds_death_under_load_and_are_there_once(cloud: Cloud, tenant: Tenant) -> None:
    acknowledged: dict[str, str] = {}
    stop = False

    def create(worker: int) -> None:
        number = 0
        while not stop:
            name = f"w{worker}-{number}"
            number += 1
            wire = {
                "apiVersion": "vcstack.io/v1", "kind": "SSHKey", "spec": {"publicKey": _public_key()},
                "metadata": {"project": tenant.name, "name": name},
            }  # fmt: skip
            try:
                made = cloud.call("POST", path_of("sshkeys", tenant.name), wire)
                acknowledged[name] = made["metadata"]["uid"]
            except AWAY:
                continue
            except Refused as refused:
                # Whatever came of it, a name that nobody else uses is never said to be taken.
                if refused.code < 500:
                    raise
                time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(create, n) for n in range(4)]
        try:
            for _ in range(2):
                count = len(acknowledged)
                cloud.wait("load", lambda count=count: len(acknowledged) > count + 40)
                cloud.lab.kill(CENTRAL, "etcd")
                cloud.lab.wait_ready(CENTRAL, "etcd")
            count = len(acknowledged)
            cloud.wait("load again", lambda: len(acknowledged) > count + 20)
        finally:
            stop = True
        for worker in workers:
            worker.result()
    found = cloud.items("sshkeys", tenant.name)
    names = [key["metadata"]["name"] for key in found]
    assert len(names) == len(set(names))
    uids = {key["metadata"]["name"]: key["metadata"]["uid"] for key in found}
    assert {name: uids.get(name) for name in acknowledged} == acknowledged


def test_without_postgresql_the_cloud_works_and_history_catches_up(cloud: Cloud, pair: Tenant, tenant: Tenant) -> None:
    cloud.lab.stop(CENTRAL, "postgres")
    try:
        works(tenant, "meanwhile")
        with pytest.raises(Refused) as refused:
            cloud.call("GET", path_of("ports", tenant.name, "meanwhile", "history"))
        assert refused.value.code == 503
    finally:
        cloud.lab.start(CENTRAL, "postgres")
    cloud.wait("history", lambda: _created_in_history(cloud, tenant, "meanwhile"))


def _created_in_history(cloud: Cloud, tenant: Tenant, name: str) -> bool:
    items = cloud.call("GET", path_of("ports", tenant.name, name, "history"))["items"]
    return any(item["operation"] == "Created" for item in items)


# --- the network -------------------------------------------------------------------------------------------


def test_a_restart_of_the_northbound_database_is_survived(cloud: Cloud, pair: Tenant, tenant: Tenant) -> None:
    cloud.lab.restart(CENTRAL, "ovn-nb")
    works(tenant, "after")
    client = pair.client("h2", "client")
    cloud.wait("traffic", lambda: client.reaches(Guest(pair, "a").address))


def test_a_killed_northd_is_survived(cloud: Cloud, pair: Tenant) -> None:
    first = cloud.lab.kill(CENTRAL, "northd")
    cloud.wait("northd", lambda: cloud.lab.pid(CENTRAL, "northd") not in (None, first))
    client = pair.client("h2", "client")
    cloud.wait("traffic", lambda: client.reaches(Guest(pair, "a").address))


def test_switch_and_controller_of_a_host_may_die(cloud: Cloud, pair: Tenant, guests: list[Guest]) -> None:
    before = pids(guests)
    for program in ("ovn-controller", "vswitchd", "ovsdb"):
        cloud.lab.kill("h1", program)
        cloud.lab.wait_ready("h1", program)
    client = pair.client("h2", "client")
    cloud.wait("traffic", lambda: client.reaches(guests[0].address))
    all_ready(cloud, pair)
    assert pids(guests) == before


# --- the hosts ---------------------------------------------------------------------------------------------


def test_a_killed_libvirtd_leaves_guest_and_status_as_they_are(cloud: Cloud, pair: Tenant, guests: list[Guest]) -> None:
    before, started = pids(guests), pair.get("instances", "a")["status"]["startedAt"]
    cloud.lab.kill("h1", "libvirtd")
    cloud.lab.wait_ready("h1", "libvirtd")
    all_ready(cloud, pair)
    status = pair.get("instances", "a")["status"]
    assert (status["powerState"], status["startedAt"]) == ("Running", started)
    assert pids(guests) == before
    # The agent has found its way back: it hears of what happens and does what is asked.
    pair.patch("instances", "a", {"spec": {"powerState": "Paused"}})
    cloud.wait("paused", lambda: cloud.run("h1", "virsh", "domstate", guests[0].uid) == "paused")


def test_an_agent_killed_while_it_creates_finishes_and_stops_no_guest(
    cloud: Cloud, pair: Tenant, tenant: Tenant, guests: list[Guest]
) -> None:
    before = pids(guests)
    names = [f"new-{i}" for i in range(3)]
    for name in names:
        tenant.instance(name, "h1")
    cloud.wait("the first domain", lambda: len(cloud.domains("h1")) > 1)
    cloud.lab.kill("h1", AGENT)
    running = cloud.qemu_pids("h1")
    for name in names:
        tenant.wait_ready("instances", name)
    after = cloud.qemu_pids("h1")
    assert {uid: after[uid] for uid in running} == running
    assert all(len(found) == 1 for found in after.values())
    assert pids(guests) == before


def test_an_agent_restarted_without_a_manager_works_from_what_it_last_knew(
    cloud: Cloud, pair: Tenant, guests: list[Guest]
) -> None:
    before = pids(guests)
    cloud.lab.stop(CENTRAL, MANAGER)
    cloud.lab.restart("h1", AGENT)
    os.kill(before[0], signal.SIGKILL)
    cloud.wait("the guest started again", lambda: cloud.qemu_pids("h1").get(guests[0].uid, before[:1]) != before[:1])
    cloud.lab.start(CENTRAL, MANAGER)
    all_ready(cloud, pair)
    assert guests[1].pid == before[1]


def test_an_agent_that_was_away_does_what_it_missed(cloud: Cloud, pair: Tenant, tenant: Tenant) -> None:
    for name in ("goes", "stops"):
        tenant.instance(name, "h1")
    for name in ("goes", "stops"):
        tenant.wait_ready("instances", name)
    goes, stops = Guest(tenant, "goes"), Guest(tenant, "stops")
    cloud.lab.stop("h1", AGENT)
    cloud.delete("instances", tenant.name, "goes", wait=False)
    tenant.patch("instances", "stops", {"spec": {"powerState": "Paused"}})
    assert goes.pid
    assert cloud.find("instances", tenant.name, "goes"), "gone before its host has cleaned up"
    cloud.lab.start("h1", AGENT)
    cloud.wait("deleted", lambda: cloud.find("instances", tenant.name, "goes") is None)
    assert cloud.qemu_pids("h1").get(goes.uid) is None
    cloud.wait("paused", lambda: tenant.get("instances", "stops")["status"]["powerState"] == "Paused")
    assert stops.pid


def test_a_silent_host_is_reported_and_found_again(cloud: Cloud, pair: Tenant, guests: list[Guest]) -> None:
    before = pids(guests)
    cloud.lab.stop("h2", AGENT)
    cloud.wait("not alive", lambda: condition(cloud.get("hosts", None, "h2"), "Alive")["status"] != "True")
    assert "LeaseLost" in cloud.vcctl("why", "host", "h2", check=False)
    cloud.lab.start("h2", AGENT)
    all_ready(cloud, pair)
    assert pids(guests) == before


def is_lost(instance: Wire) -> bool:
    running = condition(instance, "Running")
    return (running["status"], running["reason"]) == ("Unknown", "OutOfService")


@pytest.fixture
def stated(cloud: Cloud, pair: Tenant) -> Iterator[Callable[[bool], object]]:
    """State whether the machine of h2 is off or lost; in the end it is not."""

    def state(lost: bool) -> object:
        return cloud.patch("hosts", None, "h2", {"spec": {"outOfService": lost}})

    yield state
    state(False)


def test_a_host_stated_to_be_lost_is_not_waited_for_and_is_clean_when_it_is_back(
    cloud: Cloud, tenant: Tenant, guests: list[Guest], stated: Callable[[bool], object]
) -> None:
    """It runs all the time, which is the worst."""
    before = pids(guests)
    tenant.instance("moves", "h2")
    first = tenant.wait_ready("instances", "moves")["metadata"]["uid"]
    stated(True)
    cloud.wait("refused", lambda: "host h2 is out of service" in cloud.lab.log("h2", AGENT).read_text())
    for project, name in ((tenant.name, "moves"), ("pair", "b")):
        cloud.wait(f"{name} Unknown", lambda p=project, n=name: is_lost(cloud.get("instances", p, n)))
    assert "Delete the instances bound to it" in cloud.vcctl("why", "host", "h2", check=False)
    cloud.delete("instances", tenant.name, "moves")
    tenant.instance("moves", "h1")
    second = tenant.wait_ready("instances", "moves")["metadata"]["uid"]
    assert first in cloud.domains("h2"), "nobody there knows"
    stated(False)
    cloud.lab.restart("h2", AGENT)  # as with the machine; it would look in a minute, too
    cloud.wait("swept", lambda: first not in cloud.domains("h2"))
    cloud.wait_ready("hosts", None, "h2", 90)
    cloud.wait_ready("instances", "pair", "b")
    assert second in cloud.domains("h1")
    assert pids(guests) == before, "what stayed bound ran on"


# --- two managers ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def second_manager(cloud: Cloud) -> Iterator["subprocess.Popen[bytes]"]:
    """Another vc-management in central, with a port of its own."""
    config = yaml.safe_load(cloud.lab.path("management.yaml").read_text())
    config["api"]["listen"] = ["10.98.0.1:8444"]
    file = cloud.lab.path("management-2.yaml")
    file.write_text(yaml.safe_dump(config))
    said = cloud.lab.path("logs/second.log")
    with said.open("wb") as log:
        argv = [*cloud.lab.enter_argv(CENTRAL), str(BIN / MANAGER), "serve", "--config", str(file)]
        environ = {**os.environ, "PYTHONFAULTHANDLER": "1"}
        process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environ)
    try:
        probe = ["python3", "-IS", "-c", PROBE]
        cloud.wait(
            lambda: f"the second manager answers:\n{last_words(process, said)}",
            lambda: cloud.lab.host_exec(CENTRAL, probe).returncode == 0,
        )
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(timeout=60)


def last_words(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Abort what hangs, so that it tells what its threads were at, and return that with all that it said."""
    kernel = [Path(f"/proc/{process.pid}/{name}").read_text() for name in ("status", "wchan")]
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    return "\n".join([*kernel, log.read_text(errors="replace")])


def leaders(cloud: Cloud) -> set[int]:
    """The pids of those who lead some controller."""
    shown = cloud.etcdctl("get", "--prefix", "--print-value-only", "/vcstack/.leases/elections/")
    return {int(line.rpartition("-")[2].strip('"}')) for line in shown.splitlines() if line}


def test_of_two_managers_one_leads_and_a_frozen_one_is_replaced_and_fenced(
    cloud: Cloud, pair: Tenant, tenant: Tenant
) -> None:
    with second_manager(cloud) as second:
        cloud.lab.stop(CENTRAL, MANAGER)
        cloud.wait(lambda: f"{second.pid} leads: {leaders(cloud)}", lambda: leaders(cloud) == {second.pid})
        cloud.lab.start(CENTRAL, MANAGER)
        first = cloud.lab.pid(CENTRAL, MANAGER)
        # It is stopped in the middle of this.
        for i in range(20):
            tenant.apply("ports", f"early-{i}", {"network": "net"})
        freezer.freeze(second.pid)
        cloud.wait(lambda: f"{first} leads: {leaders(cloud)}", lambda: leaders(cloud) == {first})
        for i in range(5):
            works(tenant, f"late-{i}")
        tenant.patch("securitygroups", "open", {"spec": {"rules": []}})
        for i in range(20):
            tenant.wait_ready("ports", f"early-{i}")
        tenant.wait_ready("securitygroups", "open")
        before = cloud.inventory()
        freezer.thaw(second.pid)
        cloud.wait("the second has noticed", lambda: _has_noticed(cloud))
        assert leaders(cloud) == {first}
        assert cloud.inventory() == before
        assert doubled(before) == []
        addresses = [p["status"]["addresses"][0]["address"] for p in cloud.items("ports", tenant.name)]
        assert len(addresses) == len(set(addresses)) == 25
        works(tenant, "last")


def _has_noticed(cloud: Cloud) -> bool:
    """It knows that its term is over, so it has had its turn to write."""
    return "controller.ended" in cloud.lab.path("logs/second.log").read_text()
