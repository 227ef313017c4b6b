"""The agent of a host: puts the parts together and runs them until it is told to stop. Guests never notice."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.content import ImageContent
from vcstack.apiclient.hosts import HostClient
from vcstack.apiclient.secrets import SecretReader
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiclient.tunnel import HostTunnel
from vcstack.clock import SystemClock
from vcstack.nodeagent.backends.disks import QemuDisks
from vcstack.nodeagent.backends.guestlink import NetnsLinks
from vcstack.nodeagent.backends.images import ImageCache
from vcstack.nodeagent.backends.kvm import choose_virt_type
from vcstack.nodeagent.backends.libvirt import Libvirt
from vcstack.nodeagent.backends.libvirt_connection import LibvirtConnection
from vcstack.nodeagent.backends.libvirt_views import LibvirtViews
from vcstack.nodeagent.backends.ovs import OpenVSwitch
from vcstack.nodeagent.backends.switch import USERSPACE, ChassisSettings
from vcstack.nodeagent.backends.tap import NetlinkTaps
from vcstack.nodeagent.background import keep_running
from vcstack.nodeagent.controllers import Backends, build_host
from vcstack.nodeagent.identity import Identity
from vcstack.nodeagent.lastknown import LastKnownClient
from vcstack.nodeagent.layout import Layout
from vcstack.nodeagent.realizers.host import HostReporter
from vcstack.nodeagent.realizers.imagecache import ImageKeeper
from vcstack.nodeagent.realizers.instance import HostFacts
from vcstack.nodeagent.realizers.sweep import Sweep
from vcstack.nodeagent.serial import trim_log
from vcstack.nodeagent.settings import Settings
from vcstack.nodeagent.shells import Shells
from vcstack.nodeagent.streams import Streams
from vcstack.runtime.errors import BackendError, ReconcileError
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.specs.errors import ApiError
from vcstack.specs.kinds.image import Image

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
SWEEP_SECONDS = 60.0
TRIM_SECONDS = 30.0
PRUNE_SECONDS = 600.0
CERTIFICATE_SECONDS = 60.0
"""How often it is seen whether the certificate is due for renewal."""
BEAT_SECONDS = 5.0
"""The store counts a host as gone after 15 s without: two beats may be lost."""


@dataclass(frozen=True, slots=True)
class _Api:
    """The API by its parts."""

    connection: Connection
    client: ApiClient
    hosts: HostClient
    content: ImageContent
    secrets: SecretReader


class Agent:
    """One host's agent."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = Layout(settings.state_dir.resolve())
        self._clock = SystemClock()
        self._identity = Identity(self._layout.pki, settings.host_name)
        self._authority: str | None = None
        self._authority_changed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Join if need be, then work until stop is set. Raises JoinError."""
        self._layout.create()
        self._identity.ensure_ca(self._settings.ca_file)
        api = self._connect()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(api.connection.aclose)
            work = asyncio.ensure_future(self._work(api, stop, stack))
            stopped = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    # Reconciles under way end by themselves, but nothing waits for what hangs.
                    await asyncio.wait((work,), timeout=3.0)
            finally:
                work.cancel()
                stopped.cancel()
                outcome = (await asyncio.gather(work, stopped, return_exceptions=True))[0]
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    def _connect(self) -> _Api:
        settings = ConnectionSettings(
            api_url=self._settings.api_url,
            ca_file=self._identity.ca,
            cert_file=self._identity.certificate,
            key_file=self._identity.key,
            connect_timeout_seconds=3.0,
            request_timeout_seconds=15.0,
            attempts=2,
            user_agent=f"vc-compute/{self._settings.host_name}",
        )
        connection = Connection(settings)
        return _Api(
            connection,
            ApiClient(connection),
            HostClient(connection),
            ImageContent(connection),
            SecretReader(connection),
        )

    async def _work(self, api: _Api, stop: asyncio.Event, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        await self._identity.join(api.hosts, settings.join_token_file, zone=settings.zone, labels=settings.labels)
        connection = await self._open_hypervisor(stack)
        backends, views = await self._open_backends(connection, api, stack), LibvirtViews(connection)
        facts = await self._find_facts(backends)
        registry = CollectorRegistry()
        host = build_host(
            settings,
            facts,
            backends,
            layout=self._layout,
            api=api.client,
            client=LastKnownClient(api.client, self._layout.cache),
            secrets=api.secrets,
            clock=self._clock,
            metrics=RuntimeMetrics(registry),
        )
        self._serve_metrics(registry)
        reporter = HostReporter(
            settings.host_name,
            api.client,
            backends.hypervisor,
            backends.switch,
            backends.images,
            self._clock,
            state_dir=self._layout.root,
            virt_type=facts.virt_type,
            expires_at=self._identity.expires_at,
            trust=self._identity.trust,
            is_late=self._identity.is_late,
        )
        streams = Streams(host.instances, backends.hypervisor, views, host.shells, self._layout)
        tunnel = HostTunnel(api.connection, settings.host_name, streams.serve)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(keep_running(name, run), name=name)
                for name, run in {
                    "heartbeat": lambda: self._beat(api.hosts, reporter),
                    "host-report": reporter.run,
                    "tunnel": tunnel.run,
                    "certificate": lambda: self._keep_certified(api.hosts, backends, reporter),
                    "logs": self._trim_logs,
                    "sweep": lambda: self._keep_swept(host.sweep),
                    "shells": lambda: self._keep_left(host.shells),
                    "images": lambda: self._keep_pruned(host.image_keeper),
                }.items()
            ]
            await host.manager.run(stop)
            for task in background:
                task.cancel()

    async def _open_hypervisor(self, stack: contextlib.AsyncExitStack) -> LibvirtConnection:
        connection = LibvirtConnection(self._settings.libvirt_uri)
        connection.start()
        stack.push_async_callback(connection.close)
        return connection

    async def _open_backends(
        self, connection: LibvirtConnection, api: _Api, stack: contextlib.AsyncExitStack
    ) -> Backends:
        settings = self._settings
        taps = NetlinkTaps()
        await taps.start()
        stack.push_async_callback(taps.close)
        switch = OpenVSwitch(settings.ovsdb)
        stack.push_async_callback(switch.close)

        async def download(image: Image, path: Path) -> None:
            project = image.metadata.project
            await api.content.download(image.metadata.name, path, digest=image.status.digest or "", project=project)

        return Backends(
            hypervisor=Libvirt(connection, run_dir=settings.libvirt_run_dir),
            taps=taps,
            switch=switch,
            disks=QemuDisks(),
            images=ImageCache(self._layout.images, download),
            links=NetnsLinks(),
        )

    async def _find_facts(self, backends: Backends) -> HostFacts:
        """Return what definitions depend on, as soon as Open vSwitch answers."""
        virt_type = await choose_virt_type(self._layout.probes, self._settings.virt_type)
        while True:
            try:
                await self._configure_chassis(backends)
                datapath = (await backends.switch.get_facts()).datapath
                break
            except BackendError as error:
                log.warning("switch.waiting", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
        log.info("host.ready", virt_type=virt_type, datapath=datapath)
        return HostFacts(self._settings.host_name, virt_type, datapath == USERSPACE)

    async def _configure_chassis(self, backends: Backends) -> None:
        ovn = self._settings.ovn
        if ovn is None:
            return
        pair = self._identity.ensure_chassis_pair()
        await backends.switch.configure_chassis(
            ChassisSettings(
                system_id=self._identity.name,
                remote=ovn.remote,
                encap_ip=ovn.encap_ip,
                private_key=str(pair.key),
                certificate=str(pair.certificate),
                ca_certificate=str(self._identity.ca),
            )
        )

    def _serve_metrics(self, registry: CollectorRegistry) -> None:
        if self._settings.metrics_listen:
            address, _, port = self._settings.metrics_listen.rpartition(":")
            start_http_server(int(port), address, registry)

    async def _keep_certified(self, client: HostClient, backends: Backends, reporter: HostReporter) -> None:
        """Renew the certificate in time, and have ovn-controller use it; also when somebody changed its settings."""
        while True:
            self._authority_changed.clear()
            try:
                renewed = await self._identity.renew_if_due(client, self._authority)
                await self._configure_chassis(backends)
                if renewed:
                    reporter.wake()
            except (ApiError, BackendError) as error:
                log.warning("certificate.renewal_failed", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CERTIFICATE_SECONDS):
                    await self._authority_changed.wait()

    async def _beat(self, client: HostClient, reporter: HostReporter) -> None:
        alive = True
        while True:
            try:
                beat = await client.beat(self._settings.host_name)
                self._authority = beat.authority
                reporter.expect(beat.generation)
                if self._authority not in (None, self._identity.trust().mark):
                    self._authority_changed.set()
                if not alive:
                    log.info("heartbeat.back")
                alive = True
            except ApiError as error:
                if alive:
                    log.warning("heartbeat.failed", error=str(error))
                alive = False
            await asyncio.sleep(BEAT_SECONDS if alive else 1.0)

    async def _trim_logs(self) -> None:
        while True:
            for folder in await asyncio.to_thread(lambda: list(self._layout.instances.iterdir())):
                if await asyncio.to_thread(trim_log, self._layout.of_instance(folder.name).serial_log):
                    log.info("serial_log.trimmed", uid=folder.name)
            await asyncio.sleep(TRIM_SECONDS)

    async def _keep_pruned(self, keeper: ImageKeeper) -> None:
        while True:
            try:
                await keeper.run_once()
            except (ApiError, ReconcileError) as error:
                log.info("image_cache.put_off", error=str(error))
            await asyncio.sleep(PRUNE_SECONDS)

    async def _keep_swept(self, sweep: Sweep) -> None:
        while True:
            try:
                for uid in await sweep.run_once():
                    log.warning("orphan.removed", uid=uid)
            except (ApiError, ReconcileError) as error:
                log.info("sweep.put_off", error=str(error))
            await asyncio.sleep(SWEEP_SECONDS)

    async def _keep_left(self, shells: Shells) -> None:
        """Take away what an agent that was killed had plugged in for shells, at the start and now and then."""
        while True:
            try:
                for device in await shells.sweep():
                    log.info("shell.swept", device=device)
            except ReconcileError as error:
                log.info("shell.sweep_put_off", error=str(error))
            await asyncio.sleep(SWEEP_SECONDS)
