"""A project with a network in it, and what lives there: guests, and clients that speak real packets."""

import base64
import json
import secrets
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from deploy.lab.layout import Layout
from tests.e2e.cloud import FLAVOR, IMAGE, Cloud, Wire, condition

NETWORK, SUBNET, OPEN = "net", "v4", "open"
ALL = [{"name": "out", "direction": "Egress"}, {"name": "in", "direction": "Ingress"}]
ALL_V4 = [{**rule, "remoteCidr": "0.0.0.0/0"} for rule in ALL]
EXEC_SECONDS = 300
ANNOUNCE = """
import socket, sys
mac, address = bytes.fromhex(sys.argv[1].replace(":", "")), socket.inet_aton(sys.argv[2])
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("eth0", 0x806))
head = b"\\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 0604 0001")
out.send(head + mac + address + bytes(6) + address)
"""
"""A gratuitous ARP request (RFC 5227 section 3)."""

HEAR = """
import select, socket, sys
inlet = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
inlet.bind(("", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()  # until all was sent
print("heard" if select.select([inlet], [], [], 3)[0] else "nothing")
"""
SAY = """
import socket, sys, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.bind(("", int(sys.argv[1])))
for _ in range(3):
    out.sendto(b"x", (sys.argv[2], int(sys.argv[3])))
    time.sleep(0.2)
"""

ADVERTISE = """
import socket, struct, sys, time
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
source = bytes.fromhex("fe80" + 6 * "00") + bytes([mac[0] ^ 2, *mac[1:3], 0xff, 0xfe, *mac[3:]])
everyone = bytes.fromhex("ff02" + 13 * "00" + "01")
said = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
total = sum(struct.unpack("!28H", source + everyone + struct.pack("!II", len(said), 58) + said))
total = (total & 0xffff) + (total >> 16)
said = said[:2] + struct.pack("!H", 0xffff - total) + said[4:]
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("eth0", 0x86dd))
for _ in range(3):
    head = struct.pack("!IHBB", 6 << 28, len(said), 58, 255)
    out.send(bytes.fromhex("333300000001") + mac + bytes.fromhex("86dd") + head + source + everyone + said)
    time.sleep(0.2)
"""
"""Router advertisements (RFC 4861 section 4.2), as a router sends them."""
HEAR_ADVERTISED = """
import select, socket, sys, time
inlet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
inlet.bind(("eth0", 3))
print("listening", flush=True)
sys.stdin.read()  # until all was sent
end, heard = time.monotonic() + 3, "nothing"
while select.select([inlet], [], [], max(0, end - time.monotonic()))[0]:
    frame = inlet.recv(2000)
    if frame[12:14] == bytes.fromhex("86dd") and frame[20] == 58 and frame[54] == 134:
        heard = "heard"
        break
print(heard)
"""


class Tenant:
    """A project of a test's own."""

    def __init__(self, cloud: Cloud, name: str = "", *, cidr: str = "10.20.0.0/24") -> None:
        self.cloud = cloud
        self.name = name or f"e2e-{secrets.token_hex(3)}"
        self._clients: list[Client] = []
        cloud.apply("projects", None, self.name, {})
        self.apply("networks", NETWORK, {})
        self.apply("subnets", SUBNET, {"network": NETWORK, "cidr": cidr})
        self.apply("securitygroups", OPEN, {"rules": ALL_V4})

    def tidy(self) -> None:
        """Remove clients, tasks and groups that a test made."""
        self._unplug_all()
        for task in self.cloud.items("tasks", self.name):
            self.cloud.delete("tasks", self.name, task["metadata"]["name"])
        for group in self.cloud.items("securitygroups", self.name):
            if group["metadata"]["name"] not in ("default", OPEN):
                self.cloud.delete("securitygroups", self.name, group["metadata"]["name"])

    def _unplug_all(self) -> None:
        for client in self._clients:
            client.unplug()
            self.cloud.delete("ports", self.name, client.name)
        self._clients.clear()

    def delete(self, *, wait: bool = True) -> None:
        """Delete the project and wait until it is gone."""
        self._unplug_all()
        self.cloud.delete("projects", None, self.name, wait=wait)

    def apply(self, plural: str, name: str, spec: dict[str, Any], **metadata: Any) -> Wire:
        """Apply an object of the project."""
        return self.cloud.apply(plural, self.name, name, spec, **metadata)

    def get(self, plural: str, name: str) -> Wire:
        """An object of the project."""
        return self.cloud.get(plural, self.name, name)

    def patch(self, plural: str, name: str, patch: Wire) -> Wire:
        """A merge patch of an object of the project."""
        return self.cloud.patch(plural, self.name, name, patch)

    def wait_ready(self, plural: str, name: str, seconds: float = 180) -> Wire:
        """Wait until an object of the project is Ready."""
        return self.cloud.wait_ready(plural, self.name, name, seconds)

    def spec(self, host: str | None = None, groups: Iterable[str] | None = (OPEN,), **more: Any) -> Wire:
        """The spec of an instance."""
        chosen = {} if groups is None else {"securityGroups": list(groups)}
        nic = {"name": "eth0", "network": NETWORK, **chosen}
        placed = {"placement": {"host": host}} if host else {}
        return {"flavor": FLAVOR, "image": IMAGE, "networkInterfaces": [nic], **placed, **more}

    def instance(self, name: str, host: str | None = None, **more: Any) -> Wire:
        """Apply an instance."""
        return self.apply("instances", name, self.spec(host, **more))

    def guest(self, name: str) -> "Guest":
        """A running instance that has booted, from within."""
        found = Guest(self, name)
        self.cloud.wait(f"{name} booted", lambda: found.succeeds("test -e /run/ready"), EXEC_SECONDS)
        return found

    def client(self, host: str, name: str, groups: Iterable[str] = (OPEN,)) -> "Client":
        """A network stack of its own on a host, plugged into the project's network by hand."""
        self.apply("ports", name, {"network": NETWORK, "securityGroups": list(groups)})
        found = Client(self, host, self.wait_ready("ports", name))
        self._clients.append(found)
        return found


class Guest:
    """A guest, by the agent in it: works whatever becomes of its network."""

    def __init__(self, tenant: Tenant, name: str) -> None:
        self._cloud = tenant.cloud
        found = tenant.get("instances", name)
        self.uid, self.host = found["metadata"]["uid"], found["status"]["host"]
        self.address: str = found["status"]["addresses"][0]["address"]

    @property
    def pid(self) -> int:
        """The pid of its QEMU."""
        return self._cloud.qemu_pid(self.host, self.uid)

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a script in the guest and return what it printed; waits for a guest that still boots."""
        arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        pid = self._agent("guest-exec", arguments)["pid"]
        done = self._cloud.wait(f"the end of {script!r}", lambda: self._ended(pid))
        shown = "".join(base64.b64decode(done.get(k, "")).decode(errors="replace") for k in ("out-data", "err-data"))
        assert not check or done["exitcode"] == 0, f"{script!r} in the guest ended with {done['exitcode']}: {shown}"
        return shown.strip()

    def succeeds(self, script: str) -> bool:
        """Whether a script ends with 0."""
        return self.sh(f"if ({script}) >/dev/null 2>&1; then echo yes; else echo no; fi") == "yes"

    def reaches(self, address: str) -> bool:
        """Whether an address answers a ping."""
        return self.succeeds(f"ping -c1 -W1 {address}")

    def _ended(self, pid: int) -> Wire | None:
        status = self._agent("guest-exec-status", {"pid": pid})
        return status if status["exited"] else None

    def _agent(self, command: str, arguments: Wire) -> Any:
        deadline = time.monotonic() + EXEC_SECONDS
        asked = json.dumps({"execute": command, "arguments": arguments})
        while True:
            try:
                with self._cloud.libvirt(self.host) as connection:
                    domain = connection.lookupByName(self.uid)
                    return json.loads(libvirt_qemu.qemuAgentCommand(domain, asked, 60, 0))["return"]
            except libvirt.libvirtError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


class Client:
    """A network namespace on a veth that hangs on br-int: sends whatever a test wants, without a guest's boot.

    To the cloud it is a foreign port of the bridge: it must never touch it.
    """

    def __init__(self, tenant: Tenant, host: str, port: Wire) -> None:
        self._cloud, self._layout, self.host = tenant.cloud, tenant.cloud.lab.layout, host
        self.name, self.uid, self.mac = port["metadata"]["name"], port["metadata"]["uid"], port["status"]["mac"]
        self.address: str = port["status"]["addresses"][0]["address"]
        short = self.uid.rpartition("-")[2][:8]
        self.link, self.namespace = f"e2e{short}", f"{_prefix(self._layout)}e2e-{short}"
        script = f"""
ip netns add {self.namespace}
ip -n {self._layout.netns(host)} link add {self.link} type veth peer name eth0 netns {self.namespace}
ip -n {self._layout.netns(host)} link set {self.link} up
ip netns exec {self.namespace} ethtool -K eth0 tx off >/dev/null
ip -n {self.namespace} link set eth0 address {self.mac} mtu 1442 up
ip -n {self.namespace} link set lo up
ip -n {self.namespace} addr add {self.address}/24 dev eth0
"""
        subprocess.run(["sh", "-ec", script], check=True)
        mark = ("set", "Interface", self.link, f"external_ids:iface-id={self.uid}")
        tenant.cloud.vsctl(host, "add-port", "br-int", self.link, "--", *mark)
        tenant.cloud.wait(f"{self.name} Up", lambda: self._is_up(tenant))
        # As a guest's DHCP client would: who had the address before has another MAC, which neighbours still remember.
        assert self.run("python3", "-IS", "-c", ANNOUNCE, self.mac, self.address).returncode == 0

    def _is_up(self, tenant: Tenant) -> bool:
        return bool(condition(tenant.get("ports", self.name), "Up")["status"] == "True")

    def unplug(self) -> None:
        """Remove it."""
        self._cloud.vsctl(self.host, "--if-exists", "del-port", "br-int", self.link)
        subprocess.run(["ip", "netns", "del", self.namespace], check=True)

    def run(self, *argv: str | Path, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command with this network stack."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *argv],
            capture_output=True, text=True, input=stdin, check=False, timeout=60,
        )  # fmt: skip

    def reaches(self, address: str, *options: str) -> bool:
        """Whether an address answers a ping."""
        return self.run("ping", "-c1", "-W1", *options, address).returncode == 0

    def connects(self, address: str, port: int) -> bool:
        """Whether a TCP connection comes about."""
        script = f"import socket; socket.create_connection(('{address}', {port}), timeout=1.5).close()"
        return self.run("python3", "-IS", "-c", script).returncode == 0

    def hears(self, sender: "Client", *, source: int, port: int) -> bool:
        """Whether a datagram from a port of the sender's arrives at a port of this one."""
        return self._hears((HEAR, str(port)), sender, (SAY, str(source), self.address, str(port)))

    def hears_router(self, sender: "Client") -> bool:
        """Whether a router advertisement of the sender's arrives."""
        return self._hears((HEAR_ADVERTISED,), sender, (ADVERTISE, sender.mac))

    def _hears(self, hear: tuple[str, ...], sender: "Client", say: tuple[str, ...]) -> bool:
        listening = ["ip", "netns", "exec", self.namespace, "python3", "-IS", "-c", *hear]
        with subprocess.Popen(listening, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listening\n"
            assert sender.run("python3", "-IS", "-c", *say).returncode == 0
            return "heard" in listener.communicate()[0]


def _prefix(layout: Layout) -> str:
    return f"{layout.tag}-"
