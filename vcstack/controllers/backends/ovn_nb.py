"""The network backend on OVN's northbound database, through ovsdbapp's IDL.

ovsdbapp blocks: calls run in a few threads of our own, so the event loop never waits, and each has a
timeout. The connection is made at the first call, and by ovsdbapp again whenever it breaks.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vcstack.controllers.backends import ovn_objects
from vcstack.controllers.backends.network import (
    Change,
    Counters,
    DhcpOptions,
    Ensured,
    Fence,
    LogicalSwitch,
    LogicalSwitchPort,
    ObservedGroup,
    ObservedPort,
    Owner,
    PortGroup,
)
from vcstack.controllers.backends.ovn_changes import ChangeHub
from vcstack.controllers.backends.ovn_connection import OvnConnection, OvnSettings, fetch_schema
from vcstack.controllers.backends.ovn_rows import Rows
from vcstack.runtime.errors import BackendConflict, BackendError, BackendUnavailable

T = TypeVar("T")
W = TypeVar("W", LogicalSwitch, DhcpOptions, LogicalSwitchPort, PortGroup)

RECONNECT_SECONDS = 2.0
"""How often ``changes`` tries to connect while the database is away at the start."""


class _Link:
    """The one connection that all handles share."""

    def __init__(self, settings: OvnSettings) -> None:
        self.settings = settings
        self.hub = ChangeHub()
        self.counters = Counters()
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="ovn-nb")
        self._connecting = asyncio.Lock()
        self._connection: OvnConnection | None = None
        self._closed = False

    async def call(self, function: Callable[[], T]) -> T:
        """Run a blocking function in a thread."""
        loop = asyncio.get_running_loop()
        patience = 2 * self.settings.timeout_seconds  # queueing for a thread, then the call itself
        try:
            async with asyncio.timeout(patience):
                return await loop.run_in_executor(self._threads, function)
        except TimeoutError as error:
            raise BackendUnavailable(f"OVN's northbound database did not answer within {patience:g} s") from error

    async def connect(self) -> OvnConnection:
        """Return the connection, made when there is none."""
        async with self._connecting:
            if self._closed:
                raise BackendUnavailable("the connection to OVN's northbound database was closed")
            if self._connection is None:
                schema = await fetch_schema(self.settings)
                self._connection = await self.call(lambda: OvnConnection(self.settings, schema, self.hub))
            return self._connection

    async def close(self) -> None:
        """Close for good."""
        async with self._connecting:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                await self.call(connection.close)
            self._threads.shutdown(wait=False, cancel_futures=True)


class OvnNorthbound:
    """A handle on the database; see network.NetworkBackend."""

    def __init__(self, settings: OvnSettings) -> None:
        self._link = _Link(settings)
        self._fence: Fence | None = None

    @property
    def counters(self) -> Counters:
        """Return what all handles of the connection did."""
        return self._link.counters

    def fenced(self, fence: Fence | None) -> "OvnNorthbound":
        """Return a handle on the same connection that writes under the token."""
        handle = object.__new__(OvnNorthbound)
        handle._link, handle._fence = self._link, fence
        return handle

    async def _read(self, step: Callable[[Rows], T]) -> T:
        connection = await self._connect()
        return await self._link.call(lambda: connection.read(step))

    async def _write(self, change: Callable[[Rows], object], observe: Callable[[Rows], T]) -> Ensured[T]:
        """Run one transaction under the fence and return what is read back after it."""
        connection, fence = await self._connect(), self._fence
        changed: tuple[str, ...] = ()

        def step(rows: Rows) -> None:
            nonlocal changed
            change(rows)
            changed = rows.changed
            if fence is not None:
                rows.guard(fence)

        def write() -> Ensured[T]:
            committed = connection.write(step)
            self.counters.transactions += committed
            return Ensured(connection.read(observe), changed if committed else ())

        try:
            return await self._link.call(write)
        except BackendError as error:
            self.counters.errors[error.reason] = self.counters.errors.get(error.reason, 0) + 1
            raise

    async def _ensure(
        self, wanted: W, ensure: Callable[[Rows, W], None], observe: Callable[[Rows, str], T | None]
    ) -> Ensured[T]:
        uid = wanted.owner.uid
        done = await self._write(lambda rows: ensure(rows, wanted), lambda rows: observe(rows, uid))
        if done.observed is None:
            raise BackendConflict(f"{uid} was changed in OVN by somebody else while it was written")
        return Ensured(done.observed, done.changed)

    async def _delete(self, uid: str, delete: Callable[[Rows, str], None]) -> None:
        await self._write(lambda rows: delete(rows, uid), lambda rows: None)

    async def _connect(self) -> OvnConnection:
        return await self._link.connect()

    async def ensure_switch(self, wanted: LogicalSwitch) -> Ensured[LogicalSwitch]:
        """Make the switch and its drop group as wanted."""
        return await self._ensure(wanted, ovn_objects.ensure_switch, ovn_objects.observe_switch)

    async def observe_switch(self, uid: str) -> LogicalSwitch | None:
        """Return the switch as it is, or None."""
        return await self._read(lambda rows: ovn_objects.observe_switch(rows, uid))

    async def delete_switch(self, uid: str) -> None:
        """Remove the switch, its drop group and with them its ports."""
        await self._delete(uid, ovn_objects.delete_switch)

    async def ensure_dhcp_options(self, wanted: DhcpOptions) -> Ensured[DhcpOptions]:
        """Make the options as wanted."""
        return await self._ensure(wanted, ovn_objects.ensure_dhcp, ovn_objects.observe_dhcp)

    async def observe_dhcp_options(self, uid: str) -> DhcpOptions | None:
        """Return the options as they are, or None."""
        return await self._read(lambda rows: ovn_objects.observe_dhcp(rows, uid))

    async def delete_dhcp_options(self, uid: str) -> None:
        """Remove the options."""
        await self._delete(uid, ovn_objects.delete_dhcp)

    async def ensure_port(self, wanted: LogicalSwitchPort) -> Ensured[ObservedPort]:
        """Make the port as wanted, a member of its groups and of no other group of ours."""
        return await self._ensure(wanted, ovn_objects.ensure_port, ovn_objects.observe_port)

    async def observe_port(self, uid: str) -> ObservedPort | None:
        """Return the port as it is, or None."""
        return await self._read(lambda rows: ovn_objects.observe_port(rows, uid))

    async def delete_port(self, uid: str) -> None:
        """Remove the port."""
        await self._delete(uid, ovn_objects.delete_port)

    async def ensure_port_group(self, wanted: PortGroup) -> Ensured[ObservedGroup]:
        """Make the group and its ACLs as wanted; its members stay."""
        return await self._ensure(wanted, ovn_objects.ensure_group, ovn_objects.observe_group)

    async def observe_port_group(self, uid: str) -> ObservedGroup | None:
        """Return the group as it is, or None."""
        return await self._read(lambda rows: ovn_objects.observe_group(rows, uid))

    async def delete_port_group(self, uid: str) -> None:
        """Remove the group and its ACLs."""
        await self._delete(uid, ovn_objects.delete_group)

    async def list_owned(self, kind: str) -> Sequence[Owner]:
        """Return the owners that rows carry, of that kind."""
        return await self._read(lambda rows: ovn_objects.list_owned(rows, kind))

    async def changes(self, kinds: Collection[str]) -> AsyncIterator[Change]:
        """Yield what may have changed, for ever, beginning with everything."""
        subscription = self._link.hub.subscribe(kinds)
        async with contextlib.aclosing(subscription):
            while True:
                with contextlib.suppress(BackendUnavailable):
                    await self._connect()
                    break
                await asyncio.sleep(RECONNECT_SECONDS)
            async for change in subscription:
                yield change

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()
