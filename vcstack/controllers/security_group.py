"""SecurityGroup → OVN port group with ACLs.

Everything is dropped by the network's own ACLs; a group only allows. Answers pass because the rules are
stateful (allow-related). The other side's group is OVN's own address set of that port group.
"""

from collections.abc import Iterable, Iterator, Mapping

from vcstack.controllers.backends.network import (
    ALLOW_PRIORITY,
    Acl,
    AclAction,
    AclDirection,
    NetworkBackend,
    Owner,
    PortGroup,
    group_name,
)
from vcstack.controllers.backends.network_sources import OwnedRows, Throttle, Wake, build_backend, ignore
from vcstack.controllers.backends.repairs import Repairs
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.errors import BackendConflict
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, hold_shown, write_status
from vcstack.runtime.users import ensure_unused, name_some, refuse_deletion, watch_users
from vcstack.specs.kinds.port import REALIZED as PORT_REALIZED
from vcstack.specs.kinds.port import Port, security_groups_of
from vcstack.specs.kinds.securitygroup import (
    FINALIZER,
    REALIZED,
    Direction,
    Protocol,
    SecurityGroup,
    SecurityGroupRule,
)
from vcstack.specs.meta import Condition
from vcstack.specs.resource import Ref

COUNT_SECONDS = 2.0
"""The number of ports is written at most this often; ports that come and go meanwhile are gathered."""


def build_acls(group: SecurityGroup, remotes: Mapping[str, str]) -> frozenset[Acl]:
    """Return the ACLs of the rules; a rule whose remote group's uid is not known has none."""
    return frozenset(acl for rule in group.spec.rules for acl in _acls_of(rule, group.uid, remotes))


def _acls_of(rule: SecurityGroupRule, uid: str, remotes: Mapping[str, str]) -> Iterator[Acl]:
    inward = rule.direction is Direction.INGRESS
    direction = AclDirection.TO_PORT if inward else AclDirection.FROM_PORT
    port = f"outport == @{group_name(uid)}" if inward else f"inport == @{group_name(uid)}"
    for remote in _remotes_of(rule, "src" if inward else "dst", remotes):
        match = " && ".join(part for part in (port, remote, *_service_of(rule)) if part)
        yield Acl(direction, ALLOW_PRIORITY, match, AclAction.ALLOW_RELATED, rule.name)


def _remotes_of(rule: SecurityGroupRule, side: str, remotes: Mapping[str, str]) -> Iterator[str]:
    """Yield one expression for the other side for each address family that the rule is about."""
    families = {Protocol.ICMP: (4,), Protocol.ICMPV6: (6,)}.get(rule.protocol, (4, 6))
    if rule.remote_security_group is not None:
        uid = remotes.get(rule.remote_security_group)
        for family in families if uid is not None else ():
            yield f"ip{family} && ip{family}.{side} == ${group_name(uid or '')}_ip{family}"
    elif rule.remote_cidr is not None:
        family = 6 if ":" in rule.remote_cidr else 4
        anywhere = rule.remote_cidr.endswith("/0")
        yield f"ip{family}" if anywhere else f"ip{family} && ip{family}.{side} == {rule.remote_cidr}"
    else:
        yield "ip" if families == (4, 6) else f"ip{families[0]}"


def _service_of(rule: SecurityGroupRule) -> Iterator[str]:
    """Yield the expressions for protocol, ports, type and code: ovn-sb(5), Logical_Flow.match."""
    name = {Protocol.TCP: "tcp", Protocol.UDP: "udp", Protocol.ICMP: "icmp4", Protocol.ICMPV6: "icmp6"}.get(
        rule.protocol
    )
    if name is None:
        return
    yield name
    if rule.port_min is not None:
        last = rule.port_max or rule.port_min
        single = last == rule.port_min
        yield f"{name}.dst == {rule.port_min}" if single else f"{rule.port_min} <= {name}.dst <= {last}"
    if rule.icmp_type is not None:
        yield f"{name}.type == {rule.icmp_type}"
    if rule.icmp_code is not None:
        yield f"{name}.code == {rule.icmp_code}"


def groups_of(port: Port) -> set[Ref]:
    """Return the groups that the port is in, the default one included."""
    return {Ref("SecurityGroup", port.metadata.project, name) for name in security_groups_of(port.spec)}


def remotes_of(group: SecurityGroup) -> set[Ref]:
    """Return the groups that its rules name."""
    names = {rule.remote_security_group for rule in group.spec.rules if rule.remote_security_group}
    return {Ref("SecurityGroup", group.metadata.project, name) for name in names}


class SecurityGroupReconciler:
    """Keeps one port group a security group; deletes it when no port and no other group uses it."""

    def __init__(self, context: ControllerContext, backend: NetworkBackend) -> None:
        self._context = context
        self._backend = backend
        self._repairs = Repairs(context.events)
        self._groups = context.informer(SecurityGroup)
        self._counting = Throttle(context.clock, COUNT_SECONDS)

    async def reconcile(self, resource: SecurityGroup | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if resource is None:
            return None
        if resource.deleting:
            await self._finalize(resource)
            return None
        return await self._ensure_group(resource)

    async def _finalize(self, group: SecurityGroup) -> None:
        if FINALIZER not in group.metadata.finalizers:
            return
        await ensure_unused(self._context, group)
        page = await self._context.client.list(Port, project=group.metadata.project)
        members = sorted(p.ref for p in page.items if group.ref in groups_of(p))
        if members:
            message = f"{name_some(members)} are in it; delete them or change their securityGroups first."
            await refuse_deletion(self._context, group, "InUse", message)
        async with hold_shown(self._context.client, group, REALIZED, clock=self._context.clock):
            await self._backend.delete_port_group(group.uid)
        await self._context.client.remove_finalizer(group, FINALIZER)
        self._counting.forget(group.uid)
        self._repairs.forget(group.uid)

    async def _ensure_group(self, group: SecurityGroup) -> Result | None:
        client, clock = self._context.client, self._context.clock
        found = {ref.name: self._groups.get(ref) for ref in remotes_of(group)}
        missing = sorted(name for name, remote in found.items() if remote is None)
        wanted = PortGroup(Owner.of(group), build_acls(group, {n: r.uid for n, r in found.items() if r is not None}))
        async with hold_shown(client, group, REALIZED, clock=clock):
            ensured = await self._backend.ensure_port_group(wanted)
            observed = ensured.observed
            if observed.group != wanted:
                raise BackendConflict("the port group in OVN was changed meanwhile; it is looked at again")
        self._repairs.note(group, wanted, ensured.changed)
        fields = {"ruleCount": len(observed.group.acls)}
        wait = self._counting.remaining(group.uid)
        if not wait:
            fields["portCount"] = observed.ports
            if observed.ports != group.status.port_count:
                self._counting.note(group.uid)
        await write_status(client, group, fields=fields, conditions=[self._build_realized(group, missing)])
        return Result(requeue_after=wait) if wait else None

    def _build_realized(self, group: SecurityGroup, missing: list[str]) -> Condition:
        clock = self._context.clock
        if not missing:
            return condition_of(group, REALIZED, True, "RulesFound", clock=clock)
        message = f"Rules name groups that do not exist: {', '.join(missing)}. Create them or change the rules."
        return condition_of(group, REALIZED, False, "RemoteGroupMissing", message, clock=clock)


def build(context: ControllerContext) -> Controller:
    """Return the controller of security groups."""
    backend = build_backend(context, "security_group")
    rows = OwnedRows(context, backend, SecurityGroup, backend.delete_port_group)
    groups, ports = context.informer(SecurityGroup), context.informer(Port)
    groups.add_index("remotes", remotes_of)
    counted, named = Wake(context.clock, COUNT_SECONDS / 2), Wake(context.clock)

    def joined_or_left(old: Port | None, new: Port | None) -> Iterable[Ref]:
        before, after = ((groups_of(p), p.is_true(PORT_REALIZED)) if p else (set(), False) for p in (old, new))
        return before[0] | after[0] if before != after else ()

    def came_or_went(old: SecurityGroup | None, new: SecurityGroup | None) -> Iterable[Ref]:
        changed = new if old is None else old if new is None else None
        return [g.ref for g in groups.by_index("remotes", changed.ref)] if changed is not None else ()

    return context.controller(
        SecurityGroupReconciler(context, backend),
        SecurityGroup,
        name="security_group",
        watches={Port: ignore, **watch_users(context, SecurityGroup)},
        sources=(*rows.sources, counted.stream, named.stream),
        listeners=((ports, counted.on(joined_or_left)), (groups, named.on(came_or_went))),
    )
