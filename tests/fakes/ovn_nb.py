"""A small network backend in memory, held to the contract tests of the real one.

What it keeps are the protocol's own values; tests may `remove` and `edit` behind the controllers' back, let a
port come up, and make it fail.
"""

import dataclasses
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Any

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
from vcstack.runtime.errors import BackendConflict, BackendNotFound
from vcstack.specs.errors import FencedOut


@dataclasses.dataclass
class State:
    """What survives a restart of the controllers."""

    rows: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=lambda: {"Network": {}, "Subnet": {}, "Port": {}, "SecurityGroup": {}}
    )
    """kind → uid → what is wanted of it."""
    up: set[str] = dataclasses.field(default_factory=set)
    fences: dict[str, int] = dataclasses.field(default_factory=dict)
    failure: Exception | None = None
    calls: list[str] = dataclasses.field(default_factory=list)
    hub: ChangeHub = dataclasses.field(default_factory=ChangeHub)
    counters: Counters = dataclasses.field(default_factory=Counters)


class FakeOvn:
    """OVN's northbound database, in memory."""

    def __init__(self, state: State | None = None, fence: Fence | None = None) -> None:
        self.state = state or State()
        self._fence = fence

    @property
    def counters(self) -> Counters:
        return self.state.counters

    def fenced(self, fence: Fence | None) -> "FakeOvn":
        return FakeOvn(self.state, fence)

    # what tests do behind the controllers' back

    def remove(self, kind: str, uid: str) -> None:
        self._put(kind, uid, None)

    def edit(self, kind: str, uid: str, **fields: Any) -> None:
        self._put(kind, uid, dataclasses.replace(self.state.rows[kind][uid], **fields))

    def set_up(self, uid: str, up: bool = True) -> None:
        (self.state.up.add if up else self.state.up.discard)(uid)
        self._tell("Port", uid)

    # the protocol

    async def ensure_switch(self, wanted: LogicalSwitch) -> Ensured[LogicalSwitch]:
        return self._ensure("ensure_switch", wanted)

    async def observe_switch(self, uid: str) -> LogicalSwitch | None:
        return self._observe("Network", uid)

    async def delete_switch(self, uid: str) -> None:
        self._call("delete_switch")
        self._put("Network", uid, None)

    async def ensure_dhcp_options(self, wanted: DhcpOptions) -> Ensured[DhcpOptions]:
        return self._ensure("ensure_dhcp_options", wanted)

    async def observe_dhcp_options(self, uid: str) -> DhcpOptions | None:
        return self._observe("Subnet", uid)

    async def delete_dhcp_options(self, uid: str) -> None:
        self._call("delete_dhcp_options")
        self._put("Subnet", uid, None)

    async def ensure_port(self, wanted: LogicalSwitchPort) -> Ensured[ObservedPort]:
        needed = [("Network", wanted.switch), *(("SecurityGroup", g) for g in sorted(wanted.groups))]
        needed += [("Subnet", s) for s in (wanted.dhcpv4, wanted.dhcpv6) if s is not None]
        for kind, uid in needed:
            if uid not in self.state.rows[kind]:
                raise BackendNotFound(f"{uid} is not in OVN (yet)")
        changed = self._ensure("ensure_port", wanted).changed
        return Ensured(self._port(wanted.owner.uid), changed)

    async def observe_port(self, uid: str) -> ObservedPort | None:
        return self._port(uid) if self._observe("Port", uid) else None

    async def delete_port(self, uid: str) -> None:
        self._call("delete_port")
        self._put("Port", uid, None)
        self.state.up.discard(uid)

    async def ensure_port_group(self, wanted: PortGroup) -> Ensured[ObservedGroup]:
        changed = self._ensure("ensure_port_group", wanted).changed
        return Ensured(self._group(wanted.owner.uid), changed)

    async def observe_port_group(self, uid: str) -> ObservedGroup | None:
        return self._group(uid) if self._observe("SecurityGroup", uid) else None

    async def delete_port_group(self, uid: str) -> None:
        self._call("delete_port_group")
        self._put("SecurityGroup", uid, None)

    async def list_owned(self, kind: str) -> Sequence[Owner]:
        self._fail()
        return [wanted.owner for wanted in self.state.rows[kind].values()]

    def changes(self, kinds: Collection[str]) -> AsyncIterator[Change]:
        return self.state.hub.subscribe(kinds)

    async def close(self) -> None:
        pass

    # how it works

    def _fail(self) -> None:
        if self.state.failure is not None:
            raise self.state.failure

    def _call(self, name: str) -> None:
        self.state.calls.append(name)
        self._fail()
        if self._fence is not None:
            seen = self.state.fences.get(self._fence.scope, 0)
            if seen > self._fence.token:
                raise FencedOut(f"token {self._fence.token} was superseded by {seen}")
            self.state.fences[self._fence.scope] = self._fence.token

    def _ensure(self, name: str, wanted: Any) -> Ensured[Any]:
        self._call(name)
        owner: Owner = wanted.owner
        found = self.state.rows[owner.kind].get(owner.uid)
        if found is not None and found.owner.uid != owner.uid:
            raise BackendConflict(f"{owner.uid} belongs to {found.owner.uid}")
        if found == wanted:
            return Ensured(wanted)
        self._put(owner.kind, owner.uid, wanted)
        self.state.counters.transactions += 1
        return Ensured(wanted, tuple(_compare(owner.kind, found, wanted)))

    def _observe(self, kind: str, uid: str) -> Any:
        self._fail()
        return self.state.rows[kind].get(uid)

    def _put(self, kind: str, uid: str, value: Any) -> None:
        rows = self.state.rows
        found = rows[kind].get(uid)
        self._tell(kind, uid)
        if value is not None:
            rows[kind][uid] = value
            self._tell(kind, uid)
            return
        rows[kind].pop(uid, None)
        for port_uid, port in list(rows["Port"].items()) if found is not None else []:
            if kind == "Network" and port.switch == uid:
                self._put("Port", port_uid, None)
            elif kind == "SecurityGroup" and uid in port.groups:
                self._put("Port", port_uid, dataclasses.replace(port, groups=port.groups - {uid}))
            elif kind == "Subnet" and uid in (port.dhcpv4, port.dhcpv6):
                v4, v6 = (None if s == uid else s for s in (port.dhcpv4, port.dhcpv6))
                self._put("Port", port_uid, dataclasses.replace(port, dhcpv4=v4, dhcpv6=v6))

    def _tell(self, kind: str, uid: str) -> None:
        found = self.state.rows[kind].get(uid)
        if found is not None:
            self.state.hub.publish(Change(kind, found.owner))

    def _port(self, uid: str) -> ObservedPort:
        port: LogicalSwitchPort = self.state.rows["Port"][uid]
        return ObservedPort(port, uid in self.state.up)

    def _group(self, uid: str) -> ObservedGroup:
        members = sum(uid in p.groups for p in self.state.rows["Port"].values())
        return ObservedGroup(self.state.rows["SecurityGroup"][uid], members)


def _compare(kind: str, found: Any, wanted: Any) -> Iterator[str]:
    if found is None:
        yield f"{kind} was missing"
        return
    for field in dataclasses.fields(wanted):
        if getattr(found, field.name) != getattr(wanted, field.name):
            yield f"{kind} had other {field.name}"
