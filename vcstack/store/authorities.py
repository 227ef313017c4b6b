"""The certificate authorities: one record each among the credentials, ``authorities/{id}``, and who reports their use.

The record is what counts; the files of a manager's machine follow it. A report lies under the lease of its process and
vanishes with it.
"""

import json
from collections.abc import Callable, Sequence
from typing import Final

from vcstack.pki.records import Issuance, Revocations
from vcstack.pki.rotation import Authorities, Report
from vcstack.specs.errors import NotFound, Unavailable
from vcstack.store.credentials import Credentials
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd_api import Etcd

AREA: Final = "authorities"
ISSUED: Final = "certificates"
REVOKED: Final = "revocations"
SHELLS: Final = "shells"
REPORTS: Final = b"/vcstack/.leases/pki/"


class AuthorityRecords:
    """Reads and changes the records, each change by compare-and-swap."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def find(self, id_: str) -> Authorities | None:
        """Return the authorities, None when there are none yet. Raises Unavailable."""
        record = await self._credentials.get(f"{AREA}/{id_}")
        return Authorities.from_json(record.value) if record else None

    async def ensure(self, id_: str, make: Callable[[], Authorities]) -> Authorities:
        """Return the authorities, made if there are none; whoever comes second gets those of the first."""
        made = await self._credentials.update(f"{AREA}/{id_}", lambda value: value or make().to_json())
        assert made is not None
        return Authorities.from_json(made)

    async def change(self, id_: str, before: Authorities, after: Authorities) -> Authorities:
        """Put one in the other's place if that is still there; return what is there then. Raises NotFound."""
        old, new = before.to_json(), after.to_json()

        def swap(value: bytes | None) -> bytes:
            if value is None:
                raise NotFound(f"there are no authorities {id_}")
            return new if value == old else value

        there = await self._credentials.update(f"{AREA}/{id_}", swap)
        assert there is not None
        return Authorities.from_json(there)


class CertificateRecords:
    """What was issued to tenants, with the keys: ``certificates/{uid}``; what was revoked: ``revocations/{id}``."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def find(self, uid: str) -> Issuance | None:
        """Return what was issued last, None when nothing was. Raises Unavailable."""
        record = await self._credentials.get(f"{ISSUED}/{uid}")
        return Issuance.from_json(record.value) if record else None

    async def replace(self, uid: str, before: Issuance | None, after: Issuance) -> Issuance:
        """Put one in the other's place if that is still there; return what is there then. Raises Unavailable."""
        old = before.to_json() if before else None
        made = await self._credentials.update(
            f"{ISSUED}/{uid}", lambda value: after.to_json() if value == old else value
        )
        return Issuance.from_json(made) if made is not None else after

    async def destroy(self, uid: str) -> None:
        """Remove it with the key. Absent is success."""
        await self._credentials.delete_prefix(f"{ISSUED}/{uid}")

    async def revoke(self, id_: str, change: Callable[[Revocations], Revocations]) -> Revocations:
        """Change what is revoked of an authority's certificates; return what is there then. Raises Unavailable."""

        def swap(value: bytes | None) -> bytes:
            before = Revocations.from_json(value) if value else Revocations()
            after = change(before)
            return value if value and after == before else after.to_json()

        there = await self._credentials.update(f"{REVOKED}/{id_}", swap)
        assert there is not None
        return Revocations.from_json(there)

    async def forget(self, id_: str) -> None:
        """Remove what is kept of a project's authorities, of the one for SSH too. Absent is success."""
        await self._credentials.delete_prefix(f"{REVOKED}/{id_}")
        await self._credentials.delete_prefix(f"{AREA}/{id_}")
        await self._credentials.delete_prefix(f"{SHELLS}/{id_}")


class Reports:
    """What the manager's processes say of the certificates on their machines."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    async def put(self, report: Report, lease: int) -> None:
        """Note it for as long as the lease lives. Raises EtcdError."""
        wire = {"trusted": sorted(report.trusted), "issuers": sorted(report.issuers), "late": sorted(report.late)}
        await self._etcd.put(REPORTS + report.name.encode(), json.dumps(wire).encode(), lease=lease)

    async def list(self) -> Sequence[Report]:
        """Return those of all processes that run. Raises Unavailable."""
        try:
            found = await self._etcd.range(REPORTS)
        except EtcdError as error:
            raise Unavailable("the store does not answer; try again") from error
        return [_read(kv.key, kv.value) for kv in found.kvs]


def _read(key: bytes, value: bytes) -> Report:
    wire = json.loads(value)
    name = key.removeprefix(REPORTS).decode()
    return Report(name, frozenset(wire["trusted"]), frozenset(wire["issuers"]), frozenset(wire.get("late", ())))
