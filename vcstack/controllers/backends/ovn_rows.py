"""Rows of ours in the northbound database: found, compared, written and deleted within one transaction.

Runs in the connection's thread, on the IDL's replica; nothing here waits. A column is only written when it
differs, so a repeated ensure makes no transaction. See ovn-nb(5) for the columns.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ovs.db.data import Atom
from ovs.db.idl import Idl
from ovs.db.types import UuidType

from vcstack.controllers.backends.network import Fence, Owner
from vcstack.runtime.errors import BackendConflict, BackendNotFound
from vcstack.specs.errors import FencedOut

UID, KIND, PROJECT, NAME = "vcstack-uid", "vcstack-kind", "vcstack-project", "vcstack-name"
PREFIX = "vcstack-"
FENCE = "vcstack-fence-"
NAME_INDEX = "name"

SWITCH, PORT, GROUP, ACL, DHCP, GLOBAL = (
    "Logical_Switch",
    "Logical_Switch_Port",
    "Port_Group",
    "ACL",
    "DHCP_Options",
    "NB_Global",
)
COLUMNS: Mapping[str, tuple[str, ...]] = {
    SWITCH: ("name", "ports", "external_ids"),
    PORT: (
        "name",
        "type",
        "addresses",
        "port_security",
        "dhcpv4_options",
        "dhcpv6_options",
        "enabled",
        "up",
        "external_ids",
    ),
    GROUP: ("name", "ports", "acls", "external_ids"),
    ACL: ("name", "direction", "priority", "match", "action", "log", "external_ids"),
    DHCP: ("cidr", "options", "external_ids"),
    GLOBAL: ("external_ids",),
}
"""The columns that are replicated, by table."""

Row = Any
"""ovs.db.idl.Row: untyped, an attribute a column."""


def read_owner(row: Row) -> Owner | None:
    """Return whose row it is, or None when it is not ours."""
    ids = getattr(row, "external_ids", None) or {}
    if UID not in ids or KIND not in ids:
        return None
    return Owner(ids[KIND], ids[UID], ids.get(PROJECT, ""), ids.get(NAME, ""))


def build_ids(owner: Owner, **more: str) -> dict[str, str]:
    """Return the external_ids of a row of the owner's."""
    ids = {UID: owner.uid, KIND: owner.kind, PROJECT: owner.project, NAME: owner.name}
    return ids | {PREFIX + key: value for key, value in more.items()}


class Rows:
    """The replica as seen in a transaction (txn None: read only)."""

    def __init__(self, idl: Idl, txn: Any = None) -> None:
        self._idl = idl
        self._txn = txn
        self._changed: dict[str, None] = {}

    @property
    def changed(self) -> tuple[str, ...]:
        """Return what was written so far, for people, each once."""
        return tuple(self._changed)

    def all(self, table: str) -> list[Row]:
        """Return all rows of a table."""
        return list(self._idl.tables[table].rows.values())

    def named(self, table: str, name: str) -> list[Row]:
        """Return the rows of that name; Logical_Switch.name is not unique."""
        entry = self._idl.tables[table].rows.IndexEntry(name=name)
        return list(self._idl.index_equal(table, NAME_INDEX, entry))

    def find_owned(self, table: str, uid: str) -> list[Row]:
        """Return the owner's rows in a table."""
        return [r for r in self.all(table) if r.external_ids.get(UID) == uid]

    def claim_named(self, table: str, name: str, owner: Owner) -> tuple[Row | None, list[Row]]:
        """Return the row of that name made from the owner's uid, and superfluous twins of it.

        A row that lost its external_ids is adopted: nobody else makes names from our uids.

        Raises:
            BackendConflict: if the row carries another owner.
        """
        rows = sorted(self.named(table, name), key=lambda r: str(r.uuid))
        for row in rows:
            other = row.external_ids.get(UID, owner.uid)
            if other != owner.uid:
                raise BackendConflict(f"{table} {name} in OVN belongs to {other}; remove one of them")
        return (rows[0] if rows else None), rows[1:]

    def insert(self, table: str, **columns: Any) -> Row:
        """Return a new row."""
        self._note(f"{table} was missing")
        row = self._txn.insert(self._idl.tables[table])
        for column, value in columns.items():
            setattr(row, column, value)
        return row

    def write(self, row: Row, **columns: Any) -> None:
        """Set the columns that differ; of external_ids only the keys that are ours."""
        for column, value in columns.items():
            current = getattr(row, column)
            if column == "external_ids":
                foreign = {k: v for k, v in current.items() if not k.startswith(PREFIX)}
                value = foreign | value
            if not _equal(current, value):
                self._note(f"{row._table.name} had other {column}")
                setattr(row, column, value)

    def delete(self, row: Row) -> None:
        """Remove a row."""
        self._note(f"{row._table.name} was superfluous")
        row.delete()

    def write_or_insert(self, table: str, row: Row | None, **columns: Any) -> Row:
        """Return the row with the columns as given."""
        if row is None:
            return self.insert(table, **columns)
        self.write(row, **columns)
        return row

    def contains(self, row: Row, column: str, member: Row) -> bool:
        """Return whether a set of references holds the member, as committed.

        The IDL keeps a column as a Datum, a dict of atoms; asking the row's attribute would build a Row object
        for each member, which is too slow for thousands.
        """
        datum = (row._data or {}).get(column)
        return datum is not None and Atom(UuidType, member.uuid) in datum.values

    def join(self, row: Row, column: str, member: Row) -> None:
        """Add a reference to a set, by a mutation that costs the same however large the set is."""
        if not self.contains(row, column, member):
            if member._data is not None:  # a row that is new was noted already
                self._note(f"{member._table.name} was not in its {row._table.name}")
            row.addvalue(column, member)

    def leave(self, row: Row, column: str, member: Row) -> None:
        """Remove a reference from a set."""
        if self.contains(row, column, member):
            self._note(f"{member._table.name} was in another {row._table.name}")
            row.delvalue(column, member)

    def _note(self, what: str) -> None:
        self._changed[what] = None

    def holders(self, table: str, column: str, member: Row) -> Iterator[Row]:
        """Yield the rows whose set of references holds the member."""
        return (row for row in self.all(table) if self.contains(row, column, member))

    def guard(self, fence: Fence) -> None:
        """Let the transaction pass only if no later leader has written (NB_Global.external_ids).

        The column is verified in the transaction itself, so a replica that is out of date does not help.

        Raises:
            FencedOut: if a later one has.
        """
        row, key = next(iter(self.all(GLOBAL)), None), FENCE + fence.scope
        if row is None:
            raise BackendNotFound("OVN's northbound database is empty: ovn-nbctl init was never run")
        found = row.external_ids.get(key, "")
        seen = int(found) if found.isdecimal() else 0
        if seen > fence.token:
            raise FencedOut(f"token {fence.token} of {fence.scope} was superseded by {seen} in OVN")
        row.verify("external_ids")
        if seen < fence.token:
            row.setkey("external_ids", key, str(fence.token))


def _equal(current: Any, wanted: Any) -> bool:
    """Return whether a column has the value; sets come in any order."""
    if isinstance(current, list):
        return len(current) == len(wanted) and all(item in current for item in wanted)
    return bool(current == wanted)
