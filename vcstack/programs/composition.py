"""vc-management put together: store, API, controllers and mirror in one process, each by its role.

What is missing degrades what needs it and nothing else: without PostgreSQL there is no history, without OVN
networks are not realized; without etcd reads and writes are refused until it is back.
"""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import REGISTRY

from vcstack.apiclient.settings import ConnectionSettings
from vcstack.apiserver.application import Application
from vcstack.apiserver.audit.controllers import RecordedStore
from vcstack.apiserver.audit.settings import AuditSettings, KindLevels
from vcstack.apiserver.audit.trail import Trail
from vcstack.apiserver.auth.assembly import Auth, AuthSettings
from vcstack.apiserver.auth.probing import ProviderProbes
from vcstack.apiserver.auth.tokens import TokenSettings
from vcstack.apiserver.door import DoorSettings
from vcstack.apiserver.images.files import ImageFiles
from vcstack.apiserver.images.importing import ImageImports
from vcstack.apiserver.limits import defaults
from vcstack.apiserver.limits.defaults import StreamSettings
from vcstack.apiserver.limits.settings import LimitSettings, name_worker
from vcstack.apiserver.limits.shared import SharedTable
from vcstack.apiserver.parts import ApiParts, ApiSettings, HistoryReader
from vcstack.apiserver.server import (
    ApiServer,
    build_tls,
    inherited_sockets,
    open_sockets,
    split_address,
)
from vcstack.clock import Clock, SystemClock
from vcstack.controllers.backends.git import GitRepositories
from vcstack.controllers.backends.network_sources import NETWORK
from vcstack.controllers.backends.ovn_connection import OvnSettings
from vcstack.controllers.backends.ovn_nb import OvnNorthbound
from vcstack.controllers.backends.secrets import SECRETS
from vcstack.controllers.certificate import CERTIFICATE_RECORDS, PROJECT_AUTHORITIES, RESERVED_NAMES
from vcstack.controllers.certificateauthority import AUTHORITIES, WITNESSES
from vcstack.controllers.gitsource import GIT, SOURCE_ACCESS
from vcstack.controllers.host import HEARTBEATS
from vcstack.controllers.identityprovider import ASKING
from vcstack.controllers.image import CONTENTS, IMPORTS
from vcstack.controllers.key import KEY_MATERIAL
from vcstack.controllers.notificationtarget import SENDING
from vcstack.controllers.policy import EVALUATING
from vcstack.controllers.quota import QUOTA_USE
from vcstack.controllers.ratelimitpolicy import API_WORKERS
from vcstack.controllers.scheduler import SETTINGS
from vcstack.controllers.subjects import CREDENTIALS
from vcstack.controllers.wiring import find_builds
from vcstack.crypto.envelope import Envelopes
from vcstack.crypto.errors import CryptoError
from vcstack.crypto.keyring import Keyring
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundClient, OutboundSettings
from vcstack.policy.sandbox import Sandbox
from vcstack.programs.certificates import CertificateKeeper, LocalCertificates, ServerWitnesses
from vcstack.programs.expiries import ExpiryCollector
from vcstack.programs.gitsources import ManagedSourceAccess
from vcstack.programs.rereading import SettingsFile
from vcstack.programs.rewrapping import REPORTER, RewrapCollector, RewrapReport
from vcstack.programs.roles import Role
from vcstack.programs.settings import (
    AuditSection,
    LimitsSection,
    ManagementSettings,
    OutboundSection,
    SettingsError,
)
from vcstack.programs.workers import BUCKETS_VARIABLE, WORKER_VARIABLE
from vcstack.runtime.leader import ClientFor
from vcstack.runtime.manager import Manager
from vcstack.runtime.metrics import RuntimeMetrics
from vcstack.specs.errors import Unavailable
from vcstack.store.actor import Actor
from vcstack.store.apiworkers import ApiWorkers
from vcstack.store.authorities import AuthorityRecords, CertificateRecords
from vcstack.store.bound import BoundStore
from vcstack.store.credentials import Credentials
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.election import Election, Fence
from vcstack.store.etcd.lease import SharedLease
from vcstack.store.etcd.settings import EtcdSettings
from vcstack.store.heartbeats import Heartbeats
from vcstack.store.keymaterial import KeyMaterial
from vcstack.store.mirror.audit import AuditArchive
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.history import HistoryReader as MirrorHistory
from vcstack.store.mirror.mirror import Mirror
from vcstack.store.mirror.recordings import RecordingArchive
from vcstack.store.mirror.retention import HistoryRetention
from vcstack.store.quotausage import QuotaUse
from vcstack.store.rewrap import Rewrapper
from vcstack.store.secretvalues import SecretValues
from vcstack.store.store import Store

logger = structlog.get_logger(__name__)

MIRROR_RETRY_SECONDS = 5.0
START_RETRY_SECONDS = 1.0
REREAD_SECONDS = 2.0
"""How often the settings file is looked at for what may change while we run."""


class Management:
    """One process of vc-management."""

    def __init__(
        self,
        settings: ManagementSettings,
        roles: frozenset[Role],
        environment: dict[str, str],
        identity: str,
        config: Path | None = None,
    ) -> None:
        """``config``: the file that the settings are from, looked at again for what may change meanwhile."""
        self._settings = settings
        self._config = config
        self._trail: Trail | None = None
        self._peer_url = ""
        self._roles = roles
        self._environment = environment
        self._identity = identity
        self._clock: Clock = SystemClock()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until stop is set, then stop in order: API, controllers, mirror, store."""
        async with contextlib.AsyncExitStack() as stack:
            envelopes = open_envelopes(self._settings)
            certificates = _renew_certificates(self._settings)
            etcd = await stack.enter_async_context(EtcdClient(build_etcd_settings(self._settings)))
            credentials = Credentials(etcd, envelopes, self._clock)
            store = Store(etcd, self._clock, credentials=credentials)
            if not await _before(stop, store.start()):
                return
            stack.push_async_callback(store.close)
            gc.freeze()  # code, schemas and the loaded store stay: the collector need not look at them again
            lease = await stack.enter_async_context(SharedLease(etcd, self._settings.election_ttl_seconds))
            records = AuthorityRecords(credentials)
            keeper = CertificateKeeper(certificates, etcd, lease, store.cache, records, self._identity)
            if not await _before(stop, _patiently(keeper.start, self._clock)):
                return
            expiries = ExpiryCollector(store.cache, lambda: keeper.held)
            REGISTRY.register(expiries)
            stack.callback(REGISTRY.unregister, expiries)
            async with asyncio.TaskGroup() as group:
                more = self._beside(etcd, store, lease, credentials)
                beside = [group.create_task(w) for w in (keeper.run(), *more)]
                working = [group.create_task(w) for w in await self._work(stack, etcd, store, lease, credentials, stop)]
                logger.info("started", roles=sorted(self._roles), identity=self._identity)
                await asyncio.gather(*working)
                for task in beside:
                    task.cancel()

    def _beside(self, etcd: EtcdClient, store: Store, lease: SharedLease, credentials: Credentials) -> list[Any]:
        """Return what runs for ever, wherever nobody else does it."""
        found: list[Any] = []
        if Role.MIRROR in self._roles:
            found.append(self._mirror(etcd, lease))
        if Role.CONTROLLERS in self._roles:
            found.append(self._rewrap(etcd, store, lease, credentials))
        return found

    async def _work(
        self,
        stack: contextlib.AsyncExitStack,
        etcd: EtcdClient,
        store: Store,
        lease: SharedLease,
        credentials: Credentials,
        stop: asyncio.Event,
    ) -> list[Any]:
        """Return what runs until stop: the API and the controllers."""
        work: list[Any] = [stop.wait()]
        if Role.API in self._roles:
            work.append(await self._api(stack, etcd, store, credentials, stop))
        if Role.CONTROLLERS in self._roles:
            work.append(await self._controllers(stack, etcd, store, lease, credentials, stop))
        return work

    async def _api(
        self,
        stack: contextlib.AsyncExitStack,
        etcd: EtcdClient,
        store: Store,
        credentials: Credentials,
        stop: asyncio.Event,
    ) -> Awaitable[None]:
        settings = self._settings
        auth = await self._open_auth(stack, store, credentials, stop)
        sockets, peer_url = self._open_sockets()
        self._peer_url = peer_url
        parts = ApiParts(
            store=store,
            etcd=etcd,
            clock=self._clock,
            authority=LocalCertificates(settings).authority,
            admin_token=read_admin_token(settings.state_dir),
            auth=auth,
            settings=_api_settings(settings, peer_url, self._environment),
            history=await self._open_history(stack),
            audit=await self._open_trail(stack, store),
            recordings=self._open_recordings(stack),
        )
        peers = ConnectionSettings(api_url=peer_url, ca_file=settings.pki.ca_cert_file, token=parts.admin_token)
        context = build_tls(settings.api.cert_file, settings.api.key_file, settings.pki.ca_cert_file)
        return ApiServer(Application(parts, peers), context, sockets, door=_door_settings(settings)).run(stop)

    async def _open_auth(
        self, stack: contextlib.AsyncExitStack, store: Store, credentials: Credentials, stop: asyncio.Event
    ) -> Auth:
        tokens = TokenSettings(issuer=self._settings.api.url)
        outbound = _outbound_settings(self._settings.outbound)
        auth = Auth(store, credentials, self._clock, AuthSettings(tokens=tokens, outbound=outbound))
        stack.callback(auth.close)
        while not stop.is_set():
            try:
                await auth.start()
                break
            except Unavailable as error:
                logger.warning("the keys that sign tokens cannot be read yet", error=error.message)
                await self._clock.sleep(START_RETRY_SECONDS)
        keeping = asyncio.create_task(auth.run(), name="signing-keys")
        stack.callback(keeping.cancel)
        return auth

    def _open_sockets(self) -> tuple[list[socket.socket], str]:
        """Return the sockets to serve, one of them for other replicas only, and that one's URL."""
        api = self._settings.api
        sockets = inherited_sockets(self._environment)
        sockets += open_sockets(api.listen, share=self._settings.api_workers > 1)
        if not sockets:
            raise SettingsError("api.listen: name an address to listen on, or let systemd pass sockets on")
        host = api.peer_host or (split_address(api.listen[0])[0] if api.listen else sockets[0].getsockname()[0])
        bracketed = f"[{host}]" if ":" in host else host
        peer = open_sockets([f"{bracketed}:0"], share=False)
        return [*sockets, *peer], f"https://{bracketed}:{peer[0].getsockname()[1]}"

    async def _open_trail(self, stack: contextlib.AsyncExitStack, store: Store) -> Trail | None:
        """Return the process's trail, opened once for all that is recorded here."""
        settings = self._settings.audit
        if not settings.enabled or self._trail is not None:
            return self._trail
        archive = None
        if self._settings.postgres is not None:
            engine = open_engine(self._settings.postgres.dsn)
            stack.push_async_callback(engine.dispose)
            archive = AuditArchive(engine, self._settings.postgres.dsn)
        outbound = None
        if settings.webhook_url:
            outbound = OutboundClient(_outbound_settings(self._settings.outbound))
            stack.callback(outbound.close)
        wanted = _audit_settings(settings, self._settings.state_dir)
        trail = Trail(wanted, self._clock, store.cache, archive, outbound)
        self._trail = await stack.enter_async_context(trail)
        if self._config is not None:
            following = asyncio.create_task(self._follow_levels(trail, SettingsFile(self._config)))
            stack.callback(following.cancel)
        return trail

    async def _follow_levels(self, trail: Trail, file: SettingsFile) -> None:
        """Record by what the settings file says now."""
        while True:
            await self._clock.sleep(REREAD_SECONDS)
            changed = await asyncio.to_thread(file.read_changed)
            if changed is not None:
                trail.use(_audit_settings(changed.audit, changed.state_dir))

    async def _open_history(self, stack: contextlib.AsyncExitStack) -> HistoryReader | None:
        if self._settings.postgres is None:
            return None
        engine = open_engine(self._settings.postgres.dsn)
        stack.push_async_callback(engine.dispose)
        return MirrorHistory(engine)

    def _open_recordings(self, stack: contextlib.AsyncExitStack) -> RecordingArchive | None:
        if self._settings.postgres is None:
            return None
        engine = open_engine(self._settings.postgres.dsn)
        stack.push_async_callback(engine.dispose)
        return RecordingArchive(engine, self._settings.postgres.dsn)

    async def _controllers(
        self,
        stack: contextlib.AsyncExitStack,
        etcd: EtcdClient,
        store: Store,
        lease: SharedLease,
        credentials: Credentials,
        stop: asyncio.Event,
    ) -> Awaitable[None]:
        ovn = OvnNorthbound(_ovn_settings(self._settings))
        stack.push_async_callback(ovn.close)
        sandbox = Sandbox()
        stack.push_async_callback(sandbox.close)
        files = ImageFiles(self._settings.image_dir)
        await asyncio.to_thread(files.prepare)
        outbound = OutboundClient(_outbound_settings(self._settings.outbound))
        stack.callback(outbound.close)
        probes = ProviderProbes(store, outbound, self._clock)
        stack.callback(probes.close)
        repositories, source_access = self._open_sources(stack, store, credentials, outbound)
        imports = ImageImports(files, outbound, store.cache.setting_book, self._clock)
        stack.push_async_callback(imports.close)
        manager = Manager(
            find_builds(),
            store.bound(Actor("system:management", "vc-management")),
            clock=self._clock,
            actor="vc-management",
            client_for=_client_for(store, await self._open_trail(stack, store)),
            elections=lambda name: Election(etcd, name, self._identity, lease=lease),
            backends={
                HEARTBEATS.name: Heartbeats(etcd),
                API_WORKERS.name: ApiWorkers(etcd),
                NETWORK.name: ovn,
                EVALUATING.name: sandbox,
                SETTINGS.name: store.cache.setting_book,
                CONTENTS.name: files,
                CREDENTIALS.name: credentials,
                KEY_MATERIAL.name: KeyMaterial(credentials),
                QUOTA_USE.name: QuotaUse(store.cache),
                GIT.name: repositories,
                SOURCE_ACCESS.name: source_access,
                AUTHORITIES.name: AuthorityRecords(credentials),
                WITNESSES.name: ServerWitnesses(self._settings, etcd),
                PROJECT_AUTHORITIES.name: AuthorityRecords(credentials),
                CERTIFICATE_RECORDS.name: CertificateRecords(credentials),
                RESERVED_NAMES.name: LocalCertificates(self._settings).find_names,
                IMPORTS.name: imports,
                SENDING.name: outbound,
                ASKING.name: probes,
                SECRETS.name: SecretValues(store),
            },
            metrics=RuntimeMetrics(REGISTRY),
        )
        return manager.run(stop)

    def _open_sources(
        self, stack: contextlib.AsyncExitStack, store: Store, credentials: Credentials, outbound: OutboundClient
    ) -> tuple[GitRepositories, ManagedSourceAccess]:
        """Return what fetches repositories, and what applies them: by our own API where we serve it."""
        settings = self._settings
        repositories = GitRepositories(settings.state_dir / "git", outbound)
        stack.callback(repositories.close)
        url = self._peer_url or settings.api.url
        ca_file = settings.pki.ca_cert_file
        access = ManagedSourceAccess(
            store, credentials, self._clock, issuer=settings.api.url, api_url=url, ca_file=ca_file
        )
        return repositories, access

    async def _rewrap(self, etcd: EtcdClient, store: Store, lease: SharedLease, credentials: Credentials) -> None:
        """Keep the store under the newest master key while we lead, for ever."""
        election = Election(etcd, "rewrap", self._identity, lease=lease)
        leading: Rewrapper | None = None
        collector = RewrapCollector(lambda: leading.left if leading else None)
        REGISTRY.register(collector)
        try:
            while True:
                try:
                    term = await election.campaign()
                    report = RewrapReport(store.bound(REPORTER), self._clock)
                    leading = Rewrapper(etcd, credentials, self._clock, report.write)
                    await _first_of(leading.run, term.lost.wait)
                except Exception:
                    logger.exception("putting secrets under a new master key failed, it begins again")
                finally:
                    leading = None
                    await election.resign()
                await self._clock.sleep(MIRROR_RETRY_SECONDS)
        finally:
            REGISTRY.unregister(collector)

    async def _mirror(self, etcd: EtcdClient, lease: SharedLease) -> None:
        """Mirror while we lead, for ever; whatever fails there stops nothing else."""
        if self._settings.postgres is None:
            return
        settings = self._settings.postgres
        dsn, days, versions = settings.dsn, settings.history_days, settings.history_versions
        election = Election(etcd, "mirror", self._identity, lease=lease)
        while True:
            engine = open_engine(dsn)
            try:
                term = await election.campaign()
                mirror = Mirror(etcd, engine, dsn, event_days=settings.event_days)
                retention = HistoryRetention(engine, dsn, self._clock, days=days, versions=versions)
                await _first_of(mirror.run, retention.run, term.lost.wait)
            except Exception:
                logger.exception("the mirror failed, it begins again")
            finally:
                await engine.dispose()
                await election.resign()
            await self._clock.sleep(MIRROR_RETRY_SECONDS)


def _client_for(store: Store, trail: Trail | None) -> ClientFor:
    """Return what makes each controller's client."""

    def make(name: str, fence: Fence | None) -> BoundStore:
        actor = Actor(f"system:controller:{name}", name, fence)
        return store.bound(actor) if trail is None else RecordedStore(store, actor, trail)

    return make


def build_etcd_settings(settings: ManagementSettings) -> EtcdSettings:
    """Return the etcd client's settings. Raises SettingsError."""
    etcd = settings.etcd
    try:
        return EtcdSettings(
            endpoints=etcd.endpoints, ca_file=etcd.ca_file, cert_file=etcd.cert_file, key_file=etcd.key_file
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error


def open_envelopes(settings: ManagementSettings) -> Envelopes:
    """Return the encryption under the installation's master keys. Raises SettingsError."""
    try:
        return Envelopes(Keyring(settings.keyring_path))
    except CryptoError as error:
        hint = "" if settings.keyring_path.exists() else "; 'vc-management init' makes one for a new cloud"
        raise SettingsError(f"keyringFile: {error}{hint}") from error


def read_admin_token(state_dir: Path) -> str:
    """Return the administrator's token. Raises SettingsError."""
    path = state_dir / "admin-token"
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"stateDir: {path}: {error.strerror}; run 'vc-management init' first") from error


async def _patiently(step: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do it, however long the store is away."""
    while True:
        try:
            return await step()
        except Unavailable as error:
            logger.warning("the store does not answer yet", error=error.message)
            await clock.sleep(START_RETRY_SECONDS)


def _renew_certificates(settings: ManagementSettings) -> LocalCertificates:
    """Return the machine's certificates, renewed first: those that ran out while it was off are needed to begin."""
    certificates = LocalCertificates(settings)
    try:
        certificates.renew()
        return certificates
    except OSError as error:
        raise SettingsError(f"pki: {error.filename}: {error.strerror}; run 'vc-management init' first") from error


def _outbound_settings(settings: OutboundSection) -> OutboundSettings:
    allowed = [
        AllowedTarget(network=target.network, ports=frozenset(target.ports), plain_http=target.plain_http)
        for target in settings.allowed
    ]
    addresses = AddressPolicy(ports=frozenset(settings.ports), own_networks=settings.own_networks, allowed=allowed)
    return OutboundSettings(addresses=addresses, ca_file=settings.ca_file)


def _api_settings(settings: ManagementSettings, peer_url: str, environment: Mapping[str, str]) -> ApiSettings:
    return ApiSettings(
        image_dir=settings.image_dir,
        host_certificate_hours=settings.host_certificate_hours,
        cors_origins=settings.api.cors_origins,
        access_log=settings.api.access_log,
        console_dir=settings.api.console_dir,
        peer_url=peer_url,
        limits=build_limits(
            settings.limits, environment.get(BUCKETS_VARIABLE, ""), int(environment.get(WORKER_VARIABLE, "0"))
        ),
        trusted_proxies=settings.api.trusted_proxies,
    )


def build_limits(section: LimitsSection, buckets: str = "", process: int = 0) -> LimitSettings:
    """Return seats, queues and streams as the settings have them.

    Args:
        section: the settings.
        buckets: the descriptor of buckets that are shared with other processes; empty for none.
        process: its number among them.
    """
    shared = SharedTable(int(buckets)) if buckets else None
    tenants = replace(
        defaults.LEVELS[defaults.TENANTS], seats=section.tenant_seats, most_of_one=max(1, section.tenant_seats // 3)
    )
    levels = {**defaults.LEVELS, defaults.TENANTS: tenants}
    open_ = StreamSettings(of_one=section.streams_of_one, in_all=section.tenant_streams)
    return LimitSettings(
        worker=name_worker(shared),
        shared=shared,
        process=process,
        levels={name: replace(level, wait_seconds=float(section.queue_seconds)) for name, level in levels.items()},
        streams={**defaults.STREAMS, defaults.TENANTS: open_},
    )


def _door_settings(settings: ManagementSettings) -> DoorSettings:
    limits = settings.limits
    return DoorSettings(
        in_all=limits.connections,
        of_address=limits.connections_of_address,
        per_minute=limits.new_connections_of_address,
        burst=max(60, limits.new_connections_of_address // 3),
        exempt=settings.api.trusted_proxies,
    )


def _audit_settings(settings: AuditSection, state_dir: Path) -> AuditSettings:
    return AuditSettings(
        folder=settings.folder or state_dir / "audit",
        anchor_file=settings.anchor_file or state_dir / "audit-anchors.jsonl",
        webhook_url=settings.webhook_url,
        writes=settings.writes,
        reads=settings.reads,
        kinds={each.kind: KindLevels(each.writes, each.reads) for each in settings.kinds},
        on_failure=settings.on_failure,
        reserve_mib=settings.reserve_mib,
        segment_mib=settings.segment_mib,
        local_days=settings.local_days,
        retention_days=settings.retention_days,
        anchor_seconds=settings.anchor_seconds,
    )


def _ovn_settings(settings: ManagementSettings) -> OvnSettings:
    ovn = settings.ovn
    if ovn is None:
        raise SettingsError("ovn: is needed by the role controllers; name the northbound database")
    return OvnSettings(remote=ovn.northbound, ca_file=ovn.ca_file, cert_file=ovn.cert_file, key_file=ovn.key_file)


async def _before(stop: asyncio.Event, work: Awaitable[None]) -> bool:
    """Wait for the work; False when stop came first and it was given up."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        await _cancel(working, stopping)


async def _first_of(*waits: Callable[[], Awaitable[Any]]) -> None:
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _cancel(*tasks)


async def _cancel(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
