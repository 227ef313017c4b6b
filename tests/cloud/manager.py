"""The manager as a process: a store on etcd, elections, all controllers. Put together as vc-management does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.cloud.program import Counted, Program
from tests.cloud.virtual_time import VirtualClock
from tests.fakes.git import MemoryGit
from tests.fakes.master_keys import MasterKeys, credentials_on
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fakes.ovn_nb import FakeOvn
from vcstack.apiclient.wire import Wire, WirePage
from vcstack.apiserver.auth.probing import ProviderProbes
from vcstack.apiserver.images.files import ImageFiles
from vcstack.apiserver.images.importing import ImageImports
from vcstack.controllers.backends.network import Fence
from vcstack.controllers.backends.network_sources import NETWORK
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
from vcstack.controllers.wiring import find_builds
from vcstack.outbound.client import OutboundClient
from vcstack.policy.sandbox import Sandbox
from vcstack.runtime.context import Build
from vcstack.runtime.manager import Manager
from vcstack.specs.access import Propagation
from vcstack.specs.errors import NotFound, Unavailable
from vcstack.specs.kinds.gitsource import GitSource
from vcstack.specs.kinds.serviceaccount import ServiceAccount
from vcstack.specs.registry import KindDefinition, get_kind
from vcstack.store.actor import Actor
from vcstack.store.apiworkers import ApiWorkers
from vcstack.store.authorities import AuthorityRecords, CertificateRecords
from vcstack.store.etcd.election import Election
from vcstack.store.etcd.lease import SharedLease
from vcstack.store.etcd.settings import EtcdSettings
from vcstack.store.heartbeats import Heartbeats
from vcstack.store.keymaterial import KeyMaterial
from vcstack.store.quotausage import QuotaUse
from vcstack.store.secretvalues import SecretValues
from vcstack.store.shellkeys import ShellKeyRecords
from vcstack.store.store import Store

ETCD_WRITES = frozenset({"txn", "txn_each", "put", "delete", "lease_grant", "lease_revoke"})
"""What changes etcd. A kill before or after a mere read leaves the same world as one at the next write."""
MASTER_KEYS = MasterKeys()
"""Those of every manager, as from one file."""
OVN_CALLS = frozenset(
    f"{verb}_{noun}" for verb in ("ensure", "delete", "observe") for noun in ("switch", "dhcp_options", "port")
) | {"ensure_port_group", "delete_port_group", "observe_port_group", "list_owned"}


GIT_CALLS = frozenset({"fetch", "read"})


class OwnApi:
    """The manager's own API, as it is for Git sources; rights are tested where there is an API server."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read_secret(self, project: str, name: str) -> Mapping[str, str]:
        raise NotFound("no source here names a secret")

    @contextlib.asynccontextmanager
    async def connect(self, source: GitSource, account: ServiceAccount) -> AsyncIterator["OwnApiClient"]:
        meta = account.metadata
        yield OwnApiClient(self._store, Actor(f"serviceaccount:{meta.project}/{meta.name}", source.manager))


class OwnApiClient:
    """Those requests of a ``WireClient`` that applying and pruning make."""

    def __init__(self, store: Store, actor: Actor) -> None:
        self._store, self._actor = store, actor

    async def check_quotas(self, wires: Sequence[Wire]) -> None:
        found = [(get_kind(wire["kind"]), wire) for wire in wires]
        await self._store.check_quotas(found, actor=self._actor)

    async def get_wire(self, definition: KindDefinition, name: str, project: str | None = None) -> Wire:
        return (await self._store.get(definition, project, name)).wire

    async def list_wire(self, definition: KindDefinition, *, labels: str) -> WirePage:
        page = await self._store.list(definition, label_selector=labels)
        return WirePage([orjson.loads(item) for item in page.items], str(page.revision))

    async def apply_wire(
        self,
        definition: KindDefinition,
        wire: Wire,
        *,
        manager: str,
        force: bool,
        dry_run: bool,
        missing_references: str | None,
    ) -> Wire:
        meta = wire["metadata"]
        stored = await self._store.apply(
            definition, meta.get("project"), meta["name"], wire, actor=self._actor, manager=manager, force=force
        )
        return stored.wire

    async def delete_wire(
        self,
        definition: KindDefinition,
        name: str,
        *,
        project: str | None,
        uid: str | None,
        propagation: Propagation,
        dry_run: bool,
    ) -> None:
        await self._store.delete(definition, project, name, actor=self._actor, uid=uid, propagation=propagation)


class TimedEtcd(MemoryEtcd):
    """The etcd in memory with what elections ask for besides."""

    settings = EtcdSettings()

    def copy(self) -> "TimedEtcd":
        """Return another etcd with the same content and history."""
        other = TimedEtcd()
        for name in ("revision", "compacted", "writes", "_lease_id", "_now"):
            setattr(other, name, getattr(self, name))
        other._live, other._keys, other._log = dict(self._live), list(self._keys), list(self._log)
        other._leases = dict(self._leases)
        other._lease_keys = {lease: set(keys) for lease, keys in self._lease_keys.items()}
        return other


class CountedOvn(Counted):
    """OVN's northbound database, each call counted."""

    def __init__(self, ovn: FakeOvn, program: Program) -> None:
        super().__init__(ovn, program.crasher, OVN_CALLS)
        self._ovn, self._program = ovn, program

    def fenced(self, fence: Fence | None) -> "CountedOvn":
        return CountedOvn(self._ovn.fenced(fence), self._program)


@dataclass(frozen=True)
class Content:
    """What is known of an uploaded image."""

    digest: str = "sha256:" + "ab" * 32
    size_bytes: int = 9
    virtual_size_bytes: int = 1 << 20
    refusal: str = ""


class Contents:
    """An image directory that has the content of every image."""

    def find_record(self, uid: str) -> Content:
        return Content()

    def has_content(self, uid: str) -> bool:
        return True

    def get_received_bytes(self, uid: str) -> int:
        return 0

    def delete(self, uid: str) -> None:
        pass


class NoWitnesses:
    """Asked by nobody: there is no authority here."""

    async def reports(self) -> list[Any]:
        return []

    def endpoints(self) -> list[Any]:
        return []


class ManagerProcess:
    """One life of the manager."""

    def __init__(
        self, etcd: TimedEtcd, ovn: FakeOvn, git: MemoryGit, builds: Mapping[str, Build] | None = None
    ) -> None:
        self.program = Program("vc-management")
        self._git = Counted(git, self.program.crasher, GIT_CALLS)
        self._etcd: Any = Counted(etcd, self.program.crasher, ETCD_WRITES)
        self._ovn = CountedOvn(ovn, self.program)
        self._builds = builds or find_builds()
        self._store: Store | None = None
        self._shell_keys: ShellKeyRecords | None = None
        self.heartbeats = Heartbeats(self._etcd)
        self.ready = asyncio.Event()
        self.leading: set[str] = set()

    def start(self) -> None:
        self.program.spawn(self._run())

    def ready_store(self) -> Store:
        """Return the store. Raises Unavailable until it is loaded."""
        if self._store is None:
            raise Unavailable("vc-management is starting")
        return self._store

    def shell_keys(self) -> ShellKeyRecords:
        """Return the keys of projects' shells. Raises Unavailable until the store is loaded."""
        if self._shell_keys is None:
            raise Unavailable("vc-management is starting")
        return self._shell_keys

    @property
    def leads_all(self) -> bool:
        return self.leading == set(self._builds)

    async def kill(self) -> None:
        await self.program.end()
        if self._store is not None:
            await self._store.close()  # as the kernel closes a dead process's connections

    async def _run(self) -> None:
        clock = VirtualClock()
        credentials = credentials_on(self._etcd, MASTER_KEYS, clock)
        store = Store(self._etcd, clock, credentials=credentials)
        await store.start()
        self._store = store
        self._shell_keys = ShellKeyRecords(self._etcd, credentials, store.cache)
        lease = SharedLease(self._etcd)
        outbound = OutboundClient()  # asked for nothing: no targets, no providers, no images with sources
        probes = ProviderProbes(store, outbound, clock)
        manager = Manager(
            self._builds,
            store.bound(Actor("system:manager", "vc-management")),
            clock=clock,
            actor="vc-management",
            client_for=lambda name, fence: store.bound(Actor(f"system:controller:{name}", name, fence)),
            elections=lambda name: Election(self._etcd, name, "manager", lease=lease),
            backends={
                NETWORK.name: self._ovn,
                HEARTBEATS.name: self.heartbeats,
                API_WORKERS.name: ApiWorkers(self._etcd),
                CONTENTS.name: Contents(),
                IMPORTS.name: ImageImports(ImageFiles(Path()), outbound, store.cache.setting_book, clock),
                SENDING.name: outbound,
                ASKING.name: probes,
                SECRETS.name: SecretValues(store),
                KEY_MATERIAL.name: KeyMaterial(credentials),
                QUOTA_USE.name: QuotaUse(store.cache),
                SETTINGS.name: store.cache.setting_book,
                AUTHORITIES.name: AuthorityRecords(credentials),
                WITNESSES.name: NoWitnesses(),
                PROJECT_AUTHORITIES.name: AuthorityRecords(credentials),
                CERTIFICATE_RECORDS.name: CertificateRecords(credentials),
                RESERVED_NAMES.name: lambda: ("127.0.0.1",),
                EVALUATING.name: Sandbox(),
                GIT.name: self._git,
                SOURCE_ACCESS.name: OwnApi(store),
            },
        )
        self.leading = manager.leading
        self.ready.set()
        await manager.run(asyncio.Event())
