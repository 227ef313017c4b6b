"""Host: reports what this host is and whether it works. It reads and writes its own object only."""

import asyncio
import importlib.metadata
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from vcstack.clock import Clock
from vcstack.nodeagent.backends.disks import GIB
from vcstack.nodeagent.backends.hypervisor import Hypervisor
from vcstack.nodeagent.backends.images import Images
from vcstack.nodeagent.backends.switch import Switch
from vcstack.nodeagent.realizers.report import Report
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.errors import BackendError
from vcstack.runtime.status import write_status
from vcstack.specs.errors import ApiError
from vcstack.specs.kinds.host import AGENT_READY, CACHED_IMAGES_LIMIT, CERTIFICATE_EXPIRING, Capacity, Host
from vcstack.specs.meta import format_time

REPORT_SECONDS = 60.0
TROUBLE_SECONDS = 2.0
"""While libvirt or Open vSwitch do not answer."""

log = structlog.get_logger(__name__)


class HostReporter:
    """Observes the host and writes what changed."""

    def __init__(
        self,
        name: str,
        client: ResourceClient,
        hypervisor: Hypervisor,
        switch: Switch,
        images: Images,
        clock: Clock,
        *,
        state_dir: Path,
        virt_type: str,
        expires_at: Callable[[], datetime],
        trust: Callable[[], tuple[str, Sequence[str]]],
        is_late: Callable[[], bool],
    ) -> None:
        self._name, self._client, self._clock = name, client, clock
        self._hypervisor, self._switch, self._images = hypervisor, switch, images
        self._state_dir, self._virt_type, self._expires_at = state_dir, virt_type, expires_at
        self._trust, self._is_late = trust, is_late
        self._woken = asyncio.Event()
        self._reported: int | None = None
        images.subscribe(self._woken.set)

    def wake(self) -> None:
        """Have it report now."""
        self._woken.set()

    def expect(self, generation: int | None) -> None:
        """Have it report now if the object's generation is another one than it reported about last."""
        if generation is not None and self._reported is not None and generation != self._reported:
            self.wake()

    async def run(self) -> None:
        """Report at once, then whenever the image cache changes, when woken, and every minute."""
        while True:
            self._woken.clear()
            try:
                ready = await self.report_once()
            except ApiError as error:
                log.info("host.not_reported", error=str(error))
                ready = False
            try:
                async with asyncio.timeout(REPORT_SECONDS if ready else TROUBLE_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def report_once(self) -> bool:
        """Write what was observed; return whether the host is in order."""
        host = await self._client.get(Host, self._name)
        report = Report(host, self._clock)
        ready = False
        try:
            report.fields |= await self._observe()
            report.set(AGENT_READY, True, "AgentReady")
            ready = True
        except BackendError as error:
            report.fail(AGENT_READY, error)
        late = self._is_late()
        report.set(CERTIFICATE_EXPIRING, late, "NotRenewed" if late else "InTime")
        if host.status.joined_at is None:
            report.fields["joinedAt"] = format_time(self._clock.now())
        await write_status(self._client, host, fields=report.fields, conditions=report.conditions)
        self._reported = host.metadata.generation
        return ready

    async def _observe(self) -> dict[str, Any]:
        hypervisor, switch = await self._hypervisor.get_facts(), await self._switch.get_facts()
        issuer, trusted = self._trust()
        disk_gib = shutil.disk_usage(self._state_dir).total // GIB
        capacity = Capacity(vcpus=hypervisor.vcpus, memory_mib=hypervisor.memory_mib, disk_gib=disk_gib)
        fields: dict[str, Any] = {
            "capacity": capacity,
            "architecture": hypervisor.architecture,
            "virtType": self._virt_type,
            "datapath": switch.datapath,
            "agentVersion": importlib.metadata.version("vcstack"),
            "libvirtVersion": hypervisor.libvirt_version,
            "qemuVersion": hypervisor.qemu_version,
            "certificateExpiresAt": format_time(self._expires_at()),
            "certificateAuthority": issuer,
            "trustedAuthorities": list(trusted),
            "cachedImages": self._images.list_digests()[:CACHED_IMAGES_LIMIT],
        }
        return fields | ({"address": switch.encap_ip} if switch.encap_ip else {})
