"""A host's agent as a process: the controllers of vc-compute on the host's fake outside world."""

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path

from tests.cloud.access import HostAccess
from tests.cloud.fake_host import FakeHost
from tests.cloud.program import Counted, Program
from tests.cloud.virtual_time import BEGINNING, VirtualClock
from tests.fakes.crash import Crasher, Killed, When
from tests.fakes.hypervisor import MemoryLinks
from vcstack.nodeagent.backends.images import ImageCache
from vcstack.nodeagent.controllers import Backends, HostParts, build_host
from vcstack.nodeagent.lastknown import LastKnownClient, keep
from vcstack.nodeagent.layout import Layout
from vcstack.nodeagent.realizers.host import HostReporter
from vcstack.nodeagent.realizers.instance import HostFacts
from vcstack.nodeagent.settings import Settings
from vcstack.runtime.errors import ReconcileError
from vcstack.specs.errors import ApiError
from vcstack.specs.kinds.image import Image

BEAT_SECONDS = 4.0
SWEEP_SECONDS = 60.0
HYPERVISOR_CALLS = frozenset({"find_domain", "list_owned", "define", "undefine", "start", "shut_down", "destroy"}) | {
    *("pause", "resume", "attach_interface", "detach_interface", "get_facts")
}
TAP_CALLS = frozenset({"list_taps", "ensure_tap", "delete_tap"})
SWITCH_CALLS = frozenset({"list_ports", "plug", "unplug", "get_facts"})
DISK_CALLS = frozenset({"make_overlay", "grow"})
API_WRITES = frozenset({"create", "update", "patch_status", "remove_finalizer"})


class AgentProcess:
    """One life of an agent."""

    def __init__(self, host: FakeHost, access: HostAccess, folder: Path, *, grace_seconds: int = 60) -> None:
        self.program = Program(f"vc-compute/{host.name}")
        self._host, self._access = host, access
        crasher = self.program.crasher
        self._api = Counted(access, crasher, API_WRITES)
        self.files = CacheFiles(crasher)
        self._layout = Layout(folder)
        self._layout.create()
        self._clock = VirtualClock()
        self._settings = Settings(
            host_name=host.name,
            api_url="https://127.0.0.1",
            ca_file=folder,
            state_dir=folder,
            shutdown_grace_seconds=grace_seconds,
        )
        self._backends = Backends(
            hypervisor=Counted(host.hypervisor, crasher, HYPERVISOR_CALLS),
            taps=Counted(host.taps, crasher, TAP_CALLS),
            switch=Counted(host.switch, crasher, SWITCH_CALLS),
            disks=Counted(host.disks, crasher, DISK_CALLS),
            images=ImageCache(self._layout.images, crasher.wrap(_Download()).fetch),
            links=MemoryLinks(),
        )

    def start(self) -> None:
        self.program.spawn(self._run())

    async def kill(self) -> None:
        await self.program.end()

    async def _run(self) -> None:
        facts = HostFacts(self._host.name, "qemu", userspace_datapath=True)
        parts = build_host(
            self._settings,
            facts,
            self._backends,
            layout=self._layout,
            api=self._api,
            client=LastKnownClient(self._api, self._layout.cache, self.files.write),
            secrets=self._access,
            clock=self._clock,
        )
        reporter = HostReporter(
            self._host.name,
            self._api,
            self._backends.hypervisor,
            self._backends.switch,
            self._backends.images,
            self._clock,
            state_dir=self._layout.root,
            virt_type=facts.virt_type,
            expires_at=lambda: BEGINNING + timedelta(days=30),
            trust=lambda: ("", ()),
            is_late=lambda: False,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(reporter.run())
            group.create_task(self._sweep(parts))
            group.create_task(parts.manager.run(asyncio.Event()))

    async def _beat(self) -> None:
        while True:
            pause = BEAT_SECONDS
            try:
                await self._access.demand_in_service()
                manager = self._access.running()
                await manager.program.serve(manager.heartbeats.beat(self._host.name))
            except ApiError:
                pause = 1.0
            await asyncio.sleep(pause)

    async def _sweep(self, parts: HostParts) -> None:
        while True:
            with contextlib.suppress(ApiError, ReconcileError):
                await parts.sweep.run_once()
            await asyncio.sleep(SWEEP_SECONDS)


class CacheFiles:
    """Writes the cache of what was last read from the API, and dies in the n-th write if it is told to."""

    def __init__(self, crasher: Crasher) -> None:
        self._crasher = crasher
        self.written = 0
        self.kill_at, self.when = 0, When.BEFORE

    def write(self, path: Path, content: bytes) -> None:
        if self._crasher.dead.is_set():
            raise Killed("dead already, at a file")
        self.written += 1
        hit = self.written == self.kill_at
        if hit and self.when is When.BEFORE:
            # In the middle: the temporary file is there, half of it written.
            path.with_name(f".{path.name}.0123abcd").write_bytes(content[: len(content) // 2])
            self._die(path)
        keep(path, content)
        if hit:
            self._die(path)

    def _die(self, path: Path) -> None:
        self._crasher.calls.append(f"file {path.name}")
        self._crasher.at = len(self._crasher.calls)
        self._crasher.die("a file")


class _Download:
    """The image's content, as the API gives it out: whole or not at all."""

    async def fetch(self, image: Image, path: Path) -> None:
        await asyncio.to_thread(path.write_bytes, b"the image")
