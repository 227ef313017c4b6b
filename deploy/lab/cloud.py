"""The lab as an object: what `make up` drives and what the tests with real daemons use."""

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from deploy.lab import central, host, machine, namespaces, ports, procfs, quickstart, teardown
from deploy.lab.errors import LabError
from deploy.lab.layout import CENTRAL, Layout
from deploy.lab.machine import Machine
from deploy.lab.programs import Program
from deploy.lab.report import Report
from deploy.lab.shell import Completed, run, wait_until
from deploy.lab.supervisor import Supervisor


class Lab:
    """A whole cloud on one machine, all of it under one state folder.

    Several labs with different state folders run side by side. Every method may be called again after it was
    interrupted; `up` repairs whatever it finds.
    """

    def __init__(self, state: Path, hosts: int = 1, *, cache: Path | None = None, report: Report | None = None) -> None:
        """Describes a lab; touches nothing.

        Args:
            state: The folder that holds everything the lab keeps.
            hosts: How many hosts `up` makes; hosts made before stay.
            cache: Where what can be made again is kept (guest image, libvirt's probe results); by default
                `$VCSTACK_CACHE`, else `cache` in the state folder. Sharing it makes fresh labs start fast.
            report: Told of each step; by default nobody is.
        """
        if not 0 <= hosts <= host.MAX_HOSTS:
            raise LabError("hosts", f"HOSTS must be between 0 and {host.MAX_HOSTS}, not {hosts}.")
        self.layout = Layout.of(state, cache)
        self.supervisor = Supervisor(self.layout)
        self._wanted = hosts
        self._management_changed = False
        self._report = report or Report(silent=True)

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.layout.state

    @property
    def hosts(self) -> list[str]:
        """The names of the hosts: those wanted and those made before."""
        count = max(self._wanted, int(self.layout.load().get("hosts", 0)))
        return [f"h{i}" for i in range(1, count + 1)]

    @property
    def api_port(self) -> int:
        """The API's port on 127.0.0.1 of the machine, chosen at the first `up` and kept."""
        return ports.choose(self.layout)

    @property
    def api_url(self) -> str:
        """Where a person on the machine reaches the API."""
        return f"https://127.0.0.1:{self.api_port}"

    # --- bringing up and taking down -----------------------------------------------------------------------

    def up(self, only: str | None = None, *, with_quickstart: bool = False) -> None:
        """Brings the lab up and returns when all of it answers; idempotent, and repairs what it finds broken.

        Args:
            only: `infra` leaves out vc-management and vc-compute; ovn-controller then has the lab's certificate.
            with_quickstart: Also upload the guest image, apply `examples/quickstart/` and wait until it is Ready.
        """
        if only not in (None, "infra"):
            raise LabError("up", f"only='{only}' is not known; there is 'infra'.")
        if os.geteuid() != 0:
            raise LabError("up", "the lab needs root, for network namespaces and guests.")
        with self._locked():
            self.layout.make()
            self.layout.save(hosts=len(self.hosts), port=self.api_port)
            image = self._guest_image() if with_quickstart else None
            self._ensure_pki(only)
            teardown.end_orphans(self.layout, self.supervisor)
            namespaces.ensure_folder(self.layout)
            self.supervisor.ensure()
            self._infra_up(only)
            if only is None:
                self._management_up()
                self._compute_up()
            if image is not None:
                quickstart.deploy(self.layout, image, self._report)

    def down(self, *, guest_seconds: float = 10) -> None:
        """Stops everything of this lab, guests first (by their power button); not running is success.

        Args:
            guest_seconds: How long guests may take to power off before they are ended; 0 ends them at once.
        """
        with self._locked(make=False):
            teardown.take_down(self.layout, self.supervisor, self._programs, self._report, guest_seconds)

    def clean(self) -> None:
        """Takes the lab down and removes its state folder; refuses a folder that no lab was made in."""
        teardown.refuse_strangers(self.layout)
        self.down(guest_seconds=0)
        teardown.remove_state(self.layout)

    @contextmanager
    def _locked(self, *, make: bool = True) -> Iterator[None]:
        if not make and not self.state.is_dir():
            yield
            return
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LabError("lock", f"another `up` or `down` works on {self.state}; wait for it to end.") from error
            yield

    # --- the steps of `up` ---------------------------------------------------------------------------------

    def _guest_image(self) -> Path:
        with self._report.step("guest", "image ready"):
            return quickstart.build_image(self.layout)

    def _ensure_pki(self, only: str | None) -> None:
        if only == "infra":
            with self._report.step("pki", "certificates"):
                quickstart.ensure_certificates(self.layout)
            return
        with self._report.step("pki", "certificates, admin token and vcctl context"):
            quickstart.ensure_pki(self.layout, self.api_url)
        self._management_changed = central.write_management_config(self.layout)

    def _infra_up(self, only: str | None) -> None:
        with self._report.step("network", "namespaces and underlay"):
            self._ensure_node(CENTRAL, central.binds(self.layout))
            central.ensure_underlay(self.layout)
            able = machine.probe(self.layout)
            for name in self.hosts:
                self._ensure_node(name, host.binds(self.layout, name))
                host.ensure_link(self.layout, name)
            for node in (CENTRAL, *self.hosts):
                self.supervisor.add(node, self._programs(node))
        self._report.say("machine", able.describe())
        # Two at a time: the machine may have no more cores, and half of the time is spent waiting.
        pool = ThreadPoolExecutor(max_workers=2)
        steps = [pool.submit(self._central_infra_up)]
        steps += [pool.submit(self._host_infra_up, name, able, only) for name in self.hosts]
        try:
            for step in as_completed(steps):
                step.result()
        except LabError:
            pool.shutdown(cancel_futures=True)
            raise
        except KeyboardInterrupt:
            # A person waits: what the other steps still do ends with the process.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def _central_infra_up(self) -> None:
        with self._report.step("central", "etcd, PostgreSQL, OVN databases and northd"):
            central.prepare(self.layout)
            central.start_infra(self.layout, self.supervisor, self.api_port)

    def _host_infra_up(self, name: str, able: Machine, only: str | None) -> None:
        with self._report.step(name, "Open vSwitch, ovn-controller, libvirtd"):
            host.write_configs(self.layout, name, able.virt_type)
            certificate = quickstart.ensure_host_certificate(self.layout, name) if only == "infra" else None
            host.start_infra(self.layout, self.supervisor, name, able.datapath, certificate)

    def _management_up(self) -> None:
        with self._report.step("central", f"vc-management at {self.api_url}"):
            if self._management_changed:
                self.stop(CENTRAL, central.MANAGEMENT)
            self.start(CENTRAL, central.MANAGEMENT)

    def _compute_up(self) -> None:
        for name in self.hosts:
            with self._report.step(name, "vc-compute joined and running"):
                quickstart.ensure_join_token(self.layout, name)
                self.start(name, host.COMPUTE)

    def _ensure_node(self, node: str, binds: dict[Path, str]) -> None:
        namespaces.ensure_network(self.layout, node)
        if namespaces.is_complete(self.layout, node):
            return
        inside = procfs.in_network(namespaces.network_id(self.layout, node))
        guests = [pid for pid in inside if procfs.is_guest(pid)]
        if guests:
            namespaces.adopt(self.layout, node, guests[0])
            return
        namespaces.delete(self.layout, node, keep_network=True)
        procfs.end(inside)
        if node == CENTRAL:
            central.forget_last_boot(self.layout)
        else:
            host.forget_last_boot(self.layout, node)
        namespaces.create(self.layout, node, binds)

    # --- one program ---------------------------------------------------------------------------------------

    def start(self, node: str, program: str) -> None:
        """Starts a program and returns when it answers; a running one is success."""
        known = self._program(node, program)
        self.supervisor.start(known)
        self.wait_ready(node, program)

    def stop(self, node: str, program: str) -> None:
        """Stops a program and returns when it is gone; it stays stopped until `start` or `up`."""
        self.supervisor.stop(self._program(node, program))

    def restart(self, node: str, program: str) -> None:
        """Stops a program, starts it and returns when it answers."""
        self.stop(node, program)
        self.start(node, program)

    def kill(self, node: str, program: str, sign: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to the program itself (never to a wrapper) and returns the pid it went to."""
        pid = self.pid(node, program)
        if pid is None:
            raise LabError(f"{node}:{program}", "is not running, so nothing was killed.")
        os.kill(pid, sign)
        return pid

    def pid(self, node: str, program: str) -> int | None:
        """The pid of the program itself, or None when it does not run."""
        known = self._program(node, program)
        pid = int(self.supervisor.info(known).get("pid", 0))
        if pid and known.pid_file:
            try:
                pid = int((self.layout.run(node) / known.pid_file).read_text())
            except (OSError, ValueError):
                return None
        return pid if pid and procfs.alive(pid) else None

    def wait_ready(self, node: str, program: str, timeout: float | None = None) -> None:
        """Returns when the program answers; raises LabError with its log after `timeout` seconds (own default)."""
        checks = central.ready_checks(self.layout) if node == CENTRAL else host.ready_checks(self.layout, node)
        check, seconds = checks[program]
        wait_until(
            f"{node}:{program}", "an answer", check, log=self.layout.log(node, program), timeout=timeout or seconds
        )

    def _programs(self, node: str) -> list[Program]:
        if node == CENTRAL:
            return central.programs(self.layout, self.api_port)
        return host.programs(self.layout, node)

    def _program(self, node: str, program: str) -> Program:
        self._check_node(node)
        for known in self._programs(node):
            if known.name == program:
                return known
        names = ", ".join(known.name for known in self._programs(node))
        raise LabError(node, f"has no program named '{program}'; it has {names}.")

    # --- reaching inside -----------------------------------------------------------------------------------

    def enter_argv(self, node: str) -> list[str]:
        """The command prefix that runs a command inside a host or `central`, for subprocess."""
        self._check_node(node)
        return namespaces.enter_argv(self.layout, node)

    def host_exec(self, node: str, argv: list[str], *, check: bool = False, timeout: float = 180) -> Completed:
        """Runs a command inside a host or `central`; with `check` a failure raises LabError."""
        return run([*self.enter_argv(node), *argv], check=check, timeout=timeout)

    def path(self, relative: str) -> Path:
        """A path below the state folder."""
        return self.state / relative

    def log(self, node: str, program: str) -> Path:
        """The log of a program."""
        return self.layout.log(node, program)

    def libvirt_uri(self, node: str) -> str:
        """A host's libvirt, usable from outside the host."""
        return f"qemu+unix:///system?socket={self.layout.run(node)}/libvirt/libvirt-sock"

    def ovs_socket(self, node: str) -> str:
        """A host's Open vSwitch database, usable from outside the host (`unix:...`)."""
        return f"unix:{self.layout.run(node)}/openvswitch/db.sock"

    def ovn_socket(self, db: str) -> str:
        """OVN's northbound (`nb`) or southbound (`sb`) database, usable from outside (`unix:...`)."""
        return f"unix:{self.layout.run(CENTRAL)}/ovn/ovn{db}_db.sock"

    @property
    def postgres_dsn(self) -> str:
        """The mirror's database, usable from outside by root."""
        return f"postgresql://vcstack@/vcstack?host={self.layout.run(CENTRAL)}/postgresql"

    def guests(self, node: str) -> list[int]:
        """The pids of the QEMU processes on a host."""
        return [pid for pid in procfs.in_network(namespaces.network_id(self.layout, node)) if procfs.is_guest(pid)]

    def each_program(self) -> Iterator[tuple[Program, Callable[[], int | None]]]:
        """Every program with a way to ask for its pid."""
        for node in (CENTRAL, *self.hosts):
            for program in self._programs(node):
                yield program, lambda node=node, name=program.name: self.pid(node, name)  # type: ignore[misc]

    def _check_node(self, node: str) -> None:
        if node != CENTRAL and node not in self.hosts:
            raise LabError("host", f"there is no '{node}'; there are {', '.join((CENTRAL, *self.hosts))}.")
