"""SecurityGroup: what traffic its ports may send and receive; everything else is dropped."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.subnet import Prefix
from vcstack.specs.model import Model, Name, RefersTo
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/security-group"
REALIZED = "Realized"
"""True when port group, address sets and ACLs were read back from OVN."""
DEFAULT_NAME = "default"
"""Made in every project: all egress, ingress from its own members."""


class Direction(StrEnum):
    """Seen from the instance."""

    INGRESS = "Ingress"
    EGRESS = "Egress"


class Protocol(StrEnum):
    """The IP protocol."""

    ANY = "Any"
    TCP = "TCP"
    UDP = "UDP"
    ICMP = "ICMP"
    ICMPV6 = "ICMPv6"


class SecurityGroupRule(Model):
    """Traffic that is allowed. Answers to it are allowed too."""

    name: Name
    """Unique in the group."""
    direction: Direction
    """Seen from the instance."""
    protocol: Protocol = Protocol.ANY
    """The IP protocol."""
    port_min: Annotated[int | None, Field(ge=1, le=65535)] = None
    """The first destination port (TCP, UDP); default all."""
    port_max: Annotated[int | None, Field(ge=1, le=65535)] = None
    """The last destination port; default portMin."""
    icmp_type: Annotated[int | None, Field(ge=0, le=255)] = None
    """ICMP's type; default all."""
    icmp_code: Annotated[int | None, Field(ge=0, le=255)] = None
    """ICMP's code; default all."""
    remote_cidr: Prefix | None = None
    """The other side's addresses; default anywhere."""
    remote_security_group: Annotated[Name | None, RefersTo("SecurityGroup")] = None
    """The other side's group; instead of remoteCidr."""


class SecurityGroupSpec(Spec):
    """What is allowed."""

    rules: Annotated[list[SecurityGroupRule], Field(max_length=256)] = Field(default_factory=list)
    """Allowed traffic; order does not matter."""


class SecurityGroupStatus(Status):
    """What was observed of the group."""

    rule_count: int | None = None
    """How many ACLs OVN holds for it."""
    port_count: int | None = None
    """How many ports are in it."""


class SecurityGroup(Resource[SecurityGroupSpec, SecurityGroupStatus]):
    """What traffic its ports may send and receive; everything else is dropped."""

    KIND = "SecurityGroup"
    spec: SecurityGroupSpec = Field(default_factory=SecurityGroupSpec)
    status: SecurityGroupStatus = Field(default_factory=SecurityGroupStatus)


def _check(new: SecurityGroup, old: SecurityGroup | None, referenced: Referenced) -> Sequence[Cause]:
    """Names are unique and each rule's fields fit its protocol."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for i, rule in enumerate(new.spec.rules):
        path = f"spec.rules[{i}]"
        if rule.name in seen:
            causes.append(Cause(field=f"{path}.name", reason="Duplicate", message=f"{rule.name} occurs twice"))
        seen.add(rule.name)
        causes += [Cause(field=f"{path}.{f}", reason="FieldValueInvalid", message=m) for f, m in _faults(rule)]
    return causes


def _faults(rule: SecurityGroupRule) -> Sequence[tuple[str, str]]:
    faults: list[tuple[str, str]] = []
    has_ports = rule.protocol in (Protocol.TCP, Protocol.UDP)
    has_types = rule.protocol in (Protocol.ICMP, Protocol.ICMPV6)
    if rule.port_min is not None and not has_ports:
        faults.append(("portMin", "only TCP and UDP have ports; set protocol or remove it"))
    if rule.port_max is not None and rule.port_min is None:
        faults.append(("portMax", "needs portMin"))
    elif rule.port_max is not None and rule.port_min is not None and rule.port_max < rule.port_min:
        faults.append(("portMax", f"{rule.port_max} is below portMin {rule.port_min}"))
    if rule.icmp_type is not None and not has_types:
        faults.append(("icmpType", "only ICMP and ICMPv6 have types; set protocol or remove it"))
    if rule.icmp_code is not None and rule.icmp_type is None:
        faults.append(("icmpCode", "needs icmpType"))
    if rule.remote_cidr and rule.remote_security_group:
        faults.append(("remoteSecurityGroup", "give remoteCidr or remoteSecurityGroup, not both"))
    if rule.remote_cidr and (
        (rule.protocol is Protocol.ICMP and ":" in rule.remote_cidr)
        or (rule.protocol is Protocol.ICMPV6 and ":" not in rule.remote_cidr)
    ):
        faults.append(("remoteCidr", f"{rule.remote_cidr} is not of the address family of {rule.protocol}"))
    return faults


register(
    KindDefinition(
        model=SecurityGroup,
        plural="securitygroups",
        uid_prefix="sg",
        scope=Scope.PROJECT,
        short_names=("sg",),
        columns=(
            Column("RULES", "status.ruleCount"),
            Column("PORTS", "status.portCount"),
        ),
        view=(ViewColumn("rules", "spec.rules", "jsonb"),),
        ready_when=(REALIZED,),
        finalizers=(FINALIZER,),
        check=_check,
        apply_order=25,
        category="network",
        example={
            "metadata": {"project": "demo", "name": "ssh"},
            "spec": {
                "rules": [
                    {
                        "name": "ssh",
                        "direction": "Ingress",
                        "protocol": "TCP",
                        "portMin": 22,
                        "portMax": 22,
                        "remoteCidr": "0.0.0.0/0",
                    }
                ]
            },
            "status": {"ruleCount": 1, "portCount": 1},
        },
    )
)
