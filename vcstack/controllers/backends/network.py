"""The network backend's protocol: what the controllers want of OVN, as plain values.

The real implementation is ``ovn_nb.py``; ``tests/fakes/ovn_nb.py`` is a small one in memory. Both pass the
same contract tests. All names in OVN derive from uids: a user's strings only ever reach external_ids.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, Self, TypeVar

from vcstack.specs.kinds.network import shell_port_of
from vcstack.specs.resource import AnyResource, Ref

DROP_PRIORITY = 1000
"""Where everything is dropped (ovn-nb(5), ACL.priority: the highest match wins)."""
ALLOW_PRIORITY = 1001
"""Where a security group's rules allow."""
BASE_PRIORITY = 1002
"""Where DHCP and neighbour discovery are let through always."""
ROGUE_PRIORITY = 1003
"""Where what only a router or a DHCP server says is dropped, whatever a security group allows."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that a row belongs to; kept in the row's external_ids."""

    kind: str
    uid: str
    project: str
    name: str

    @classmethod
    def of(cls, resource: AnyResource) -> Self:
        """Return the owner that the resource is."""
        return cls(resource.kind, resource.uid, resource.metadata.project or "", resource.metadata.name)

    @property
    def ref(self) -> Ref:
        """Return its identity in the store."""
        return Ref(self.kind, self.project or None, self.name)


@dataclass(frozen=True, slots=True)
class LogicalSwitch:
    """A network: a Logical_Switch, a Port_Group of all its ports that drops what nobody allows, and the shell's port.

    That one is a Logical_Switch_Port of type localport: it is on every host, its packets never leave it, and a
    host's agent plugs something in only while a shell is open.
    """

    owner: Owner
    mtu_bytes: int
    """Kept in external_ids: OVN tells it by DHCP only."""
    shell_addresses: tuple[str, ...] = ()
    """What the shell's port has: the gateways of its subnets, in order."""


@dataclass(frozen=True, slots=True)
class DhcpOptions:
    """A subnet: one row of DHCP_Options, for DHCPv4 or DHCPv6 by the family of cidr."""

    owner: Owner
    cidr: str
    options: Mapping[str, str]
    """ovn-nb(5), DHCP_Options.options."""


@dataclass(frozen=True, slots=True)
class LogicalSwitchPort:
    """A port: a Logical_Switch_Port and its membership in port groups."""

    owner: Owner
    switch: str
    """The network's uid."""
    mac: str
    addresses: tuple[str, ...] = ()
    """In the order given; together with mac both addresses and port_security."""
    dhcpv4: str | None = None
    """The uid of the subnet whose options are told."""
    dhcpv6: str | None = None
    """The uid of the IPv6 subnet whose options are told."""
    groups: frozenset[str] = frozenset()
    """The uids of its security groups."""


@dataclass(frozen=True, slots=True)
class ObservedPort:
    """A port as read back."""

    port: LogicalSwitchPort
    up: bool
    """ovn-nb(5), Logical_Switch_Port.up: ovn-controller has installed its flows."""


class AclDirection(StrEnum):
    """ovn-nb(5), ACL.direction: seen from the switch."""

    FROM_PORT = "from-lport"
    TO_PORT = "to-lport"


class AclAction(StrEnum):
    """ovn-nb(5), ACL.action."""

    ALLOW = "allow"
    ALLOW_RELATED = "allow-related"
    DROP = "drop"


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One row of ACL."""

    direction: AclDirection
    priority: int
    match: str
    action: AclAction
    rule: str = ""
    """The rule that it comes from, kept in external_ids."""


@dataclass(frozen=True, slots=True)
class PortGroup:
    """A security group: a Port_Group with its ACLs. Ports join and leave by their own rows."""

    owner: Owner
    acls: frozenset[Acl] = frozenset()


@dataclass(frozen=True, slots=True)
class ObservedGroup:
    """A port group as read back."""

    group: PortGroup
    ports: int
    """How many ports are in it."""


@dataclass(frozen=True, slots=True)
class Ensured(Generic[T]):
    """What came of an ensure."""

    observed: T
    """Read back after it."""
    changed: tuple[str, ...] = ()
    """What was written, for people: the parts that were missing, superfluous or other than wanted."""


@dataclass(frozen=True, slots=True)
class Change:
    """Rows of an owner may have changed. Without owner: all of the kind may have."""

    kind: str
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """A leader's token. A transaction with a lower one than the highest seen for its scope is refused."""

    token: int
    scope: str = "network"
    """Controllers that are elected together share a scope."""


@dataclass(slots=True)
class Counters:
    """What the backend did, for metrics and tests."""

    transactions: int = 0
    """Transactions that changed something."""
    errors: dict[str, int] = field(default_factory=dict)
    """Failed calls by error class."""


class NetworkBackend(Protocol):
    """OVN's northbound database.

    ``ensure_*`` is one transaction (none when nothing differs) and returns what was read back;
    ``delete_*`` of what is absent succeeds; rows without our external_ids are never touched.

    Raises (all but changes):
        BackendUnavailable: the database does not answer in time, or the connection is refused.
        BackendNotFound: a row that is referred to is not there (yet).
        BackendConflict: the name belongs to a row of somebody else.
        FencedOut: another leader has written since.
    """

    counters: Counters

    def fenced(self, fence: Fence | None) -> "NetworkBackend":
        """Return a handle on the same connection that writes under the token."""

    async def ensure_switch(self, wanted: LogicalSwitch) -> Ensured[LogicalSwitch]:
        """Make the switch and its drop group as wanted."""

    async def observe_switch(self, uid: str) -> LogicalSwitch | None:
        """Return the switch as it is, or None."""

    async def delete_switch(self, uid: str) -> None:
        """Remove the switch, its drop group and with them its ports."""

    async def ensure_dhcp_options(self, wanted: DhcpOptions) -> Ensured[DhcpOptions]:
        """Make the options as wanted."""

    async def observe_dhcp_options(self, uid: str) -> DhcpOptions | None:
        """Return the options as they are, or None."""

    async def delete_dhcp_options(self, uid: str) -> None:
        """Remove the options."""

    async def ensure_port(self, wanted: LogicalSwitchPort) -> Ensured[ObservedPort]:
        """Make the port as wanted, a member of its groups and of no other group of ours."""

    async def observe_port(self, uid: str) -> ObservedPort | None:
        """Return the port as it is, or None."""

    async def delete_port(self, uid: str) -> None:
        """Remove the port."""

    async def ensure_port_group(self, wanted: PortGroup) -> Ensured[ObservedGroup]:
        """Make the group and its ACLs as wanted; its members stay."""

    async def observe_port_group(self, uid: str) -> ObservedGroup | None:
        """Return the group as it is, or None."""

    async def delete_port_group(self, uid: str) -> None:
        """Remove the group and its ACLs."""

    async def list_owned(self, kind: str) -> Sequence[Owner]:
        """Return the owners that rows carry, of that kind: those that are gone from the store are garbage."""

    def changes(self, kinds: Collection[str]) -> AsyncIterator[Change]:
        """Yield what may have changed, for ever, beginning with everything; changes are merged while unread.

        Also yields everything again after a lost connection.
        """

    async def close(self) -> None:
        """Close the connection."""


def group_name(uid: str) -> str:
    """Return the Port_Group's name: letters, digits and underscores only, as expressions ask for."""
    return uid.replace("-", "_")


def build_drop_acls(network_uid: str) -> frozenset[Acl]:
    """Return the ACLs that every port of a network has: nothing but DHCP, neighbour discovery and MLD passes.

    No port may pass itself off as a DHCP server or redirect others, not even with a rule that allows
    everything; the answers of OVN's own DHCP server pass by northd's flows. Router advertisements are not for
    ACLs to drop: beside stateful ones northd lets them pass by (ls_in_acl, priority 65532). ARP is no IP and
    needs no rule: its senders are checked by port_security. ``nd``, ``nd_rs`` and the like are symbols of
    ovn-sb(5), Logical_Flow.match.

    The shell's port is one of the group and in no security group: it may begin TCP to port 22 of guests, whatever
    theirs say, and nothing else; and nothing but answers gets to it.
    """
    name = group_name(network_uid)
    into, out = f"inport == @{name}", f"outport == @{name}"
    shell = f'inport == "{shell_port_of(network_uid)}"'
    sent, received = AclDirection.FROM_PORT, AclDirection.TO_PORT
    allow = [
        Acl(sent, BASE_PRIORITY, f"{into} && ip4 && udp.src == 68 && udp.dst == 67", AclAction.ALLOW, "dhcpv4"),
        Acl(sent, BASE_PRIORITY, f"{into} && ip6 && udp.src == 546 && udp.dst == 547", AclAction.ALLOW, "dhcpv6"),
        Acl(sent, BASE_PRIORITY, f"{into} && (nd || nd_rs || mldv1 || mldv2)", AclAction.ALLOW, "nd"),
        Acl(received, BASE_PRIORITY, f"{out} && (nd || nd_ra || mldv1 || mldv2)", AclAction.ALLOW, "nd"),
        Acl(sent, BASE_PRIORITY, f"{shell} && tcp.dst == 22", AclAction.ALLOW_RELATED, "shell"),
        Acl(received, BASE_PRIORITY, f"{out} && {shell} && tcp.dst == 22", AclAction.ALLOW_RELATED, "shell"),
    ]
    rogue = [
        Acl(sent, ROGUE_PRIORITY, f"{into} && ip4 && udp.src == 67 && udp.dst == 68", AclAction.DROP, "dhcpv4-server"),
        Acl(
            sent, ROGUE_PRIORITY, f"{into} && ip6 && udp.src == 547 && udp.dst == 546", AclAction.DROP, "dhcpv6-server"
        ),
        Acl(sent, ROGUE_PRIORITY, f"{into} && icmp6.type == 137", AclAction.DROP, "redirect"),
    ]
    drop = [
        Acl(sent, DROP_PRIORITY, f"{into} && ip", AclAction.DROP, "drop"),
        Acl(received, DROP_PRIORITY, f"{out} && ip", AclAction.DROP, "drop"),
    ]
    return frozenset(allow + rogue + drop)
