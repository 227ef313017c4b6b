"""The cloud as the end-to-end tests see it: vcctl, the API, and everything real behind them."""

import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
import libvirt
import yaml

from deploy.lab import Lab, procfs
from deploy.lab.layout import BIN, CENTRAL, CHECKOUT
from vcstack.specs.registry import load_kinds

Wire = dict[str, Any]
T = TypeVar("T")
HOSTS = ("h1", "h2")
FLAVOR, IMAGE = "small", "tiny"
WAIT_SECONDS = 120.0
MANAGER = "e2e"
NB_TABLES = dict.fromkeys(
    ("Logical_Switch", "Logical_Switch_Port", "Port_Group", "DHCP_Options", "Address_Set"), "external_ids"
) | {"ACL": "external_ids,direction,priority,match"}

# Its errors are raised; on the terminal they only repeat.
libvirt.registerErrorHandler(lambda *_: None, None)


class Refused(Exception):
    """The API said no."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
        self.code = answer.status_code
        self.body: Wire = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}


AWAY = (httpx2.TransportError,)
"""What a client sees while the API is gone."""


def path_of(plural: str, project: str | None = None, name: str = "", sub: str = "") -> str:
    """The path of an object, a collection or a subresource."""
    parts = ["/api/v1", *(["projects", project] if project else []), plural, name, sub]
    return "/".join(part for part in parts if part)


class Cloud:
    """A lab with everything in it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._http = self._admin()
        self._chosen: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _admin(self) -> httpx2.Client:
        token = (self.lab.state / "admin-token").read_text().strip()
        return self.client(headers={"authorization": f"Bearer {token}"})

    def trust_anew(self) -> None:
        """Trust whom the cloud trusts now: a context never looks at its file again."""
        self._http.close()
        self._http = self._admin()

    def prepare(self) -> None:
        """Upload the image and make the flavor, unless they are there."""
        self.vcctl("image", "upload", IMAGE, "--file", self.image_file)
        self.apply("flavors", None, FLAVOR, {"vcpus": 1, "memoryMiB": 96, "rootDiskGiB": 1})
        self.wait("both hosts Ready", lambda: all(self.is_ready("hosts", None, h) for h in HOSTS))

    @property
    def image_file(self) -> Path:
        """The guest image, built unless the cache has it as it is now."""
        folder = self.lab.layout.cache / "guest"
        subprocess.run(["bash", CHECKOUT / "deploy" / "guest" / "build.sh", folder], check=True)
        return folder / "tiny.qcow2"

    # --- the API -------------------------------------------------------------------------------------------

    def client(self, *, url: str = "", certificate: tuple[Path, Path] | None = None, **more: Any) -> httpx2.Client:
        """A client of the API; with a certificate it is a host."""
        context = ssl.create_default_context(cafile=str(self.lab.path("pki/ca.crt")))
        if certificate:
            context.load_cert_chain(*map(str, certificate))
        return httpx2.Client(base_url=url or self.lab.api_url, verify=context, timeout=60, **more)

    def call(self, method: str, path: str, body: Any = None, *, kind: str = "", **query: Any) -> Any:
        """Ask the API and return its JSON; raises Refused."""
        headers = {"content-type": kind or "application/json"} if body is not None else {}
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self._http.request(method, path, content=content, headers=headers, params=query)
        if answer.is_error:
            raise Refused(answer)
        return answer.json() if answer.headers.get("content-type", "").startswith("application/json") else answer.text

    def get(self, plural: str, project: str | None, name: str) -> Wire:
        """An object."""
        return self.call("GET", path_of(plural, project, name))

    def find(self, plural: str, project: str | None, name: str) -> Wire | None:
        """An object, or None when there is none."""
        try:
            return self.get(plural, project, name)
        except Refused as refused:
            if refused.code != 404:
                raise
            return None

    def items(self, plural: str, project: str | None = None, **query: Any) -> list[Wire]:
        """All objects of a collection."""
        return self.call("GET", path_of(plural, project), **query)["items"]

    def apply(self, plural: str, project: str | None, name: str, spec: Mapping[str, Any], **metadata: Any) -> Wire:
        """Server-side apply of an object."""
        place = {"project": project} if project else {}
        kind = KINDS[plural]
        wire = {"apiVersion": "vcstack.io/v1", "kind": kind, "metadata": {**place, "name": name, **metadata}}
        return self.call(
            "PATCH", path_of(plural, project, name), {**wire, "spec": dict(spec)},
            kind="application/apply-patch+json", fieldManager=MANAGER, force="true",
        )  # fmt: skip

    def patch(self, plural: str, project: str | None, name: str, patch: Wire) -> Wire:
        """A merge patch."""
        return self.call("PATCH", path_of(plural, project, name), patch, kind="application/merge-patch+json")

    def delete(self, plural: str, project: str | None, name: str, *, wait: bool = True) -> None:
        """Delete an object and wait until it is gone; absent is success."""
        try:
            self.call("DELETE", path_of(plural, project, name))
        except Refused as refused:
            if refused.code != 404:
                raise
        if wait:
            self.wait(f"{plural}/{name} gone", lambda: self.find(plural, project, name) is None)

    def is_ready(self, plural: str, project: str | None, name: str) -> bool:
        """Whether it is Ready for what its spec says now."""
        found = self.find(plural, project, name)
        return found is not None and condition(found, "Ready")["status"] == "True"

    def wait_ready(self, plural: str, project: str | None, name: str, seconds: float = WAIT_SECONDS) -> Wire:
        """Wait until it is Ready, and return it."""

        def look() -> Wire | None:
            found = self.find(plural, project, name)
            return found if found and condition(found, "Ready")["status"] == "True" else None

        return self.wait(lambda: f"{plural}/{name} Ready: {self._describe(plural, project, name)}", look, seconds)

    def _describe(self, plural: str, project: str | None, name: str) -> str:
        """What may tell why an object is not Ready: its conditions, OVN's view, the ends of the logs."""
        status = (self.find(plural, project, name) or {}).get("status", {})
        lines = [f"{c['type']}={c['status']} {c['reason']} {c['message']}" for c in status.get("conditions", ())]
        for port in self.items("ports"):
            states = {c["type"]: c["status"] for c in port["status"].get("conditions", ())}
            lines.append(f"port {port['metadata']['name']} {port['metadata']['uid']} {states}")
        lines.append(self.nbctl("--columns=name,up,addresses", "list", "Logical_Switch_Port"))
        lines.append(self._ovs_tool("ovn-sbctl", "--no-leader-only", "--db", self.lab.ovn_socket("sb"), "show"))
        for host in HOSTS:
            for program in ("ovn-controller", "vswitchd", "vc-compute"):
                log = self.lab.log(host, program)
                lines += [f"--- {log}", *log.read_text(errors="replace").splitlines()[-15:]] if log.exists() else []
        return "\n".join(lines)

    def wait(self, what: str | Callable[[], object], look: Callable[[], T], seconds: float = WAIT_SECONDS) -> T:
        """Wait until look() returns something true; what the API refuses while parts are away counts as not yet."""
        deadline, fault = time.monotonic() + seconds, ""
        while True:
            try:
                if found := look():
                    return found
            except AWAY as error:
                fault = repr(error)
            except Refused as error:
                fault = str(error)
                if error.code < 500:
                    raise
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what() if callable(what) else what} {fault}")
            time.sleep(0.1)

    def vcctl(self, *args: str | Path, check: bool = True, stdin: str | None = None, code: int = 0) -> str:
        """Run vcctl as a user does, and return what it prints (with its errors)."""
        env = {"PATH": "/usr/bin:/bin", "VCCTL_CONFIG": str(self.lab.path("vcctl.yaml")), "COLUMNS": "240"}
        argv = [BIN / "vcctl", *map(str, args)]
        done = subprocess.run(argv, capture_output=True, text=True, env=env, input=stdin, timeout=600, check=False)
        shown = done.stdout + done.stderr
        assert not check or done.returncode == code, f"{args} ended with {done.returncode}:\n{shown}"
        assert "Traceback" not in shown, shown
        return shown

    def apply_yaml(self, *objects: Wire, wait: bool = True) -> str:
        """vcctl apply of some manifests."""
        text = yaml.safe_dump_all(({"apiVersion": "vcstack.io/v1", **o} for o in objects), sort_keys=False)
        return self.vcctl("apply", "-f", "-", *(["--wait", "--timeout", "5m"] if wait else []), stdin=text)

    # --- what is real --------------------------------------------------------------------------------------

    def run(self, node: str, *argv: str, check: bool = True) -> str:
        """Run a command inside a host or central and return its output."""
        return self.lab.host_exec(node, list(argv), check=check).stdout.strip()

    def nbctl(self, *argv: str) -> str:
        """ovn-nbctl."""
        return self._ovs_tool("ovn-nbctl", "--no-leader-only", "--db", self.lab.ovn_socket("nb"), *argv)

    def vsctl(self, host: str, *argv: str) -> str:
        """ovs-vsctl of a host."""
        return self._ovs_tool("ovs-vsctl", "--db", self.lab.ovs_socket(host), *argv)

    def _ovs_tool(self, tool: str, *argv: str) -> str:
        done = subprocess.run([tool, "--timeout=60", *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{tool} {argv}: {done.stderr}"
        return done.stdout.strip()

    def nb_find(self, table: str, **ids: str) -> list[str]:
        """The uuids of rows with these external_ids (vcstack-uid and so on)."""
        wanted = [f'external_ids:{key.replace("_", "-")}="{value}"' for key, value in ids.items()]
        return self.nbctl("--bare", "--columns=_uuid", "find", table, *wanted).split()

    def nb_get(self, table: str, row: str, column: str) -> str:
        """A column of a row."""
        return self.nbctl("get", table, row, column)

    def etcdctl(self, *argv: str) -> str:
        """etcdctl."""
        pki = self.lab.path("pki")
        files = [f"--cacert={pki}/ca.crt", f"--cert={pki}/management.crt", f"--key={pki}/management.key"]
        patience = ("--dial-timeout=60s", "--command-timeout=60s")
        return self.run(CENTRAL, "etcdctl", "--endpoints=https://127.0.0.1:2379", *patience, *files, *argv)

    def etcd_keys(self, prefix: str = "/vcstack/") -> list[str]:
        """All keys below a prefix."""
        return self.etcdctl("get", "--prefix", "--keys-only", prefix).split()

    @contextlib.contextmanager
    def libvirt(self, host: str) -> Iterator[Any]:
        """A connection to a host's libvirt."""
        connection = libvirt.open(self.lab.libvirt_uri(host))
        try:
            yield connection
        finally:
            connection.close()

    def domains(self, host: str) -> list[str]:
        """The names of all domains."""
        with self.libvirt(host) as connection:
            return sorted(domain.name() for domain in connection.listAllDomains())

    def qemu_pids(self, host: str) -> dict[str, list[int]]:
        """The QEMU processes of a host by the domain they say they are."""
        found: dict[str, list[int]] = {}
        for pid in self.lab.guests(host):
            named = re.search(r"guest=([^, ]+)", procfs.command(pid))
            if named:  # libvirt starts others for a moment, to learn what they can do
                found.setdefault(named[1], []).append(pid)
        return found

    def qemu_pid(self, host: str, uid: str) -> int:
        """The one QEMU process of a domain."""
        (pid,) = self.qemu_pids(host).get(uid, [])
        return pid

    def inventory(self) -> Counter[str]:
        """Everything real that the cloud made or might have forgotten, each thing once for each time it is there."""
        with ThreadPoolExecutor(4) as pool:
            parts = [pool.submit(self._inventory_of_host, host) for host in HOSTS]
            parts += [pool.submit(self._inventory_of_ovn), pool.submit(self._inventory_of_etcd)]
            return Counter(thing for part in parts for thing in part.result())

    def _inventory_of_host(self, host: str) -> Iterator[str]:
        yield from (f"{host} domain {name}" for name in self.domains(host))
        yield from (f"{host} QEMU {name}" for name, pids in self.qemu_pids(host).items() for _ in pids)
        yield from (f"{host} folder {f.name}" for f in (self.lab.layout.node(host) / "compute/instances").iterdir())
        links = self.run(host, "sh", "-c", "ls /sys/class/net; ovs-vsctl --columns=name,external_ids list Interface")
        yield from (f"{host} link {name}" for name in re.findall(r"^(tap\S+)$", links, re.M))
        yield from (f"{host} OVS port {uid}" for uid in re.findall(r'iface-id="?([^",}]+)', links))

    def _inventory_of_ovn(self) -> Iterator[str]:
        for table, columns in NB_TABLES.items():
            shown = self.nbctl("--format=csv", "--no-headings", f"--columns={columns}", "list", table)
            yield from (f"NB {table} {row}" for row in shown.splitlines() if "vcstack-uid=" in row)

    def _inventory_of_etcd(self) -> Iterator[str]:
        overwritten = ("/vcstack/.deleted", "/vcstack/.nudge", "/vcstack/.quotas/limits")
        by_themselves = ("/vcstack/.join/", "/vcstack/.tickets/", "/vcstack/.credentials/sessions/")  # under leases
        volatile = ("/vcstack/events/", "/vcstack/.leases/", *by_themselves, *overwritten)
        yield from (f"etcd {key}" for key in self.etcd_keys() if not key.startswith(volatile))

    def kill(self, node: str, program: str) -> None:
        """SIGKILL a program that is also restarted by itself now and then: when it runs."""

        def hit() -> bool:
            pid = self.lab.pid(node, program)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return True
            return False

        self.wait(f"{node}:{program} killed", hit)

    def repair(self) -> None:
        """Start whatever a test stopped, thaw what it froze, and wait until the API answers."""
        for program, pid in self.lab.each_program():
            found = pid()
            if found is not None:
                with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                    _thaw(found)
            else:
                self.lab.start(program.node, program.name)
        self.wait("the API answers", lambda: self.call("GET", path_of("projects")))


def _thaw(pid: int) -> None:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    if state == "T":
        os.kill(pid, signal.SIGCONT)


KINDS = {definition.plural: kind for kind, definition in load_kinds().items()}


def condition(wire: Wire, type_: str) -> Wire:
    """A condition of an object; an absent one is Unknown. Ready counts only for the present generation."""
    for found in wire.get("status", {}).get("conditions", []):
        if found["type"] == type_:
            if type_ == "Ready" and found.get("observedGeneration", 0) < wire["metadata"]["generation"]:
                return {**found, "status": "Unknown"}
            return found
    return {"type": type_, "status": "Unknown", "reason": "", "message": ""}


def doubled(found: Counter[str]) -> list[str]:
    """What is there more than once."""
    return sorted(thing for thing, count in found.items() if count > 1)


def differences(before: Counter[str], after: Counter[str]) -> list[str]:
    """What came and what went."""
    came, went = (after - before).elements(), (before - after).elements()
    return sorted([f"+ {thing}" for thing in came] + [f"- {thing}" for thing in went])
