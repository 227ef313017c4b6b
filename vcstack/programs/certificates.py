"""The certificates of a manager's machine, kept as the cloud's authority is: written, renewed, taken over, reported.

Each process does it, whatever its role, and for itself says when it uses what is there. Those who read the files at
each new connection (API, OVN, other replicas) need no more; the connection to etcd is made anew.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import structlog

from vcstack.controllers.certificateauthority import Witnesses
from vcstack.pki.authority import Issued, fingerprint, is_late, load_certificate, subject_alternative_names
from vcstack.pki.files import Credential, Stamps, locked, stamps_of
from vcstack.pki.installation import ETCD_CLIENT, Installation
from vcstack.pki.keys import PkiError
from vcstack.pki.local import Held, LocalAuthority, renew
from vcstack.pki.probe import HTTP, OVSDB, Endpoint, Seen, probe
from vcstack.pki.rotation import Authorities, Report
from vcstack.programs.settings import ManagementSettings
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.certificateauthority import INTERNAL, CertificateAuthority
from vcstack.specs.registry import definition_of
from vcstack.store.authorities import AuthorityRecords, Reports
from vcstack.store.cache import WatchCache
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd.lease import SharedLease
from vcstack.store.keys import row_of

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
"""How often is looked whether the authority or a file changed; that costs no request."""
FAILED_SECONDS = 5.0
RENEW_SECONDS = 60.0
"""How often is looked whether a certificate is due."""


class LocalCertificates:
    """The files of this machine, by its settings."""

    def __init__(self, settings: ManagementSettings) -> None:
        pki, api, etcd, ovn = settings.pki, settings.api, settings.etcd, settings.ovn
        self.authority = LocalAuthority(pki.ca_cert_file, pki.ca_key_file)
        self._hours = pki.service_certificate_hours
        self._folder = pki.ca_cert_file.parent
        named = [(api.cert_file, api.key_file), (ovn.cert_file, ovn.key_file) if ovn else (None, None)]
        found = [Credential(cert, key) for cert, key in named if cert is not None and key is not None]
        paths, clients = Installation.under(settings.state_dir), list[Credential]()
        if etcd.cert_file is not None and etcd.key_file is not None:
            clients.append(Credential(etcd.cert_file, etcd.key_file))
        clients += paths.etcd_clients
        self._credentials = dict.fromkeys((*paths.services, *found, *clients))
        self._names = dict.fromkeys(clients, (ETCD_CLIENT,))
        files = (pki.ca_cert_file, etcd.ca_file, etcd.cert_file)
        self._watched = tuple(path for path in files if path is not None)

    @property
    def stamps(self) -> Stamps:
        """What changes when a file is replaced that is read once only."""
        return stamps_of(self._watched)

    def find_names(self) -> list[str]:
        """Return all names and addresses of servers here; those that cannot be read have none."""
        found: dict[str, None] = {}
        for each in self._credentials:
            with contextlib.suppress(OSError, PkiError):
                found |= dict.fromkeys(subject_alternative_names(load_certificate(each.cert.read_bytes())))
        return list(found)

    def renew(self) -> list[Held]:
        """Renew what is due; return what there is. Raises OSError or PkiError."""
        with locked(self._folder):
            return renew(self._credentials, self.authority.current, hours=self._hours, names=self._names)

    def follow(self, record: Authorities) -> list[Held]:
        """Take the authority over, then renew. Raises OSError or PkiError."""
        if self.authority.replace(record.current):
            logger.info("the certificate authority changed", issuing=record.issuing, trusted=len(record.versions))
        return self.renew()


class CertificateKeeper:
    """Keeps a process's certificates as they ought to be, and reports them."""

    def __init__(
        self,
        local: LocalCertificates,
        etcd: EtcdClient,
        lease: SharedLease,
        cache: WatchCache,
        records: AuthorityRecords,
        name: str,
    ) -> None:
        self._local, self._etcd, self._lease, self._cache = local, etcd, lease, cache
        self._records, self._reports, self._name = records, Reports(etcd), name
        self._stamps = local.stamps
        self._seen: int | None = None
        self._due = 0.0
        self._reported: tuple[Report, int] | None = None
        self.held: list[Held] = []

    async def start(self) -> None:
        """Make the authority of this machine the cloud's, if the cloud has none yet. Raises PkiError, Unavailable."""
        mine = self._local.authority.current
        record = await self._records.ensure(INTERNAL, lambda: Authorities.first(mine))
        self.held = await asyncio.to_thread(self._local.follow, record)

    async def run(self) -> None:
        """Keep them, for ever."""
        while True:
            pause = LOOK_SECONDS
            try:
                await self.look()
            except (EtcdError, Unavailable, OSError, PkiError) as error:
                logger.warning("certificates are not kept, it is tried again", error=str(error))
                self._seen, pause = None, FAILED_SECONDS
            except Exception:
                logger.exception("certificates are not kept, it is tried again")
                self._seen, pause = None, FAILED_SECONDS
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Take over what changed, once."""
        entry = self._cache.find(definition_of(CertificateAuthority), row_of(None, INTERNAL))
        revision, now = entry.revision if entry else 0, asyncio.get_running_loop().time()
        if revision != self._seen or now >= self._due:
            record = await self._records.find(INTERNAL)
            if record is not None:
                self.held = await asyncio.to_thread(self._local.follow, record)
            self._seen, self._due = revision, now + RENEW_SECONDS
        stamps = self._local.stamps
        if stamps != self._stamps:
            await self._etcd.renew()
            self._stamps = stamps
            self.held = await asyncio.to_thread(self._local.renew)
        await self._report()

    async def _report(self) -> None:
        trusted = frozenset(fingerprint(each) for each in self._local.authority.current.trusted)
        late = frozenset(h.path.stem for h in self.held if is_late(h.path.read_bytes()))
        report = Report(self._name, trusted, frozenset(h.issuer for h in self.held), late)
        lease = await self._lease.acquire()
        if self._reported != (report, lease.id):
            await self._reports.put(report, lease.id)
            self._reported = (report, lease.id)


class ServerWitnesses(Witnesses):
    """Reports from the store, and handshakes with the servers that the settings name."""

    def __init__(self, settings: ManagementSettings, etcd: EtcdClient) -> None:
        self._reports = Reports(etcd)
        self._endpoints = tuple(find_endpoints(settings))

    async def reports(self) -> Sequence[Report]:
        """Return what the manager's processes say of their machines."""
        return await self._reports.list()

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the servers that ask for client certificates."""
        return self._endpoints

    async def probe(self, endpoint: Endpoint, credential: Issued) -> Seen:
        """Return what the server does with that certificate. Raises OSError."""
        return await probe(endpoint, credential)


def find_endpoints(settings: ManagementSettings) -> list[Endpoint]:
    """Return the servers that trust our authority, by the settings: those that we trust by its certificate.

    A server whose certificate is of another authority is not concerned by a rotation of ours, and would never agree.
    """
    found = []
    if _is_ours(settings.etcd.ca_file, settings):
        found += [_endpoint("etcd", each, HTTP) for each in settings.etcd.endpoints]
    if settings.ovn is not None and _is_ours(settings.ovn.ca_file, settings):
        for name, remotes in (("northbound", settings.ovn.northbound), ("southbound", settings.ovn.southbound)):
            secured = [r.removeprefix("ssl:") for r in remotes.split(",") if r.startswith("ssl:")]
            found += [_endpoint(name, each, OVSDB) for each in secured]
    return found


def _is_ours(ca_file: Path | None, settings: ManagementSettings) -> bool:
    return ca_file is not None and ca_file.absolute() == settings.pki.ca_cert_file.absolute()


def _endpoint(name: str, address: str, question: bytes) -> Endpoint:
    host, _, port = address.rpartition(":")
    return Endpoint(f"{name} {address}", host.strip("[]"), int(port), question)
