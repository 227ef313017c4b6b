"""Certificates: issued by the project's own authority, put into a Secret, renewed in time, revoked with the object.

A project's authority is trusted by those alone who take it from a Secret of the project: neither the cloud's services
nor other projects do, so no name in a certificate of it can stand for a host, for the API, or for another tenant. The
record of what was issued comes first and the Secret is a copy of it, so a kill between the two leaves no odd pair.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from vcstack.pki.authority import CertificateAuthority as Authority
from vcstack.pki.authority import fingerprint, is_issued_by
from vcstack.pki.issuing import Wish, find_reserved, issue
from vcstack.pki.records import MOST_ISSUED, MOST_REVOKED, Issuance, ListFull, Revocations
from vcstack.pki.rotation import Authorities
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.errors import ReconcileError, TerminalError, WaitingFor
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.errors import AlreadyExists, QuotaExceeded
from vcstack.specs.kinds.certificate import EXPIRING, FINALIZER, ISSUED, Certificate
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.secret import Secret, SecretSpec, SecretType
from vcstack.specs.meta import Condition, format_time
from vcstack.specs.resource import Ref

LOOK_AGAIN_SECONDS = 86_400.0
"""Lists of revoked certificates are kept fresh."""
CROWDED_SECONDS = 3600.0
"""Where there is no room it is looked again: there is some as certificates end."""
SUCCESSOR_BEFORE = timedelta(days=2 * 366)
"""A project's authority gets a successor that long before its end: twice as long as any certificate lives."""


class ProjectAuthorities(Protocol):
    """Where the authorities of projects are kept."""

    async def ensure(self, id_: str, make: Callable[[], Authorities]) -> Authorities:
        """Return the authorities, made if there are none."""

    async def change(self, id_: str, before: Authorities, after: Authorities) -> Authorities:
        """Put one in the other's place if that is still there; return what is there then."""


class Records(Protocol):
    """Where it is kept what was issued and revoked."""

    async def find(self, uid: str) -> Issuance | None:
        """Return what was issued last."""

    async def replace(self, uid: str, before: Issuance | None, after: Issuance) -> Issuance:
        """Put one in the other's place if that is still there; return what is there then."""

    async def destroy(self, uid: str) -> None:
        """Remove it with the key."""

    async def revoke(self, id_: str, change: Callable[[Revocations], Revocations]) -> Revocations:
        """Change what is revoked of an authority's certificates; return what is there then."""

    async def forget(self, id_: str) -> None:
        """Remove what is kept of an authority and what it revoked."""


PROJECT_AUTHORITIES: BackendKey[ProjectAuthorities] = BackendKey("project-authorities")
CERTIFICATE_RECORDS: BackendKey[Records] = BackendKey("certificate-records")
RESERVED_NAMES: BackendKey[Callable[[], Sequence[str]]] = BackendKey("reserved-names")
"""The names and addresses of the cloud's own servers."""


class CertificateReconciler:
    """Issues, renews and revokes."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._authorities = context.backend(PROJECT_AUTHORITIES)
        self._records = context.backend(CERTIFICATE_RECORDS)
        self._reserved = context.backend(RESERVED_NAMES)
        self._projects = context.informer(Project)
        self._secrets = context.informer(Secret)
        self._certificates = context.informer(Certificate)

    async def reconcile(self, certificate: Certificate | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if certificate is None:
            return None
        project = self._projects.get(Ref(Project.KIND, None, ref.project or ""))
        if project is None:
            raise WaitingFor("ProjectNotSeen", "its project has not been seen yet", 1.0)
        now = self._context.clock.now()
        try:
            if certificate.deleting:
                await self._finish(certificate, project, now)
                return None
            issued, authority = await self._ensure(certificate, project, now)
        except (ReconcileError, QuotaExceeded) as error:
            await self._show_failure(certificate, error, now)
            raise
        await self._report(certificate, issued, authority, now)
        left = (_renewal_of(certificate, issued) - now).total_seconds()
        return Result(requeue_after=max(1.0, min(left, LOOK_AGAIN_SECONDS)))

    async def _ensure(self, certificate: Certificate, project: Project, now: datetime) -> tuple[Issuance, Authority]:
        spec = certificate.spec
        names = [*spec.dns_names, *spec.ip_addresses, spec.subject]
        if (taken := find_reserved(names, self._reserved())) is not None:
            raise TerminalError("NameReserved", f"{taken} is a name of the cloud's own servers; choose another")
        self._check_secret(certificate)
        authority = (await self._ensure_authority(project, now)).current
        record, wish = await self._records.find(certificate.uid), _describe(certificate)
        if record is None or not _is_good(certificate, record, authority, wish, now):
            if record is None or record.wish != wish:
                await self._make_room(certificate, project, record, authority, now)
            record = await self._issue(certificate, record, authority, wish, now)
        revocations = await self._records.revoke(project.uid, lambda before: before.listed(authority, now))
        await self._ensure_secret(certificate, record, authority, revocations)
        return record, authority

    async def _ensure_authority(self, project: Project, now: datetime) -> Authorities:
        """Return the project's authority, made if there is none, with a successor when it ends in a while."""
        excluded = sorted(set(self._reserved()))

        def make(number: int) -> Authority:
            name = f"project {project.metadata.name} {number}"[:64]
            return Authority.create(name, excluded=excluded, now=now)

        found = await self._authorities.ensure(project.uid, lambda: Authorities.first(make(1)))
        if found.newest.x509.not_valid_after_utc - now < SUCCESSOR_BEFORE:
            grown = found.begin(make(found.newest.number + 1)).switch()
            return await self._authorities.change(project.uid, found, grown)
        living = found.living(now)
        return found if living == found else await self._authorities.change(project.uid, found, living)

    async def _issue(
        self, certificate: Certificate, before: Issuance | None, authority: Authority, wish: str, now: datetime
    ) -> Issuance:
        made = await asyncio.to_thread(issue, authority, _wish_of(certificate), now)
        fresh = Issuance(made.cert.decode(), made.key.decode(), wish)
        record = await self._records.replace(certificate.uid, before, fresh)
        if record == fresh:
            ends = format_time(fresh.x509.not_valid_after_utc)
            self._context.events.normal(certificate, "Renewed" if before else "Issued", f"good until {ends}")
        return record

    async def _make_room(
        self, certificate: Certificate, project: Project, record: Issuance | None, authority: Authority, now: datetime
    ) -> None:
        """Revoke a certificate that says something else than is wanted now; one that is merely old ends by itself.

        What is issued has its place on the list of what is revoked from the beginning: however often somebody makes
        and deletes certificates, those that are there can be renewed, and be revoked.

        Raises:
            WaitingFor: there is no room for another one.
        """
        revoked = (await self._records.revoke(project.uid, lambda before: before)).find_revoked(now)
        others = [c for c in self._certificates.list() if c.metadata.project == certificate.metadata.project]
        good = sum(c.uid != certificate.uid and (c.status.expires_at or now) > now for c in others)
        left = int(record is not None and record.serial not in revoked and record.x509.not_valid_after_utc > now)
        if good + left + len(revoked) < MOST_ISSUED:
            if record is not None:
                await self._revoke(project, authority, record, now)
        elif record is None or _renewal_of(certificate, record) > now:
            message = (
                f"the project has {good + left} certificates that are good and {len(revoked)} that are revoked and "
                f"have not ended; {MOST_ISSUED} have room on its list. Another one is issued when some have ended: "
                "give those that are often deleted or changed a shorter durationHours"
            )
            raise WaitingFor("TooManyRevoked", message, CROWDED_SECONDS)
        # Else it has to be renewed anyway, and the former soon ends by itself.

    async def _revoke(self, project: Project, authority: Authority, record: Issuance, now: datetime) -> None:
        ends = record.x509.not_valid_after_utc
        try:
            await self._records.revoke(
                project.uid, lambda before: before.with_revoked(record.serial, now, ends).listed(authority, now)
            )
        except ListFull:
            message = f"the list of {MOST_REVOKED} revoked certificates is full; this one gets on it when another ends"
            raise WaitingFor("TooManyRevoked", message, CROWDED_SECONDS) from None

    def _check_secret(self, certificate: Certificate) -> None:
        """Raises WaitingFor when the Secret is somebody else's."""
        name = certificate.spec.secret_name
        there = self._secrets.get(Ref(Secret.KIND, certificate.metadata.project, name))
        if there is not None and not _is_owned(there, certificate):
            message = f"Secret {name} was not made for this Certificate and is not overwritten; delete or rename it"
            raise WaitingFor("SecretTaken", message, 30.0)

    async def _ensure_secret(
        self, certificate: Certificate, record: Issuance, authority: Authority, revocations: Revocations
    ) -> None:
        data = {
            "certificate": record.certificate,
            "privateKey": record.key,
            "ca": authority.bundle.decode(),
            "crl": revocations.crl,
        }
        name, project = certificate.spec.secret_name, certificate.metadata.project
        wanted = SecretSpec(type=SecretType.TLS, data=data)
        there = self._secrets.get(Ref(Secret.KIND, project, name))
        if there is None:
            secret = Secret.new(name, wanted, project=project, owners=(certificate,))
            try:
                await self._client.create(secret)
            except AlreadyExists as error:
                raise WaitingFor("SecretTaken", f"Secret {name} has just been made by somebody else", 1.0) from error
        elif there.deleting:
            raise WaitingFor("SecretGoes", f"Secret {name} is being deleted", 5.0)
        else:
            # Values that are there already keep their stand-ins: writing them again changes nothing.
            await self._client.update(there.model_copy(update={"spec": wanted}))

    async def _finish(self, certificate: Certificate, project: Project, now: datetime) -> None:
        """Revoke, destroy the key and the Secret, and let the object go."""
        record = await self._records.find(certificate.uid)
        if record is not None and not project.deleting:
            authorities = await self._ensure_authority(project, now)
            await self._revoke(project, authorities.current, record, now)
        secret = self._secrets.get(Ref(Secret.KIND, certificate.metadata.project, certificate.spec.secret_name))
        if secret is not None and _is_owned(secret, certificate):
            await self._client.delete(secret.ref, uid=secret.uid)
        await self._records.destroy(certificate.uid)
        await self._client.remove_finalizer(certificate, FINALIZER)

    async def _report(self, certificate: Certificate, issued: Issuance, authority: Authority, now: datetime) -> None:
        found = issued.x509
        renew_at = _renewal_of(certificate, issued)
        fields = {
            "serialNumber": issued.serial,
            "fingerprint": fingerprint(found),
            "authority": authority.fingerprint,
            "issuedAt": format_time(found.not_valid_before_utc),
            "expiresAt": format_time(found.not_valid_after_utc),
            "renewAt": format_time(renew_at),
        }
        ready = condition_of(certificate, ISSUED, True, "Issued", clock=self._context.clock)
        conditions = [ready, self._expiring(certificate, renew_at, found.not_valid_after_utc, now)]
        await write_status(self._client, certificate, fields=fields, conditions=conditions)

    async def _show_failure(
        self, certificate: Certificate, error: ReconcileError | QuotaExceeded, now: datetime
    ) -> None:
        reason = "QuotaExceeded" if isinstance(error, QuotaExceeded) else error.reason
        conditions = [
            condition_of(certificate, ISSUED, False, reason, error.message, clock=self._context.clock),
        ]
        status = certificate.status
        if status.renew_at is not None and status.expires_at is not None:
            conditions.append(self._expiring(certificate, status.renew_at, status.expires_at, now))
        await write_status(self._client, certificate, conditions=conditions)

    def _expiring(self, certificate: Certificate, renew_at: datetime, ends: datetime, now: datetime) -> Condition:
        late = renew_at <= now
        message = f"It should have been renewed at {format_time(renew_at)} and ends at {format_time(ends)}."
        return condition_of(
            certificate,
            EXPIRING,
            late,
            "NotRenewed" if late else "InTime",
            message if late else "",
            clock=self._context.clock,
        )


def _wish_of(certificate: Certificate) -> Wish:
    spec = certificate.spec
    usages = [each.value for each in spec.usages]
    sans = [*spec.dns_names, *spec.ip_addresses]
    return Wish(spec.subject, sans, usages, spec.duration_hours, spec.key_algorithm.value)


def _describe(certificate: Certificate) -> str:
    """What has to be issued anew when it changes; when to renew has not."""
    wish = _wish_of(certificate)
    text = json.dumps([wish.name, sorted(wish.sans), sorted(wish.usages), wish.hours, wish.algorithm])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _is_good(certificate: Certificate, record: Issuance, authority: Authority, wish: str, now: datetime) -> bool:
    by_it = is_issued_by(record.x509, authority.certificate)
    return record.wish == wish and by_it and _renewal_of(certificate, record) > now


def _renewal_of(certificate: Certificate, record: Issuance) -> datetime:
    return record.x509.not_valid_after_utc - certificate.spec.renew_before


def _is_owned(secret: Secret, certificate: Certificate) -> bool:
    return any(owner.uid == certificate.uid for owner in secret.metadata.owner_references)


def build(context: ControllerContext) -> Controller:
    """Return the controller of certificates."""
    informer = context.informer(Certificate)

    def of_secret(secret: Secret) -> Iterator[Ref]:
        for owner in secret.metadata.owner_references:
            if owner.kind == Certificate.KIND:
                yield Ref(Certificate.KIND, secret.metadata.project, owner.name)

    def siblings(certificate: Certificate) -> Iterator[Ref]:
        """What is revoked with one stands in the Secrets of all."""
        if certificate.deleting:
            yield from (c.ref for c in informer.list() if c.metadata.project == certificate.metadata.project)

    return context.controller(
        CertificateReconciler(context),
        Certificate,
        watches={Secret: of_secret, Certificate: siblings},
    )
