"""The internal authority: rotated in steps, each taken only when it was seen that nobody would be cut off by it.

1. A successor is made; services, hosts and databases get both to trust.
2. When all trust it, which their reports and real handshakes show, the successor signs; certificates are renewed.
3. When all show certificates of the successor, the predecessor is trusted no more.
4. When nobody takes the predecessor's certificates any more, its key is forgotten.

What was done is in the authorities' record, so a manager that is killed anywhere goes on where the last one stopped.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from vcstack.pki.authority import CertificateAuthority as Authority
from vcstack.pki.authority import Issued, is_issued_by
from vcstack.pki.installation import ETCD_CLIENT
from vcstack.pki.probe import Endpoint, Seen
from vcstack.pki.rotation import Authorities, Report, Version
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.errors import AlreadyExists
from vcstack.specs.kinds.certificateauthority import (
    DISTRIBUTED,
    EXPIRING,
    INTERNAL,
    REISSUED,
    RETIRED,
    AuthorityState,
    AuthorityVersion,
    CertificateAuthority,
    CertificateAuthoritySpec,
)
from vcstack.specs.kinds.host import ALIVE, Host
from vcstack.specs.meta import Condition, format_time
from vcstack.specs.resource import Ref

STEP_SECONDS = 1.0
"""How soon is looked again while a rotation is under way."""
MISSING_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 300.0
EXPIRING_BEFORE = timedelta(days=180)
PROBE_HOURS = 1
PROBE_NAME = "system:probe"


class AuthorityRecords(Protocol):
    """Where authorities are kept."""

    async def find(self, id_: str) -> Authorities | None:
        """Return the authorities, None when there are none yet."""

    async def change(self, id_: str, before: Authorities, after: Authorities) -> Authorities:
        """Put one in the other's place if that is still there; return what is there then."""


class Witnesses(Protocol):
    """Who can tell what is trusted and shown."""

    async def reports(self) -> Sequence[Report]:
        """Return what the manager's processes say of their machines."""

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the servers that ask for client certificates."""

    async def probe(self, endpoint: Endpoint, credential: Issued) -> Seen:
        """Return what the server does with that certificate. Raises OSError."""


AUTHORITIES: BackendKey[AuthorityRecords] = BackendKey("authorities")
WITNESSES: BackendKey[Witnesses] = BackendKey("witnesses")


class CertificateAuthorityReconciler:
    """Takes one step of a rotation at a time, and tells of it."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._records = context.backend(AUTHORITIES)
        self._witnesses = context.backend(WITNESSES)
        self._hosts = context.informer(Host)

    async def source(self) -> AsyncIterator[Ref]:
        """Yield the one authority, so that it is looked at even before it is there."""
        yield Ref(CertificateAuthority.KIND, None, INTERNAL)
        await asyncio.Event().wait()

    async def reconcile(self, authority: CertificateAuthority | None, ref: Ref) -> Result | None:
        """Make it so, one step."""
        if ref.name != INTERNAL:
            return None
        record = await self._records.find(INTERNAL)
        if record is None:
            return Result(requeue_after=MISSING_SECONDS)  # the first manager is just about to write it
        if authority is None:
            await self._create(record)
            return None
        if authority.deleting:
            return None  # it comes back at once
        waiting = await self._find_waiting(authority, record)
        after = record if waiting else self._next(authority, record)
        if after != record:
            after = await self._records.change(INTERNAL, record, after)
            self._context.events.normal(authority, "RotationStep", _describe(after))
            waiting = ["what is done now has to be seen first"] if not after.at_rest else []
        await self._report(authority, after, waiting)
        wanted = authority.spec.version > after.newest.number
        return Result(requeue_after=LOOK_AGAIN_SECONDS if after.at_rest and not wanted else STEP_SECONDS)

    def _next(self, authority: CertificateAuthority, record: Authorities) -> Authorities:
        """Return the record after the next step; the same when nothing is to be done."""
        if record.retired is not None:
            return record.forget()
        if len(record.versions) > 1:
            return record.retire() if record.issuing == record.newest.number else record.switch()
        if authority.spec.version > record.newest.number:
            return record.begin(Authority.create(f"VC Stack CA {record.newest.number + 1}"))
        return record

    async def _find_waiting(self, authority: CertificateAuthority, record: Authorities) -> list[str]:
        """Return who would be cut off by the next step, each with the reason."""
        newest = record.newest
        if record.retired is not None:
            return await self._who_still_trusts(record.retired)
        if len(record.versions) == 1:
            return []
        if record.issuing == newest.number:
            return await self._who_shows_another_than(newest)
        waiting = await self._who_does_not_trust(newest)
        overlap = timedelta(seconds=authority.spec.overlap_seconds)
        if not waiting and overlap and newest.created_at + overlap > self._context.clock.now():
            waiting = [f"the overlap, which ends at {format_time(newest.created_at + overlap)}"]
        return waiting

    async def _who_does_not_trust(self, version: Version) -> list[str]:
        mark, reports = version.fingerprint, await self._witnesses.reports()
        found = _managers(reports, [r.name for r in reports if mark not in r.trusted])
        found += [f"host {h.metadata.name}{_state_of(h)}" for h in self._holding_hosts() if mark not in _trusted_by(h)]
        return found + await self._ask_endpoints(version, lambda seen: seen.accepted, "does not trust it yet")

    async def _who_shows_another_than(self, version: Version) -> list[str]:
        mark, reports = version.fingerprint, await self._witnesses.reports()
        found = _managers(reports, [r.name for r in reports if r.issuers - {mark}])
        shown = [h for h in self._holding_hosts() if h.status.certificate_authority != mark]
        found += [f"host {h.metadata.name}{_state_of(h)}" for h in shown]

        def is_new(seen: Seen) -> bool:
            return seen.certificate is not None and is_issued_by(seen.certificate, version.x509)

        return found + await self._ask_endpoints(version, is_new, "shows a certificate of the former")

    async def _who_still_trusts(self, version: Version) -> list[str]:
        mark, reports = version.fingerprint, await self._witnesses.reports()
        found = _managers(reports, [r.name for r in reports if mark in r.trusted])
        found += [f"host {h.metadata.name}{_state_of(h)}" for h in self._holding_hosts() if mark in _trusted_by(h)]
        return found + await self._ask_endpoints(version, lambda seen: not seen.accepted, "still trusts the former")

    async def _ask_endpoints(self, version: Version, good: Callable[[Seen], bool], fault: str) -> list[str]:
        """Return the servers that do not do well with a certificate of that version."""
        found = []
        # With a name less etcd would refuse it for that, whatever it trusts.
        credential = version.authority.issue_client(PROBE_NAME, hours=PROBE_HOURS, sans=(ETCD_CLIENT,))
        for endpoint in self._witnesses.endpoints():
            try:
                if not good(await self._witnesses.probe(endpoint, credential)):
                    found.append(f"{endpoint.name} ({fault})")
            except OSError as error:
                found.append(f"{endpoint.name} (does not answer: {error})")
        return found

    def _holding_hosts(self) -> list[Host]:
        """Return the hosts that have a certificate which is good for something: not those out of service."""
        now = self._context.clock.now()
        return [h for h in self._hosts.list() if not h.spec.out_of_service and _holds_a_certificate(h, now)]

    async def _create(self, record: Authorities) -> None:
        spec = CertificateAuthoritySpec(version=record.newest.number)
        try:
            await self._context.client.create(CertificateAuthority.new(INTERNAL, spec))
        except AlreadyExists:
            return  # the informer will tell of it

    async def _report(self, authority: CertificateAuthority, record: Authorities, waiting: list[str]) -> None:
        signing = next(v for v in record.versions if v.number == record.issuing)
        fields = {
            "version": record.issuing,
            "versions": _describe_versions(record),
            "expiresAt": format_time(signing.x509.not_valid_after_utc),
            "bundle": record.current.bundle.decode(),
            "waitingFor": waiting or None,
        }
        reports = await self._witnesses.reports()
        late = [f"manager {r.name}: {', '.join(sorted(r.late))}" for r in reports if r.late]
        conditions = self._conditions(authority, record, waiting, late)
        await write_status(self._context.client, authority, fields=fields, conditions=conditions)

    def _conditions(
        self, authority: CertificateAuthority, record: Authorities, waiting: list[str], late: list[str]
    ) -> list[Condition]:
        newest, issuing = record.newest.number, record.issuing
        message = f"Version {newest} waits for {'; '.join(waiting)}." if waiting else ""
        done = [len(record.versions) == 1 or issuing == newest, len(record.versions) == 1, record.at_rest]
        if authority.spec.version > newest:
            done = [False, False, False]

        def step(type_: str, index: int, reason: str) -> Condition:
            if done[index]:
                return condition_of(authority, type_, True, reason, clock=self._context.clock)
            present = all(done[:index])
            why = "Waiting" if present else "LaterStep"
            return condition_of(authority, type_, False, why, message if present else "", clock=self._context.clock)

        return [
            step(DISTRIBUTED, 0, "TrustedEverywhere"),
            step(REISSUED, 1, "NewestInUse"),
            step(RETIRED, 2, "NewestAlone"),
            self._expiring(authority, record, late),
        ]

    def _expiring(self, authority: CertificateAuthority, record: Authorities, late: list[str]) -> Condition:
        ends = next(v for v in record.versions if v.number == record.issuing).x509.not_valid_after_utc
        clock = self._context.clock
        if ends - clock.now() < EXPIRING_BEFORE:
            message = f"It ends at {format_time(ends)}; begin a rotation: vcctl ca rotate."
            return condition_of(authority, EXPIRING, True, "EndsSoon", message, clock=clock)
        if late:
            message = f"Not renewed: {'; '.join(late)}. The log of that process says why."
            return condition_of(authority, EXPIRING, True, "ServiceCertificateLate", message, clock=clock)
        return condition_of(authority, EXPIRING, False, "LongToGo", clock=clock)


def _managers(reports: Sequence[Report], faulty: list[str]) -> list[str]:
    return [f"manager {name}" for name in faulty] if reports else ["the first report of a manager"]


def _holds_a_certificate(host: Host, now: datetime) -> bool:
    """Whether the host has one that has not run out; one that never reported but is alive has just joined."""
    expires = host.status.certificate_expires_at
    return host.is_true(ALIVE) if expires is None else expires > now


def _trusted_by(host: Host) -> Sequence[str]:
    return host.status.trusted_authorities or ()


def _state_of(host: Host) -> str:
    expires = host.status.certificate_expires_at
    if host.is_true(ALIVE) or expires is None:
        return ""
    return f" (not alive; its certificate runs out at {format_time(expires)})"


def _describe(record: Authorities) -> str:
    newest = record.newest.number
    if record.retired is not None:
        return f"version {record.retired.number} is trusted no more"
    if len(record.versions) == 1:
        return f"version {newest} is alone; the key of the one before is forgotten"
    if record.issuing == newest:
        return f"version {newest} signs"
    return f"version {newest} is made and given to all to trust"


def _describe_versions(record: Authorities) -> list[AuthorityVersion]:
    def describe(version: Version, state: AuthorityState) -> AuthorityVersion:
        return AuthorityVersion(
            version=version.number,
            state=state,
            fingerprint=version.fingerprint,
            created_at=version.created_at,
            expires_at=version.x509.not_valid_after_utc,
        )

    found = [describe(record.retired, AuthorityState.RETIRING)] if record.retired else []
    for each in record.versions:
        issuing = each.number == record.issuing
        found.append(describe(each, AuthorityState.ISSUING if issuing else AuthorityState.TRUSTED))
    return found


def build(context: ControllerContext) -> Controller:
    """Return the controller of the authority."""
    reconciler = CertificateAuthorityReconciler(context)
    return context.controller(
        reconciler,
        CertificateAuthority,
        watches={Host: lambda host: (Ref(CertificateAuthority.KIND, None, INTERNAL),)},
        matters={Host: _what_matters},
        sources=(reconciler.source,),
    )


def _what_matters(host: Host) -> object:
    """Return what is read of a host, so that its other reports wake nobody."""
    status = host.status
    return (
        status.certificate_expires_at,
        status.certificate_authority,
        status.trusted_authorities,
        host.is_true(ALIVE),
        host.spec.out_of_service,
    )
