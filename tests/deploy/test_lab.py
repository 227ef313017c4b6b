"""The lab with its real daemons: it comes up, stays up, is repaired, and goes without a trace."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.lab import Lab, host, namespaces, procfs
from deploy.lab.errors import LabError
from deploy.lab.layout import CENTRAL, CHECKOUT
from tests.deploy.observed import eventually, leftovers, machine_network

pytestmark = pytest.mark.daemons

INFRA = [(CENTRAL, name) for name in ("etcd", "postgres", "ovn-nb", "ovn-sb", "northd")]
INFRA += [("h1", name) for name in host.INFRA]


def pids(lab: Lab) -> dict[tuple[str, str], int | None]:
    return {(node, name): lab.pid(node, name) for node, name in INFRA}


def command_line(lab: Lab, *args: str) -> subprocess.Popen[str]:
    """`python -m deploy.lab` for a lab's folder as a process of its own."""
    env = {**os.environ, "VCSTACK_STATE": str(lab.state), "VCSTACK_CACHE": str(lab.layout.cache)}
    argv = [sys.executable, "-m", "deploy.lab", *args]
    return subprocess.Popen(
        argv, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def test_every_program_runs_and_a_second_up_restarts_nothing(lab: Lab) -> None:
    before = pids(lab)
    lab.up("infra")
    assert None not in before.values()
    assert pids(lab) == before


def test_the_host_registers_with_ovn_over_tls(lab: Lab) -> None:
    def shown() -> str:
        return lab.host_exec(CENTRAL, ["ovn-sbctl", "show"], check=True).stdout

    eventually("the chassis", lambda: f'Chassis "{host.chassis("h1")}"' in shown())
    assert "geneve" in shown()
    remote = lab.host_exec("h1", ["ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids:ovn-remote"]).stdout
    assert remote.strip() == '"ssl:10.98.0.1:6642"'


def southbound(lab: Lab, *args: str) -> subprocess.CompletedProcess[str]:
    """ovn-sbctl on h1, as whoever broke into it: by the port and with the certificate of its ovn-controller."""
    key, certificate, ca = (lab.layout.node("h1") / "chassis.key", lab.layout.node("h1") / "chassis.crt", "pki/ca.crt")
    files = ("-p", str(key), "-c", str(certificate), "-C", str(lab.path(ca)))
    return lab.host_exec("h1", ["ovn-sbctl", "--timeout=60", "--db=ssl:10.98.0.1:6642", *files, *args])


def test_a_host_changes_its_own_chassis_in_ovn_and_nothing_else(lab: Lab) -> None:
    own, other = host.chassis("h1"), host.chassis("other")

    def central(*args: str) -> str:
        return lab.host_exec(CENTRAL, ["ovn-sbctl", "--timeout=60", *args], check=True).stdout

    central("chassis-add", other, "geneve", "10.98.0.99")
    lab.host_exec(CENTRAL, ["ovn-nbctl", "--timeout=60", "--wait=sb", "ls-add", "broken"], check=True)
    try:
        eventually("the chassis", lambda: own in central("show"))
        assert "Chassis" in southbound(lab, "show").stdout
        assert southbound(lab, "set", "Chassis", own, "external_ids:seen=yes").returncode == 0
        encap = central("--bare", "--columns=_uuid", "find", "Encap", f'chassis_name="{other}"').strip()
        flow = central("--bare", "--columns=_uuid", "list", "Logical_Flow").split()[0]
        for attempt in (
            ["--all", "destroy", "Logical_Flow"],
            ["set", "Logical_Flow", flow, "priority=4711"],
            ["--all", "destroy", "Datapath_Binding"],
            ["set", "Chassis", other, "external_ids:seen=yes"],
            ["chassis-del", other],
            ["chassis-add", host.chassis("third"), "geneve", "10.98.0.98"],
            ["set", "Encap", encap, 'ip="10.98.0.11"'],
            ["del-connection"],
            ["set", "Connection", ".", 'role=""'],
            ["--all", "destroy", "RBAC_Permission"],
        ):
            done = southbound(lab, *attempt)
            assert (done.returncode, "permission error" in done.stderr) == (1, True), (attempt, done.stderr)
    finally:
        central("chassis-del", other)
        lab.host_exec(CENTRAL, ["ovn-nbctl", "--timeout=60", "ls-del", "broken"], check=True)


def test_a_host_reaches_the_southbound_database_and_nothing_else_of_the_cloud_but_its_api(lab: Lab) -> None:
    listening = lab.host_exec(CENTRAL, ["ss", "-Hltn"], check=True).stdout
    addresses = {line.split()[3] for line in listening.splitlines()}
    assert {"127.0.0.1:2379", "127.0.0.1:2380", "127.0.0.1:6641", "10.98.0.1:6642"} <= addresses
    reached = {each for each in addresses if not each.startswith(("127.", "[::1]"))}
    assert reached <= {"10.98.0.1:6642", "10.98.0.1:8443"}
    for port, open_ in (("2379", False), ("6641", False), ("6642", True)):
        done = lab.host_exec("h1", ["bash", "-c", f"</dev/tcp/10.98.0.1/{port}"])
        assert (done.returncode == 0) is open_, (port, done.stderr)


def test_up_limits_hosts_that_a_former_version_did_not_and_forgets_their_former_chassis(lab: Lab) -> None:
    def central(*args: str) -> None:
        lab.host_exec(CENTRAL, ["ovn-sbctl", "--timeout=60", *args], check=True)

    central("del-connection")
    central("set-connection", "pssl:6642:10.98.0.1")
    central("chassis-add", "h1", "geneve", "10.98.0.97")
    eventually("no limits", lambda: southbound(lab, "set", "SB_Global", ".", "external_ids:a=b").returncode == 0)
    lab.up("infra")
    done = southbound(lab, "set", "SB_Global", ".", "external_ids:a=c")
    assert "permission error" in done.stderr
    shown = lab.host_exec(CENTRAL, ["ovn-sbctl", "--bare", "--columns=name", "list", "Chassis"], check=True).stdout
    assert shown.split() == [host.chassis("h1")]


def test_a_command_inside_a_host_keeps_its_output_and_exit_code(lab: Lab) -> None:
    done = lab.host_exec("h1", ["sh", "-c", "hostname; echo oh >&2; exit 7"])
    assert (done.stdout, done.stderr, done.returncode) == ("h1\n", "oh\n", 7)


def test_the_command_line_shows_status_logs_and_runs_commands(lab: Lab) -> None:
    shown, _ = command_line(lab, "status").communicate(timeout=120)
    rows = {tuple(line.split()[:3]) for line in shown.splitlines()}
    assert {(node, name, "RUNNING") for node, name in INFRA} <= rows
    assert ("central", "vc-management", "STOPPED") in rows

    def logs() -> str:
        return command_line(lab, "logs", "h1/ovn-controller", "--no-follow").communicate(timeout=120)[0]

    eventually("ovn-controller's connection", lambda: "10.98.0.1:6642: connected" in logs())
    executed = command_line(lab, "exec", "--host", "central", "--shell", "ovn-nbctl get-connection; exit 9")
    assert executed.communicate(timeout=120)[0].strip() == "pssl:6641:127.0.0.1"
    assert executed.returncode == 9


def test_sockets_are_usable_from_outside_in_spite_of_the_long_path(lab: Lab) -> None:
    for argv in (
        ["virsh", "-c", lab.libvirt_uri("h1"), "version"],
        ["ovs-vsctl", f"--db={lab.ovs_socket('h1')}", "show"],
        ["ovn-nbctl", f"--db={lab.ovn_socket('nb')}", "show"],
        ["ovn-sbctl", f"--db={lab.ovn_socket('sb')}", "show"],
        ["psql", "-qAtX", lab.postgres_dsn, "-c", "select 1"],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{argv}: {done.stderr}"


def test_each_killed_daemon_comes_back(lab: Lab) -> None:
    before = {(node, name): lab.kill(node, name) for node, name in INFRA}
    eventually("another of each", lambda: not any(pid in (None, before[key]) for key, pid in pids(lab).items()))
    for node, name in INFRA:
        lab.wait_ready(node, name)


def test_a_stopped_program_stays_stopped_until_it_is_started(lab: Lab) -> None:
    lab.stop(CENTRAL, "northd")
    time.sleep(1.5)
    assert lab.pid(CENTRAL, "northd") is None
    lab.start(CENTRAL, "northd")
    assert lab.pid(CENTRAL, "northd") is not None


def test_a_failure_names_the_part_and_its_log(lab: Lab) -> None:
    lab.stop(CENTRAL, "etcd")
    with pytest.raises(LabError) as caught:
        lab.wait_ready(CENTRAL, "etcd", timeout=0.2)
    assert caught.value.part == "central:etcd"
    told = caught.value.explain()
    assert str(lab.log(CENTRAL, "etcd")) in told
    assert "last lines" in told


def test_a_lost_supervisor_is_replaced_and_nothing_runs_twice(lab: Lab) -> None:
    supervisor = lab.supervisor.pid()
    before = pids(lab)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    lab.up("infra")
    assert lab.supervisor.pid() not in (None, supervisor)
    assert not set(before.values()) & set(pids(lab).values())

    def counts() -> list[int]:
        inside = [procfs.command(pid) for pid in procfs.in_network(namespaces.network_id(lab.layout, "h1"))]
        programs = ("ovsdb-server", "ovs-vswitchd", "ovn-controller", "/usr/sbin/libvirtd")
        return [sum(words.startswith(name) for words in inside) for name in programs]

    # libvirtd starts others, which look like itself for a moment.
    eventually("one of each", lambda: counts() == [1, 1, 1, 1])


def test_a_second_up_at_the_same_time_is_refused(lab: Lab) -> None:
    with lab._locked():
        told, _ = (second := command_line(lab, "up", "--only", "infra")).communicate(timeout=120)
    assert second.returncode == 1
    assert "another `up` or `down`" in told


def test_two_labs_run_side_by_side(lab: Lab, tmp_path: Path, cache: Path) -> None:
    before = pids(lab)
    other = Lab(tmp_path / "other", cache=cache)
    try:
        other.up("infra")
        assert other.api_port != lab.api_port
        assert None not in pids(other).values()
        other.host_exec(CENTRAL, ["ovn-nbctl", "ls-add", "only-here"], check=True)
        assert "only-here" not in lab.host_exec(CENTRAL, ["ovn-nbctl", "show"], check=True).stdout
    finally:
        other.down(guest_seconds=0)
    assert leftovers(other) == []
    assert pids(lab) == before


def test_an_interrupted_up_is_finished_by_the_next_and_down_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    lab = Lab(tmp_path / "state", cache=cache)
    try:
        for seconds in (0.3, 0.6, 1.0, 1.8):
            going = command_line(lab, "up", "--only", "infra")
            time.sleep(seconds)
            os.killpg(going.pid, signal.SIGKILL)
            going.communicate()
        lab.up("infra")
        assert None not in pids(lab).values()
    finally:
        lab.down(guest_seconds=0)
    assert leftovers(lab) == []
    lab.clean()
    assert not lab.state.exists()


def test_hosts_are_added_later_and_reach_each_other(lab: Lab) -> None:
    before = pids(lab)
    Lab(lab.state, 2, cache=lab.layout.cache).up("infra")
    assert lab.hosts == ["h1", "h2"]
    assert pids(lab) == before
    eventually("an answer", lambda: lab.host_exec("h2", ["ping", "-c1", "-W2", "10.98.0.11"]).returncode == 0)


def test_the_machines_own_network_is_as_before(lab: Lab, network_before: str) -> None:
    assert machine_network() == network_before


def test_clean_refuses_a_folder_without_a_lab(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(LabError, match="holds no lab"):
        Lab(tmp_path).clean()
    assert (tmp_path / "precious").exists()


def test_what_was_decided_is_kept(lab: Lab) -> None:
    kept = json.loads((lab.state / "lab.json").read_text())
    assert kept["port"] == lab.api_port
    assert kept["machine"]["datapath"] in ("system", "netdev")
    assert kept["machine"]["virtType"] in ("kvm", "qemu")
