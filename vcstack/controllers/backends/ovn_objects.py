"""Switches, DHCP options, ports and port groups as rows: ensure, observe, delete.

Each ensure runs inside one transaction; each observe reads the replica. See ovn-nb(5) for the columns.
"""

from collections import Counter
from collections.abc import Iterable

from vcstack.controllers.backends.network import (
    Acl,
    AclAction,
    AclDirection,
    DhcpOptions,
    LogicalSwitch,
    LogicalSwitchPort,
    ObservedGroup,
    ObservedPort,
    Owner,
    PortGroup,
    build_drop_acls,
    group_name,
)
from vcstack.controllers.backends.ovn_rows import (
    ACL,
    DHCP,
    GROUP,
    KIND,
    PORT,
    PREFIX,
    SWITCH,
    UID,
    Row,
    Rows,
    build_ids,
    read_owner,
)
from vcstack.runtime.errors import BackendNotFound
from vcstack.specs.kinds.network import shell_mac_of, shell_port_of

MTU, RULE = PREFIX + "mtu", PREFIX + "rule"


def ensure_switch(rows: Rows, wanted: LogicalSwitch) -> None:
    """Logical_Switch named by the uid, the port that shells come from, and the Port_Group that drops."""
    row, twins = rows.claim_named(SWITCH, wanted.owner.uid, wanted.owner)
    for twin in twins:
        rows.delete(twin)
    ids, shell = build_ids(wanted.owner, mtu=str(wanted.mtu_bytes)), _ensure_shell_port(rows, wanted)
    if row is None:
        rows.insert(SWITCH, name=wanted.owner.uid, external_ids=ids, ports=[shell])
    else:
        rows.write(row, external_ids=ids)
        rows.join(row, "ports", shell)
    ensure_group(rows, PortGroup(wanted.owner, build_drop_acls(wanted.owner.uid)), shell)


def _ensure_shell_port(rows: Rows, wanted: LogicalSwitch) -> Row:
    """Logical_Switch_Port of type localport, on no other switch."""
    name = shell_port_of(wanted.owner.uid)
    row, _ = rows.claim_named(PORT, name, wanted.owner)
    address = " ".join((shell_mac_of(wanted.owner.uid), *wanted.shell_addresses))
    for holder in rows.holders(SWITCH, "ports", row) if row is not None else ():
        if holder.name != wanted.owner.uid:
            rows.leave(holder, "ports", row)
    return rows.write_or_insert(
        PORT,
        row,
        name=name,
        type="localport",
        addresses=[address],
        port_security=[address],
        enabled=[],
        external_ids=build_ids(wanted.owner),
    )


def observe_switch(rows: Rows, uid: str) -> LogicalSwitch | None:
    """Return the switch; None also when its drop group or the shell's port is not as it has to be."""
    row = _find(rows, SWITCH, uid, uid)
    owner = read_owner(row) if row else None
    drops = observe_group(rows, uid)
    if row is None or owner is None or drops is None or drops.group.acls != build_drop_acls(uid):
        return None
    addresses = _observe_shell_port(rows, row)
    if addresses is None:
        return None
    mtu = row.external_ids.get(MTU, "")
    return LogicalSwitch(owner, int(mtu) if mtu.isdecimal() else 0, addresses)


def _observe_shell_port(rows: Rows, switch: Row) -> tuple[str, ...] | None:
    """Return the addresses of the switch's port for shells, None when it is not as it has to be."""
    uid = switch.name
    row, group = _find(rows, PORT, shell_port_of(uid), uid), _find(rows, GROUP, group_name(uid), uid)
    if row is None or group is None or row.type != "localport" or row.enabled == [False]:
        return None
    words = " ".join(row.addresses).split()
    placed = rows.contains(switch, "ports", row) and rows.contains(group, "ports", row)
    if not placed or row.addresses != row.port_security or words[:1] != [shell_mac_of(uid)]:
        return None
    return tuple(words[1:])


def delete_switch(rows: Rows, uid: str) -> None:
    """Remove the switch with its ports (strongly referred to), and the drop group."""
    for row in rows.named(SWITCH, uid):
        if row.external_ids.get(UID) == uid:
            rows.delete(row)
    delete_group(rows, uid)


def ensure_dhcp(rows: Rows, wanted: DhcpOptions) -> None:
    """DHCP_Options found by the uid in external_ids: it has no name."""
    found = sorted(rows.find_owned(DHCP, wanted.owner.uid), key=lambda r: str(r.uuid))
    for twin in found[1:]:
        rows.delete(twin)
    rows.write_or_insert(
        DHCP,
        found[0] if found else None,
        cidr=wanted.cidr,
        options=dict(wanted.options),
        external_ids=build_ids(wanted.owner),
    )


def observe_dhcp(rows: Rows, uid: str) -> DhcpOptions | None:
    """Return the options; None also when there are two rows of them."""
    found = rows.find_owned(DHCP, uid)
    owner = read_owner(found[0]) if len(found) == 1 else None
    return DhcpOptions(owner, found[0].cidr, dict(found[0].options)) if owner else None


def delete_dhcp(rows: Rows, uid: str) -> None:
    """Remove the options; ports lose their weak reference by themselves."""
    for row in rows.find_owned(DHCP, uid):
        rows.delete(row)


def ensure_port(rows: Rows, wanted: LogicalSwitchPort) -> None:
    """Logical_Switch_Port named by the uid, on its switch, in its groups and the switch's drop group."""
    switch = _need(rows, SWITCH, wanted.switch, wanted.switch, "logical switch")
    names = {wanted.switch: "drop group"} | dict.fromkeys(sorted(wanted.groups), "port group")
    groups = [_need(rows, GROUP, group_name(uid), uid, what) for uid, what in names.items()]
    row, _ = rows.claim_named(PORT, wanted.owner.uid, wanted.owner)
    address = " ".join((wanted.mac, *wanted.addresses))
    is_new = row is None
    row = rows.write_or_insert(
        PORT,
        row,
        name=wanted.owner.uid,
        type="",
        addresses=[address],
        port_security=[address],
        enabled=[],
        dhcpv4_options=_dhcp_of(rows, wanted.dhcpv4),
        dhcpv6_options=_dhcp_of(rows, wanted.dhcpv6),
        external_ids=build_ids(wanted.owner),
    )
    for holder in [] if is_new else rows.holders(SWITCH, "ports", row):
        if holder.uuid != switch.uuid:
            rows.leave(holder, "ports", row)
    rows.join(switch, "ports", row)
    _ensure_membership(rows, row, groups)


def _ensure_membership(rows: Rows, port: Row, groups: list[Row]) -> None:
    """Let the port be in these groups and in no other of ours."""
    wanted = {g.uuid for g in groups}
    for group in rows.holders(GROUP, "ports", port):
        if group.uuid not in wanted and read_owner(group) is not None:
            rows.leave(group, "ports", port)
    for group in groups:
        rows.join(group, "ports", port)


def observe_port(rows: Rows, uid: str) -> ObservedPort | None:
    """Return the port; what does not fit our notion of one reads as something else than wanted."""
    row = _find(rows, PORT, uid, uid)
    owner = read_owner(row) if row else None
    switch = next(rows.holders(SWITCH, "ports", row), None) if row else None
    if row is None or owner is None or switch is None:
        return None
    words = " ".join(row.addresses).split()
    members = {g.external_ids.get(UID, "") for g in rows.holders(GROUP, "ports", row)}
    secure = row.addresses == row.port_security and row.enabled != [False] and switch.name in members
    port = LogicalSwitchPort(
        owner,
        switch.name if secure else "",
        words[0] if words else "",
        tuple(words[1:]),
        _owner_uid(row.dhcpv4_options),
        _owner_uid(row.dhcpv6_options),
        frozenset(members - {switch.name, ""}),
    )
    return ObservedPort(port, row.up == [True])


def delete_port(rows: Rows, uid: str) -> None:
    """Remove the port from its switch; groups lose their weak reference by themselves."""
    row = _find(rows, PORT, uid, uid)
    if row is None:
        return
    for switch in list(rows.holders(SWITCH, "ports", row)):
        rows.leave(switch, "ports", row)
    rows.delete(row)


def ensure_group(rows: Rows, wanted: PortGroup, *members: Row) -> None:
    """Port_Group named after the uid, with exactly these ACLs; its members stay, and these join."""
    name = group_name(wanted.owner.uid)
    row, _ = rows.claim_named(GROUP, name, wanted.owner)
    ids = build_ids(wanted.owner)
    if row is None:
        added = [_insert_acl(rows, acl, wanted.owner) for acl in sorted(wanted.acls)]
        rows.insert(GROUP, name=name, external_ids=ids, acls=added, ports=list(members))
        return
    rows.write(row, external_ids=ids)
    for member in members:
        rows.join(row, "ports", member)
    missing = set(wanted.acls)
    for found in row.acls:
        acl = _read_acl(found, wanted.owner)
        if acl in missing:
            missing.discard(acl)
        else:
            row.delvalue("acls", found)
            rows.delete(found)
    for acl in sorted(missing):
        rows.join(row, "acls", _insert_acl(rows, acl, wanted.owner))


def observe_group(rows: Rows, uid: str) -> ObservedGroup | None:
    """Return the group; an ACL that is not ours, or there twice, reads as None."""
    row = _find(rows, GROUP, group_name(uid), uid)
    owner = read_owner(row) if row else None
    if row is None or owner is None:
        return None
    counted = Counter(_read_acl(found, owner) for found in row.acls)
    if None in counted or max(counted.values(), default=1) > 1:
        return None
    return ObservedGroup(PortGroup(owner, frozenset(a for a in counted if a)), len(row._data["ports"].values))


def delete_group(rows: Rows, uid: str) -> None:
    """Remove the group; its ACLs go with it."""
    row = _find(rows, GROUP, group_name(uid), uid)
    if row is not None:
        rows.delete(row)


def list_owned(rows: Rows, kind: str) -> list[Owner]:
    """Return the owners of that kind that rows carry, each once."""
    owners = (read_owner(r) for table in (SWITCH, PORT, GROUP, DHCP) for r in rows.all(table))
    return list({o.uid: o for o in owners if o is not None and o.kind == kind}.values())


def _insert_acl(rows: Rows, acl: Acl, owner: Owner) -> Row:
    return rows.insert(
        ACL,
        direction=str(acl.direction),
        priority=acl.priority,
        match=acl.match,
        action=str(acl.action),
        external_ids=build_ids(owner, rule=acl.rule),
    )


def _read_acl(row: Row, owner: Owner) -> Acl | None:
    """Return the ACL, or None when somebody made it or changed what we never set."""
    ids = row.external_ids
    if ids.get(UID) != owner.uid or ids.get(KIND) != owner.kind or row.log or row.name:
        return None
    try:
        return Acl(AclDirection(row.direction), row.priority, row.match, AclAction(row.action), ids.get(RULE, ""))
    except ValueError:  # allow-stateless, reject: not one of ours
        return None


def _find(rows: Rows, table: str, name: str, uid: str) -> Row | None:
    return next((r for r in rows.named(table, name) if r.external_ids.get(UID) == uid), None)


def _need(rows: Rows, table: str, name: str, uid: str, what: str) -> Row:
    row = _find(rows, table, name, uid)
    if row is None:
        raise BackendNotFound(f"the {what} {name} is not in OVN (yet)")
    return row


def _dhcp_of(rows: Rows, uid: str | None) -> list[Row]:
    if uid is None:
        return []
    found = sorted(rows.find_owned(DHCP, uid), key=lambda r: str(r.uuid))
    if not found:
        raise BackendNotFound(f"the DHCP options of subnet {uid} are not in OVN (yet)")
    return found[:1]


def _owner_uid(reference: Iterable[Row]) -> str | None:
    return next((r.external_ids.get(UID) for r in reference), None)
