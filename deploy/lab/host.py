"""A host of the lab: namespaces of its own with ovsdb-server, ovs-vswitchd, ovn-controller, libvirtd and vc-compute."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from deploy.lab import central, namespaces
from deploy.lab.layout import BIN, CENTRAL, CHECKOUT, Layout, write
from deploy.lab.programs import Program
from deploy.lab.shell import run, wait_until
from deploy.lab.supervisor import Supervisor

MAX_HOSTS = 50
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
QUIET = ["-vconsole:info", "-vfile:off", "-vsyslog:off"]
INFRA = ("ovsdb", "vswitchd", "ovn-controller", "libvirtd")
COMPUTE = "vc-compute"

LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
unix_sock_dir = "/run/libvirt"
host_uuid = "{uuid}"
log_outputs = "2:stderr"
max_workers = 20
"""
# Guests run as root of a lab host: the state folder may lie where no other user can look. Cgroups and libvirt's own
# mount namespaces are left out, as the host's namespaces stand in for a whole machine.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""


def index(host: str) -> int:
    """The number in a host's name (`h3` is 3)."""
    return int(host.removeprefix("h"))


def address(host: str) -> str:
    """The host's tunnel address on the underlay: 10.98.0.11 for h1."""
    return f"10.98.0.1{index(host)}"


def chassis(host: str) -> str:
    """OVN's name for the host."""
    return central.CHASSIS + host


def binds(layout: Layout, host: str) -> dict[Path, str]:
    """The host's private folders and the default paths at which its programs see them."""
    base, logs = layout.node(host), layout.state / "logs" / host
    return {
        base / "run": "/run",
        base / "etc-libvirt": "/etc/libvirt",
        base / "lib-libvirt": "/var/lib/libvirt",
        base / "cache-libvirt": "/var/cache/libvirt",
        logs / "libvirt": "/var/log/libvirt",
        base / "etc-openvswitch": "/etc/openvswitch",
        base / "lib-openvswitch": "/var/lib/openvswitch",
        logs / "openvswitch": "/var/log/openvswitch",
        base / "lib-ovn": "/var/lib/ovn",
        logs / "ovn": "/var/log/ovn",
    }


def forget_last_boot(layout: Layout, host: str) -> None:
    """Empties what a real host loses when it boots, and the switch's database, whose ports are made anew anyway."""
    for name in ("run", "etc-openvswitch"):
        shutil.rmtree(layout.node(host) / name, ignore_errors=True)


def ensure_link(layout: Layout, host: str) -> None:
    """Plugs the host into the underlay: a veth straight from central to the host, never seen by the machine."""
    inside, outside = layout.netns(host), layout.netns(CENTRAL)
    links = [run(["ip", "-n", ns, "link", "show", name], check=False).returncode == 0
             for ns, name in ((inside, "eth0"), (outside, host))]  # fmt: skip
    if not all(links):
        run(["ip", "-n", outside, "link", "del", host], check=False)
        run(["ip", "-n", outside, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", inside])
    mtu = str(central.UNDERLAY_MTU)
    run(["ip", "-n", outside, "link", "set", host, "mtu", mtu, "master", "br-ul", "up"])
    run(["ip", "-n", inside, "link", "set", "eth0", "mtu", mtu, "up"])
    # The userspace datapath passes frames on as they are; checksums left to a card would never be filled in.
    run(["ip", "netns", "exec", inside, "ethtool", "-K", "eth0", "tx", "off"])


def write_configs(layout: Layout, host: str, virt_type: str) -> None:
    """Writes libvirt's and vc-compute's configuration, and hands libvirt the kept results of its slow probing."""
    base = layout.node(host)
    uuid = f"00000000-0000-4000-8000-{int(layout.tag, 16):06x}{index(host):06x}"
    write(base / "etc-libvirt" / "libvirtd.conf", LIBVIRTD_CONF.format(uuid=uuid))
    write(base / "etc-libvirt" / "qemu.conf", QEMU_CONF)
    write(base / "etc-libvirt" / "libvirt.conf", "")
    (base / "run" / "lock").mkdir(parents=True, exist_ok=True)
    (base / "compute").mkdir(mode=0o700, exist_ok=True)
    kept = layout.cache / "libvirt"
    if kept.is_dir() and not (base / "cache-libvirt" / "qemu").exists():
        shutil.copytree(kept, base / "cache-libvirt", dirs_exist_ok=True)
    config = {
        "hostName": host,
        "apiUrl": f"https://{central.ADDRESS}:8443",
        "caFile": str(layout.state / "pki" / "ca.crt"),
        "joinTokenFile": str(base / "join-token"),
        "stateDir": str(base / "compute"),
        "libvirtUri": "qemu:///system",
        "ovsdb": "unix:/run/openvswitch/db.sock",
        "zone": "lab",
        "labels": {},
        "virtType": virt_type,
        "ovn": {"remote": f"ssl:{central.ADDRESS}:6642", "encapIp": address(host)},
    }
    write(base / "compute.yaml", yaml.safe_dump(config, sort_keys=False), mode=0o600)


def keep_probe_results(layout: Layout, host: str) -> None:
    """Keeps what libvirt found out about QEMU, so that the next libvirtd starts in 0.5 s instead of 8."""
    found = layout.node(host) / "cache-libvirt" / "qemu"
    kept = layout.cache / "libvirt"
    if not found.is_dir() or (kept / "qemu").exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_name(f"libvirt.{layout.tag}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(found.parent, fresh)
    try:
        fresh.rename(kept)
    except OSError:  # another lab on the same cache was faster
        shutil.rmtree(fresh, ignore_errors=True)


def programs(layout: Layout, host: str) -> list[Program]:
    """All programs of the host."""
    reaper = CHECKOUT / "deploy" / "lab" / "reaper.py"
    # br-phy and its address may go whenever vswitchd does; the first seconds of each start put them right.
    phy = f"""
for i in $(seq 60); do
  ip -o -4 addr show dev br-phy up 2>/dev/null | grep -q ' {address(host)}/' ||
    {{ ip link set br-phy up && ip addr replace {address(host)}/24 dev br-phy; }} 2>/dev/null
  if [ $i -lt 40 ]; then sleep 0.1; else sleep 0.5; fi
done"""
    return [
        Program(
            host, "ovsdb",
            ["ovsdb-server", *QUIET, "--no-chdir", "--pidfile", "--remote=punix:/run/openvswitch/db.sock",
             "/etc/openvswitch/conf.db"],
        ),
        Program(host, "vswitchd", ["ovs-vswitchd", *QUIET, "--no-chdir", "--pidfile"], beside=["sh", "-c", phy]),
        Program(host, "ovn-controller", ["ovn-controller", *QUIET, "--no-chdir", "--pidfile"]),
        Program(
            host, "libvirtd",
            [str(BIN / "python"), "-IS", str(reaper), "/usr/sbin/libvirtd", "-p", "/run/libvirtd.pid"],
            pid_file="libvirtd.pid",
        ),
        Program(host, COMPUTE, [str(BIN / "vc-compute"), "--config", str(layout.node(host) / "compute.yaml")]),
    ]  # fmt: skip


def start_infra(
    layout: Layout, supervisor: Supervisor, host: str, datapath: str, certificate: tuple[Path, Path, Path] | None
) -> None:
    """Starts the switch, OVN's controller and libvirtd, and returns when each answers.

    Args:
        layout: The lab.
        supervisor: Its supervisor.
        host: The host's name.
        datapath: Open vSwitch's datapath type, `system` or `netdev`.
        certificate: Key, certificate and CA with which ovn-controller shows itself to the southbound database;
            None: vc-compute gives it the host's own once it has joined.
    """
    by_name = {program.name: program for program in programs(layout, host)}
    checks = ready_checks(layout, host)

    def start(name: str) -> None:
        supervisor.start(by_name[name])

    def wait(name: str) -> None:
        check, seconds = checks[name]
        wait_until(f"{host}:{name}", "an answer", check, log=layout.log(host, name), timeout=seconds)

    start("libvirtd")  # the slowest, so it goes first
    enter = namespaces.enter_argv(layout, host)
    create = f"""
mkdir -p /run/openvswitch /run/ovn
[ -s /etc/openvswitch/conf.db ] && exit 0
rm -f /etc/openvswitch/conf.new /etc/openvswitch/.conf.new.~lock~
ovsdb-tool create /etc/openvswitch/conf.new {OVS_SCHEMA}
mv /etc/openvswitch/conf.new /etc/openvswitch/conf.db"""
    run([*enter, "sh", "-ec", create])
    start("ovsdb")
    wait("ovsdb")
    run([*enter, "sh", "-ec", _switch_script(host, datapath, certificate)])
    start("vswitchd")
    start("ovn-controller")
    for name in INFRA[1:]:
        wait(name)
    keep_probe_results(layout, host)


def _switch_script(host: str, datapath: str, certificate: tuple[Path, Path, Path] | None) -> str:
    ids = {
        "system-id": chassis(host),
        "hostname": host,
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": address(host),
        "ovn-bridge-datapath-type": datapath,
        "ovn-remote": f"ssl:{central.ADDRESS}:6642",
        "ovn-remote-probe-interval": str(central.PROBE_MS),
    }
    settings = " ".join(f"external-ids:{key}={shlex.quote(json_string(value))}" for key, value in ids.items())
    ssl = f"-- set-ssl {' '.join(shlex.quote(str(path)) for path in certificate)}" if certificate else ""
    # Idempotent, and before vswitchd starts, which then makes everything at once.
    return f"""
ovs-vsctl --no-wait --timeout=60 -- init -- set Open_vSwitch . {settings} \\
  {ssl} \\
  -- --may-exist add-br br-int \\
  -- set Bridge br-int datapath_type={datapath} fail_mode=secure other-config:disable-in-band=true \\
  -- --may-exist add-br br-phy -- set Bridge br-phy datapath_type={datapath} \\
  -- set Interface br-phy mtu_request={central.UNDERLAY_MTU} \\
  -- --may-exist add-port br-phy eth0"""


def json_string(value: str) -> str:
    """A value quoted for ovs-vsctl, which would split at colons otherwise."""
    return f'"{value}"'


def ready_checks(layout: Layout, host: str) -> dict[str, tuple[Callable[[], bool], float]]:
    """For each program: whether it answers, and how long it may take to."""
    enter = namespaces.enter_argv(layout, host)

    def answers(*argv: str) -> Callable[[], bool]:
        return lambda: run([*enter, *argv], check=False, timeout=60).returncode == 0

    return {
        "ovsdb": (answers("ovs-vsctl", "--no-wait", "--timeout=5", "show"), 60),
        "vswitchd": (
            answers(
                "sh", "-ec",
                "ovs-appctl -t ovs-vswitchd version >/dev/null; ovs-vsctl --timeout=5 br-exists br-int;"
                f"ip -o -4 addr show dev br-phy | grep -q ' {address(host)}/'",
            ),
            60,
        ),
        "ovn-controller": (answers("ovn-appctl", "-t", "ovn-controller", "version"), 60),
        "libvirtd": (answers("virsh", "-c", "qemu:///system", "version"), 120),
        COMPUTE: ((layout.node(host) / "compute" / "pki" / "host.crt").exists, 120),
    }  # fmt: skip
