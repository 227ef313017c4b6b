"""A whole cloud in one process: etcd, OVN, Git and hosts that keep their state, and programs that may be killed.

Only the edges are fakes, and each of them passes the contract tests of the real one: etcd, Git, OVN's northbound
database with its ovn-controllers, and on every host hypervisor, taps, bridge and disks.
"""

import asyncio
import contextlib
import copy
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cloud.access import Access, HostAccess
from tests.cloud.agent import AgentProcess
from tests.cloud.fake_host import FakeHost, HostState
from tests.cloud.manager import ManagerProcess, TimedEtcd
from tests.cloud.program import follow_programs
from tests.cloud.virtual_time import InlineExecutor, VirtualClock, VirtualLoop
from tests.fakes.git import MemoryGit
from tests.fakes.ovn_nb import FakeOvn
from vcstack.controllers.backends.ovn_changes import ChangeHub
from vcstack.store.actor import Actor

RESTART_SECONDS = 1.0
"""How soon the supervisor starts a program again."""
TICK_SECONDS = 0.5
"""How finely etcd's leases are timed."""

Process = ManagerProcess | AgentProcess


@dataclass(frozen=True)
class Snapshot:
    """Everything that outlives programs."""

    etcd: TimedEtcd
    ovn: FakeOvn
    git: MemoryGit
    hosts: dict[str, HostState]
    files: Path
    time: float


class Cloud:
    """The cloud. Use it as an async context manager on a VirtualLoop."""

    def __init__(self, folder: Path, *hosts: str, grace_seconds: int = 60) -> None:
        self.folder = folder
        self.etcd, self.ovn, self.git = TimedEtcd(), FakeOvn(), MemoryGit()
        self.clock = VirtualClock()
        self.hosts = {name: FakeHost(name, self.clock) for name in hosts}
        self.manager: ManagerProcess | None = None
        self.agents: dict[str, AgentProcess] = {}
        self.faults: list[str] = []
        self.kills: list[str] = []
        self.user = Access(lambda: self.manager, Actor("admin", "tests"))
        self.system = Access(lambda: self.manager, Actor("system:tests", "tests"))
        self._grace_seconds = grace_seconds
        self._plugged = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        self._supervisors: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Cloud":
        loop = asyncio.get_running_loop()
        executor = loop._default_executor  # type: ignore[attr-defined]
        assert isinstance(executor, InlineExecutor)
        follow_programs(loop, executor)
        hosts = self.hosts.values()
        world = [self._tick(), self._report_flows(), self._watch_rows()]
        world += [self._watch_ports(host) for host in hosts] + [self._watch_domains(host) for host in hosts]
        self._background = [asyncio.create_task(w) for w in world]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop_supervising()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, *self._supervisors, return_exceptions=True)
        for process in self.processes:
            await process.kill()

    @property
    def processes(self) -> list[Process]:
        return [*([self.manager] if self.manager else []), *self.agents.values()]

    # programs

    def start_manager(self) -> ManagerProcess:
        self.manager = ManagerProcess(self.etcd, self.ovn, self.git)
        self.manager.start()
        self._supervise(self.manager, self.start_manager)
        return self.manager

    def start_agent(self, name: str) -> AgentProcess:
        access = HostAccess(lambda: self.manager, name)
        agent = AgentProcess(self.hosts[name], access, self.folder / name, grace_seconds=self._grace_seconds)
        self.agents[name] = agent
        agent.start()
        self._supervise(agent, lambda: self.start_agent(name))
        return agent

    def start(self) -> None:
        """Start everything."""
        self.start_manager()
        for name in self.hosts:
            self.start_agent(name)

    def _supervise(self, process: Process, again: Callable[[], Process]) -> None:
        """See a killed program's end, and start it again."""

        async def wait() -> None:
            await process.program.crasher.dead.wait()
            self.kills.append(process.program.name)
            await process.kill()
            await asyncio.sleep(RESTART_SECONDS)
            again()

        self._supervisors.append(asyncio.create_task(wait()))

    def stop_supervising(self) -> None:
        """Start killed programs no more."""
        for supervisor in self._supervisors:
            supervisor.cancel()

    # snapshots

    def snapshot(self, files: Path) -> Snapshot:
        """Return a copy of the world; programs should be quiet."""
        shutil.rmtree(files, ignore_errors=True)
        shutil.copytree(self.folder, files)
        states = {name: host.save() for name, host in self.hosts.items()}
        now = asyncio.get_running_loop().time()
        return Snapshot(self.etcd.copy(), _copy_ovn(self.ovn), self.git.copy(), states, files, now)

    def restore(self, snapshot: Snapshot) -> None:
        """Make the world so, before any program was started."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.jump_to(snapshot.time)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(snapshot.files, self.folder)
        self.etcd, self.ovn, self.git = snapshot.etcd.copy(), _copy_ovn(snapshot.ovn), snapshot.git.copy()
        for name, state in snapshot.hosts.items():
            self.hosts[name].load(state)

    # the world's own doings

    async def _tick(self) -> None:
        """Let etcd's time pass."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.etcd.advance(TICK_SECONDS)

    async def _watch_rows(self) -> None:
        async for _ in self.ovn.state.hub.subscribe(["Port"]):
            self._plugged.set()

    async def _watch_ports(self, host: FakeHost) -> None:
        async for _ in host.switch.events():
            self._plugged.set()

    async def _watch_domains(self, host: FakeHost) -> None:
        """Note when a domain is on two hosts, be it for a moment."""
        async for name in host.hypervisor.events():
            homes = [h.name for h in self.hosts.values() if name in h.definitions]
            if len(homes) > 1:
                self.faults.append(f"domain {name} is on {homes}")

    async def _report_flows(self) -> None:
        """Be every host's ovn-controller: a logical port is up while its interface is on a bridge."""
        while True:
            await self._plugged.wait()
            self._plugged.clear()
            plugged = {p.port_uid for host in self.hosts.values() for p in host.switch.ports.values()}
            for uid in list(self.ovn.state.rows["Port"]):
                if (uid in plugged) != (uid in self.ovn.state.up):
                    self.ovn.set_up(uid, uid in plugged)


@contextlib.asynccontextmanager
async def run_cloud(folder: Path, *hosts: str, snapshot: Snapshot | None = None) -> AsyncIterator[Cloud]:
    """Run a cloud, new or from a snapshot."""
    cloud = Cloud(folder, *(snapshot.hosts if snapshot else hosts))
    if snapshot is not None:
        cloud.restore(snapshot)
    async with cloud:
        cloud.start()
        yield cloud


def _copy_ovn(ovn: FakeOvn) -> FakeOvn:
    copied = copy.copy(ovn.state)
    copied.rows = {kind: dict(rows) for kind, rows in ovn.state.rows.items()}
    copied.up, copied.fences, copied.calls = set(ovn.state.up), dict(ovn.state.fences), []
    copied.hub = ChangeHub()
    return FakeOvn(copied)
