"""The certificate authorities: one record each among the credentials, ``authorities/{id}``, and who reports their use.

The record is what counts; the files of a manager's machine follow it. A report lies under the lease of its process and
vanishes with it.
"""

import json
from collections.abc import Callable, Sequence
from typing import Final

from vcstack.pki.rotation import Authorities, Report
from vcstack.specs.errors import NotFound, Unavailable
from vcstack.store.credentials import Credentials
from vcstack.store.etcd.errors import EtcdError
from vcstack.store.etcd_api import Etcd

AREA: Final = "authorities"
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

    async def destroy(self, id_: str) -> None:
        """Remove them with their keys. Absent is success."""
        await self._credentials.delete_prefix(f"{AREA}/{id_}")


class Reports:
    """What the manager's processes say of the certificates on their machines."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    async def put(self, report: Report, lease: int) -> None:
        """Note it for as long as the lease lives. Raises EtcdError."""
        wire = {"trusted": sorted(report.trusted), "issuers": sorted(report.issuers)}
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
    return Report(name, frozenset(wire["trusted"]), frozenset(wire["issuers"]))
