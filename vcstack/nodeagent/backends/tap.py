"""Tap devices, by pyroute2 over netlink, without a fork and on the agent's own event loop."""

import asyncio
import errno
import fcntl
import os
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from pyroute2 import AsyncIPRoute
from pyroute2 import netns as pyroute2_netns
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_LINK

from vcstack.nodeagent.backends.threads import Threads
from vcstack.nodeagent.names import ALIAS_PREFIX, TAP_PATTERN, tap_alias
from vcstack.runtime.errors import BackendConflict, BackendUnavailable

TIMEOUT_SECONDS = 10.0
DEL_LINK = "RTM_DELLINK"
TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
"""linux/if_tun.h"""
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
"""linux/if_tun.h: frames without a header of the kernel's, with virtio-net's, as QEMU opens it."""


@dataclass(frozen=True, slots=True)
class Tap:
    """A tap device as observed."""

    name: str
    instance: str | None
    """The uid in its alias; None: not marked."""
    mtu: int
    up: bool
    held: bool
    """Whether a process has it open: a tap's carrier is on as long as one does."""


class Taps(Protocol):
    """What the realizers need of tap devices."""

    async def list_taps(self) -> dict[str, Tap]:
        """Return those that may be ours, by name."""

    async def ensure_tap(self, name: str, instance: str, mtu: int) -> None:
        """Make the device, marked, up and with that MTU."""

    async def delete_tap(self, name: str) -> None:
        """Remove the device. Absent is success."""

    def events(self) -> AsyncIterator[str | None]:
        """Yield the uids of instances that lost a device; None: anything may have happened."""


class NetlinkTaps:
    """The Taps protocol on the kernel's. ``netns`` names another network namespace, for tests."""

    def __init__(self, *, netns: str | None = None) -> None:
        self._netns = netns
        self._route: Any = None
        self._lock = asyncio.Lock()
        self._threads = Threads("tap", 1, TIMEOUT_SECONDS)

    async def start(self) -> None:
        """Open the netlink socket."""
        self._route = await self._open()

    async def close(self) -> None:
        """Close the netlink socket."""
        if self._route is not None:
            await _close(self._route)
            self._route = None
        self._threads.close()

    async def list_taps(self) -> dict[str, Tap]:
        """Return those that may be ours, by name."""
        found = [_read(m) for m in await self._call("dump")]
        return {t.name: t for t in found if TAP_PATTERN.fullmatch(t.name)}

    async def ensure_tap(self, name: str, instance: str, mtu: int) -> None:
        """Make the device, marked, up and with that MTU."""
        tap = await self._find(name)
        if tap is None:
            await self._threads.run(_create, name, self._netns)
        elif tap.instance not in (None, instance):
            raise BackendConflict(f"{name} belongs to instance {tap.instance}, not to {instance}")
        if tap is None or not tap.up or tap.mtu != mtu or tap.instance is None:
            await self._call("set", ifname=name, state="up", mtu=mtu, ifalias=tap_alias(instance))

    async def delete_tap(self, name: str) -> None:
        """Remove the device. Absent is success."""
        try:
            await self._call("del", ifname=name)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise

    async def events(self) -> AsyncIterator[str | None]:
        """Yield the uids of instances that lost a device; None: anything may have happened."""
        route = await self._open()
        try:
            await route.bind(groups=RTMGRP_LINK)
            yield None
            while True:
                async for message in route.get():
                    tap = _read(message) if message.get("event") == DEL_LINK else None
                    if tap is not None and tap.instance:
                        yield tap.instance
        finally:
            await _close(route)

    async def _find(self, name: str) -> Tap | None:
        try:
            messages = await self._call("get", ifname=name)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        return _read(messages[0]) if messages else None

    async def _open(self) -> Any:
        route = AsyncIPRoute(netns=self._netns) if self._netns else AsyncIPRoute()
        await route.setup_endpoint()
        return route

    async def _call(self, command: str, **arguments: Any) -> list[Any]:
        """Do one netlink request. One at a time: devices are added by several steps on one socket."""
        if self._route is None:
            raise BackendUnavailable("netlink is not open")
        try:
            async with self._lock, asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._route.link(command, **arguments)
                return [m async for m in answer] if hasattr(answer, "__aiter__") else list(answer)
        except TimeoutError as error:
            raise BackendUnavailable(f"netlink: link {command} took longer than {TIMEOUT_SECONDS:g} s") from error


def _create(name: str, netns: str | None) -> None:
    """Make the device so that it stays. pyroute2 would fork a process for it, 20 ms and a risk among threads."""
    if netns:
        pyroute2_netns.setns(netns)  # this thread's only
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
    except OSError as error:
        if error.errno != errno.EBUSY:  # a process holds it: it is there
            raise BackendUnavailable(f"tap {name}: {error}") from error
    finally:
        os.close(descriptor)


def _read(message: Any) -> Tap:
    alias = message.get("ifalias") or ""
    return Tap(
        name=str(message.get("ifname")),
        instance=alias.removeprefix(ALIAS_PREFIX) if alias.startswith(ALIAS_PREFIX) else None,
        mtu=int(message.get("mtu") or 0),
        up=bool(message["flags"] & 1),
        held=bool(message.get("carrier")),
    )


async def _close(route: Any) -> None:
    closing = route.close()
    if asyncio.iscoroutine(closing):
        await closing
