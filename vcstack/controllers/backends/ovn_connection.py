"""The connection to OVN's northbound ovsdb-server: TLS or unix socket, replica, transactions.

A probe of our own comes first, because ovsdbapp retries a refused certificate silently for ever; it also
fetches the schema. Everything but the probe blocks and is meant for a thread.
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ovs.db import idl
from ovs.stream import Stream
from ovsdbapp.backend.ovs_idl import command, connection, transaction
from ovsdbapp.exceptions import TimeoutException
from ovsdbapp.schema.ovn_northbound import impl_idl

from vcstack.controllers.backends.ovn_changes import ChangeHub, changes_of
from vcstack.controllers.backends.ovn_rows import COLUMNS, GROUP, NAME_INDEX, PORT, SWITCH, Rows
from vcstack.runtime.errors import BackendConflict, BackendUnavailable

DATABASE = "OVN_Northbound"
SCHEMA_LIMIT = 16 * 1024 * 1024
"""Longest schema taken; OVN 23.03's is 30 kB."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OvnSettings:
    """Where the database is and how patient we are with it."""

    remote: str
    """``unix:PATH`` or ``ssl:HOST:PORT``; several, separated by commas, for a raft cluster."""
    ca_file: Path | None = None
    """The CA of the server's certificate."""
    cert_file: Path | None = None
    """Our certificate; the server asks for one."""
    key_file: Path | None = None
    """Its key."""
    timeout_seconds: float = 10.0
    """The longest time that one call may take."""
    probe_seconds: float = 5.0
    """A silent server is asked for a sign of life after this long, and dropped after as long again."""
    threads: int = 4
    """How many calls are made at once."""


async def fetch_schema(settings: OvnSettings) -> dict[str, Any]:
    """Return the database's schema from the first remote that answers (RFC 7047, section 4.1.2).

    Raises:
        BackendUnavailable: with the reason of each remote.
    """
    faults = []
    for remote in settings.remote.split(","):
        try:
            async with asyncio.timeout(settings.timeout_seconds):
                return await _ask(remote, settings)
        except TimeoutError:
            faults.append(f"{remote}: no answer within {settings.timeout_seconds:g} s")
        except ssl.SSLCertVerificationError as error:
            faults.append(f"{remote}: its certificate is not from our CA ({error.verify_message}); check ovn.caFile")
        except ssl.SSLError as error:
            hint = "check ovn.certFile and ovn.keyFile"
            faults.append(f"{remote}: TLS was refused ({error.reason or error}); {hint}")
        except (ConnectionResetError, BrokenPipeError):
            faults.append(f"{remote}: it closed the connection; it may not accept our certificate (ovn.certFile)")
        except (OSError, ValueError) as error:
            faults.append(f"{remote}: {error or type(error).__name__}")
    raise BackendUnavailable(f"OVN's northbound database does not answer: {'; '.join(faults)}")


async def _ask(remote: str, settings: OvnSettings) -> dict[str, Any]:
    scheme, _, place = remote.partition(":")
    if scheme == "unix":
        reader, writer = await asyncio.open_unix_connection(place, limit=SCHEMA_LIMIT)
    elif scheme == "ssl":
        host, _, port = place.rpartition(":")
        context = build_context(settings)
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=SCHEMA_LIMIT, ssl=context)
    else:
        raise ValueError("the remote must be unix:PATH or ssl:HOST:PORT")
    try:
        writer.write(json.dumps({"method": "get_schema", "params": [DATABASE], "id": 0}).encode())
        await writer.drain()
        return await _read_schema(reader)
    finally:
        writer.transport.abort()


async def _read_schema(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Read until the reply is whole: JSON values follow each other without a separator."""
    text = b""
    while part := await reader.read(65536):
        text += part
        try:
            reply = json.loads(text)
        except ValueError:
            continue
        if reply.get("result"):
            schema: dict[str, Any] = reply["result"]
            return schema
        raise ValueError(f"no database {DATABASE}: {reply.get('error')}")
    raise ConnectionResetError


def build_context(settings: OvnSettings) -> ssl.SSLContext:
    """Return the TLS context: the CA decides, not the host name, as in all of OVS.

    Raises:
        ValueError: if a file is not named.
    """
    if not (settings.ca_file and settings.cert_file and settings.key_file):
        raise ValueError("ssl needs ovn.caFile, ovn.certFile and ovn.keyFile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(settings.ca_file)
    context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


class _Replica(connection.OvsdbIdl):  # type: ignore[misc]
    """The IDL that tells a ChangeHub what happens."""

    hub: ChangeHub
    _reconnected = False

    def restart_fsm(self) -> None:
        """Note that the connection is new, so that what was missed meanwhile is looked for."""
        self._reconnected = True
        super().restart_fsm()

    def run(self) -> bool:
        """Take in what the server sent; after a new connection's first dump tell that anything may differ."""
        changed = bool(super().run())
        if self._reconnected and self.state == idl.Idl.IDL_S_MONITORING:
            self._reconnected = False
            self.hub.publish_all()
        return changed

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Tell whose row it is, but for the first dump, which publish_all stands for."""
        if not self._reconnected:
            for change in changes_of(event, row, updates):
                self.hub.publish(change)


class _Write(command.BaseCommand):  # type: ignore[misc]
    """A function on rows as ovsdbapp's command; one transaction runs one or more of them."""

    def __init__(self, api: Any, step: Callable[[Rows], object], deadline: float) -> None:
        super().__init__(api)
        self._step = step
        self._deadline = deadline
        self.committed = False

    def run_idl(self, txn: Any) -> None:
        """Do it, unless the caller has given up meanwhile. May run again when the transaction must."""
        if time.monotonic() > self._deadline:
            raise TimeoutException()
        self._step(Rows(self.api.idl, txn))

    def post_commit(self, txn: Any) -> None:
        """Note that the database has changed: ovsdbapp calls this for transactions that were sent."""
        self.committed = True


class _Transaction(transaction.Transaction):  # type: ignore[misc]
    """ovsdbapp's, but it never waits for ever: there a timeout that has passed already means none."""

    def time_remaining(self) -> float:
        """Return the seconds left, never 0 or less."""
        return max(0.1, float(super().time_remaining()))


class _Northbound(impl_idl.OvnNbApiIdlImpl):  # type: ignore[misc]
    """ovsdbapp's interface to the database."""

    def create_transaction(self, check_error: bool = False, log_errors: bool = True, **kwargs: Any) -> _Transaction:
        """Return a transaction that ends in time."""
        link = self.ovsdb_connection
        return _Transaction(self, link, link.timeout, check_error, log_errors)


class OvnConnection:
    """A connection that is up; ovsdbapp reconnects it by itself. Its methods block."""

    def __init__(self, settings: OvnSettings, schema: dict[str, Any], hub: ChangeHub) -> None:
        self._settings = settings
        if settings.ca_file is not None:  # for the whole process: ovs knows no other way
            Stream.ssl_set_ca_cert_file(str(settings.ca_file))
            Stream.ssl_set_certificate_file(str(settings.cert_file))
            Stream.ssl_set_private_key_file(str(settings.key_file))
        helper = idl.SchemaHelper(schema_json=schema)
        for table, columns in COLUMNS.items():
            helper.register_columns(table, list(columns))
        replica = _Replica(settings.remote, helper, probe_interval=int(settings.probe_seconds * 1000))
        replica.hub = hub
        for table in (SWITCH, PORT, GROUP):
            replica.index_create(table, NAME_INDEX).add_column("name")
        self._connection = connection.Connection(replica, timeout=settings.timeout_seconds)
        # ovsdbapp keeps the connection in the class: a subclass for each, or the second would use the first's
        kept = type("Northbound", (_Northbound,), {"_ovsdb_connection": None})
        try:
            self._api = kept(self._connection, auto_index=False)
        except Exception as error:
            replica.close()
            raise BackendUnavailable(f"OVN's northbound database: {error}") from error

    def read(self, step: Callable[[Rows], T]) -> T:
        """Return what the step reads from the replica."""
        lock: threading.RLock = self._connection.lock
        if not lock.acquire(timeout=self._settings.timeout_seconds):
            raise BackendUnavailable("OVN's northbound database does not answer; its replica is locked")
        try:
            return step(Rows(self._connection.idl))
        finally:
            lock.release()

    def write(self, step: Callable[[Rows], object]) -> bool:
        """Run the step in one transaction; return whether the database changed."""
        timeout = self._settings.timeout_seconds
        change = _Write(self._api, step, time.monotonic() + timeout)
        try:
            with self._api.transaction(check_error=True, log_errors=False) as txn:
                txn.add(change)
        except TimeoutException as error:
            message = f"OVN's northbound database {self._settings.remote} did not answer within {timeout:g} s"
            raise BackendUnavailable(message) from error
        except RuntimeError as error:  # the server's refusal, as text
            text = str(error)
            kind = BackendConflict if "constraint violation" in text else BackendUnavailable
            raise kind(f"OVN's northbound database: {text}") from error
        return change.committed

    def close(self) -> None:
        """Stop the thread, which closes the socket; one that hangs on a frozen server is left (it is a daemon).

        Connection.stop would wait for room in the queue of transactions, perhaps for ever.
        """
        self._connection.is_running = False
        self._connection.txns.alert_notify()
        self._connection.thread.join(self._settings.timeout_seconds)
