"""Open vSwitch through ovsdbapp, on one kept connection whose IDL holds a copy of the rows that we read."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from ovsdbapp.backend.ovs_idl import command, connection, idlutils
from ovsdbapp.exceptions import OvsdbAppException, TimeoutException
from ovsdbapp.schema.open_vswitch import impl_idl

from vcstack.nodeagent.backends.switch import BRIDGE, USERSPACE, ChassisSettings, ShellPort, SwitchFacts, SwitchPort
from vcstack.nodeagent.backends.threads import Threads
from vcstack.runtime.errors import BackendRefused, BackendUnavailable

T = TypeVar("T")

TIMEOUT_SECONDS = 10
WORKERS = 4
EVENT_LIMIT = 1024
OWNER = "vcstack-instance"
"""The key in external_ids that marks an interface as ours."""
SHELL = "vcstack-network"
"""The key that marks one by which shells reach a network, with the network's uid."""
COLUMNS = {
    "Open_vSwitch": ["bridges", "external_ids", "ovs_version", "ssl"],
    "Bridge": ["name", "ports", "datapath_type", "fail_mode"],
    "Port": ["name", "interfaces", "external_ids"],
    "Interface": ["name", "type", "external_ids", "ofport", "error"],
    "SSL": ["private_key", "certificate", "ca_cert"],
}
"""What the copy holds; without statistics, which change every few seconds."""


class OpenVSwitch:
    """The Switch protocol on a host's ovsdb-server."""

    def __init__(self, remote: str) -> None:
        self._remote = remote
        self._threads = Threads("ovs", WORKERS, TIMEOUT_SECONDS + 2)
        self._api: Any = None
        self._connecting = asyncio.Lock()
        self._events: asyncio.Queue[str | None] = asyncio.Queue(EVENT_LIMIT)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        """Let go of the connection."""
        api, self._api = self._api, None
        if api is not None:
            await self._threads.run(api.ovsdb_connection.stop, 2)
        self._threads.close()

    async def list_ports(self) -> dict[str, SwitchPort]:
        """Return the ports with our mark, by tap."""
        return await self._read(_list_ports)

    async def plug(self, port: SwitchPort) -> None:
        """Make the port so, in one transaction."""
        ids = {
            "iface-id": port.port_uid,
            "attached-mac": port.mac,
            "iface-status": "active",
            "vcstack-uid": port.port_uid,
            "vcstack-kind": "Port",
            "vcstack-project": port.project,
            "vcstack-name": port.name,
            OWNER: port.instance,
        }

        await self._plug(port.tap, ids)

    async def list_shells(self) -> list[ShellPort]:
        """Return the ports for shells."""
        return await self._read(_list_shells)

    async def plug_shell(self, port: ShellPort) -> None:
        """Make the port so, in one transaction."""
        ids = {"iface-id": port.port, "attached-mac": port.mac, "iface-status": "active", SHELL: port.network}
        await self._plug(port.device, ids)

    async def _plug(self, device: str, ids: dict[str, str]) -> None:
        def commands(api: Any) -> list[Any]:
            add = api.add_port(BRIDGE, device, may_exist=True)
            return [add, api.db_set("Interface", device, ("external_ids", ids))]

        await self._commit(commands)

    async def unplug(self, tap: str) -> None:
        """Remove the port. Absent is success."""
        await self._commit(lambda api: [api.del_port(tap, BRIDGE, if_exists=True)])

    async def get_facts(self) -> SwitchFacts:
        """Return version, datapath and tunnel address."""
        return await self._read(_facts)

    async def configure_chassis(self, settings: ChassisSettings) -> None:
        """Tell ovn-controller where to connect; what is so already is not written."""
        wanted = {"system-id": settings.system_id, "ovn-remote": settings.remote}
        if settings.encap_ip:
            wanted |= {"ovn-encap-type": "geneve", "ovn-encap-ip": settings.encap_ip}
        ids, files = await self._read(_chassis)
        tls = (settings.private_key, settings.certificate, settings.ca_certificate)
        if all(ids.get(k) == v for k, v in wanted.items()) and (files == tls or not any(tls)):
            return

        def commands(api: Any) -> list[Any]:
            found = [api.db_set("Open_vSwitch", ".", ("external_ids", wanted))]
            if any(tls) and files != tls:
                found.append(_SetSSL(api, *tls))
            return found

        await self._commit(commands)

    async def events(self) -> AsyncIterator[str | None]:
        """Yield the uids of instances whose ports changed; None: anything may have happened."""
        await self._connect()
        yield None
        while True:
            yield await self._events.get()

    async def _read(self, read: Callable[[Any], T]) -> T:
        api = await self._connect()

        def locked() -> T:
            with api.ovsdb_connection.lock:
                return read(api.tables)

        return await self._threads.run(locked)

    async def _commit(self, commands: Callable[[Any], list[Any]]) -> None:
        api = await self._connect()

        def commit() -> None:
            try:
                with _Transaction(api, api.ovsdb_connection, TIMEOUT_SECONDS, check_error=True) as transaction:
                    for entry in commands(api):
                        transaction.add(entry)
            except TimeoutException as error:
                raise BackendUnavailable(f"Open vSwitch at {self._remote} does not answer: {error}") from error
            except (OvsdbAppException, idlutils.RowNotFound, RuntimeError) as error:
                raise BackendRefused(f"Open vSwitch: {error}") from error

        await self._threads.run(commit)

    async def _connect(self) -> Any:
        async with self._connecting:
            if self._api is None:
                self._loop = asyncio.get_running_loop()
                self._api = await self._threads.run(self._open)
            return self._api

    def _open(self) -> Any:
        notify = self._notify

        class Rows(connection.OvsdbIdl):  # type: ignore[misc]
            """The copy of the rows; tells of changes."""

            def notify(self, event: str, row: Any, updates: Any = None) -> None:
                notify(row, updates)

        class Api(impl_idl.OvsdbIdl):  # type: ignore[misc]
            """ovsdbapp keeps the connection in a class attribute: one class for each connection."""

            _ovsdb_connection = None

        try:
            helper = idlutils.get_schema_helper(self._remote, "Open_vSwitch")
            for table, columns in COLUMNS.items():
                helper.register_columns(table, columns)
            return Api(connection.Connection(Rows(self._remote, helper), timeout=TIMEOUT_SECONDS))
        except Exception as error:
            raise BackendUnavailable(f"Open vSwitch at {self._remote} does not answer: {error}") from error

    def _notify(self, row: Any, updates: Any) -> None:
        """Tell of a change of one of our interfaces; called on the IDL's thread."""
        if row._table.name != "Interface" or self._loop is None or self._loop.is_closed():
            return
        for state in (row, updates):
            owner = _external_ids(state).get(OWNER) if state is not None else None
            if owner:
                self._loop.call_soon_threadsafe(self._put, owner)
                return

    def _put(self, owner: str) -> None:
        if self._events.full():
            while not self._events.empty():
                self._events.get_nowait()
            self._events.put_nowait(None)
        self._events.put_nowait(owner)


class _Transaction(impl_idl.OvsVsctlTransaction):  # type: ignore[misc]
    """Ends when ovsdb-server has committed; does not wait until ovs-vswitchd has acted on it too."""

    def pre_commit(self, txn: Any) -> None:
        """Do not ask ovs-vswitchd to say when it is done."""
        txn.expected_ifaces = set()

    def do_post_commit(self, txn: Any) -> None:
        """Do not wait until it says so."""


class _SetSSL(command.BaseCommand):  # type: ignore[misc]
    """Point Open vSwitch's SSL row at the files; ovn-controller uses it for an ssl: remote."""

    def __init__(self, api: Any, key: str, certificate: str, ca: str) -> None:
        super().__init__(api)
        self._columns = {"private_key": key, "certificate": certificate, "ca_cert": ca}

    def run_idl(self, txn: Any) -> None:
        """Insert or change the row within the transaction."""
        root = next(iter(self.api.tables["Open_vSwitch"].rows.values()))
        row = root.ssl[0] if root.ssl else txn.insert(self.api.tables["SSL"])
        for name, value in self._columns.items():
            setattr(row, name, value)
        root.ssl = [row]


def _external_ids(row: Any) -> dict[str, str]:
    try:
        return dict(row.external_ids)
    except (AttributeError, KeyError):
        return {}


def _interfaces(tables: Any) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield the bridge's interfaces and their external_ids."""
    bridge = next((b for b in tables["Bridge"].rows.values() if b.name == BRIDGE), None)
    for interface in (i for p in (bridge.ports if bridge else ()) for i in p.interfaces):
        yield interface, _external_ids(interface)


def _list_shells(tables: Any) -> list[ShellPort]:
    return [
        ShellPort(str(i.name), ids.get("iface-id", ""), ids.get("attached-mac", ""), ids[SHELL])
        for i, ids in _interfaces(tables)
        if SHELL in ids
    ]


def _list_ports(tables: Any) -> dict[str, SwitchPort]:
    found = {}
    for interface, ids in _interfaces(tables):
        if OWNER in ids:
            found[str(interface.name)] = SwitchPort(
                tap=str(interface.name),
                port_uid=ids.get("iface-id", ""),
                mac=ids.get("attached-mac", ""),
                instance=ids[OWNER],
                project=ids.get("vcstack-project", ""),
                name=ids.get("vcstack-name", ""),
            )
    return found


def _root(tables: Any) -> Any:
    rows = list(tables["Open_vSwitch"].rows.values())
    if not rows:
        raise BackendUnavailable("Open vSwitch's database is not initialized yet")
    return rows[0]


def _facts(tables: Any) -> SwitchFacts:
    root = _root(tables)
    bridge = next((b for b in tables["Bridge"].rows.values() if b.name == BRIDGE), None)
    ids = _external_ids(root)
    datapath = (str(bridge.datapath_type) if bridge else "") or ids.get("ovn-bridge-datapath-type", "")
    return SwitchFacts(
        version=str(root.ovs_version[0]) if root.ovs_version else "",
        datapath=USERSPACE if datapath == USERSPACE else "system",
        encap_ip=ids.get("ovn-encap-ip"),
    )


def _chassis(tables: Any) -> tuple[dict[str, str], tuple[str, str, str]]:
    root = _root(tables)
    ssl = root.ssl[0] if root.ssl else None
    return _external_ids(root), ("", "", "") if ssl is None else (ssl.private_key, ssl.certificate, ssl.ca_cert)
