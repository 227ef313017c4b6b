"""Network: a layer 2 segment, an OVN logical switch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.macs import SERVER_MAC_PREFIX, build_mac
from vcstack.specs.model import Change, Model, Name, Takes, split_lent
from vcstack.specs.registry import (
    Column,
    KindDefinition,
    Reference,
    Referenced,
    Scope,
    ViewColumn,
    register,
)
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/network"
REALIZED = "Realized"
"""True when the logical switch was read back from OVN."""
SHARED = "Shared"
"""About what is shared: False when something is left to do for people. Not part of Ready."""
DEFAULT_MTU_BYTES = 1442
"""1500 of the underlay less 58 for Geneve over IPv4 (lab-measured)."""


class Share(Model):
    """Who may use the network: give one of the two."""

    project: Name | None = None
    """A project."""
    domain: Name | None = None
    """All projects of a domain and of those below it."""


class NetworkSpec(Spec):
    """What the segment is to be."""

    mtu_bytes: Annotated[int | None, Field(ge=1280, le=8942), Takes(Change.REBOOT)] = None
    """MTU that guests are told; default 1442, which fits an underlay of 1500."""
    shared_with: Annotated[list[Share], Field(max_length=64)] = Field(default_factory=list)
    """Others whose ports and instances may be on it, by the name PROJECT/NETWORK. They see its subnets, but none of
    its ports, and change nothing. Ports that are on it stay when somebody is taken out."""


class SharedTo(Model):
    """For whom the network was meant to be when it was shared."""

    project: Name | None = None
    """The project."""
    domain: Name | None = None
    """The domain."""
    uid: str
    """Its uid: one made later under the same name gets nothing."""
    port_count: int = 0
    """How many of its ports are on the network."""


class NetworkStatus(Status):
    """What was observed of the segment."""

    mtu_bytes: int | None = None
    """The MTU in force."""
    shared_with: list[SharedTo] | None = None
    """Those that it is shared with, and those that it was shared with while ports of them are left."""


class Network(Resource[NetworkSpec, NetworkStatus]):
    """A layer 2 segment that ports attach to, of its own project and of those that it is shared with."""

    KIND = "Network"
    spec: NetworkSpec = Field(default_factory=NetworkSpec)
    status: NetworkStatus = Field(default_factory=NetworkStatus)


def shell_port_of(network_uid: str) -> str:
    """Return the logical switch port that shells come from."""
    return f"{network_uid}-shell"


def shell_mac_of(network_uid: str) -> str:
    """Return the MAC address of the port that shells come from."""
    return build_mac(network_uid, prefix=SERVER_MAC_PREFIX)


def network_ref(name: str, home: str | None) -> Ref:
    """Return the network that NAME or PROJECT/NAME means in a project."""
    project, bare = split_lent(name, home)
    return Ref(Network.KIND, project, bare)


def is_shared_with(wire: Mapping[str, Any], scopes: Mapping[tuple[str, str], str]) -> bool:
    """Return whether a network is shared with somebody; pure, on the wire object.

    Args:
        wire: the network.
        scopes: the borrower's project and the domains that it lies in: ("project" or "domain", name) to uid.
    """
    meant = {_target(s): s["uid"] for s in (wire.get("status") or {}).get("sharedWith") or ()}
    # What was shared just now is not in status yet: the project that is there is the one that was meant.
    return any(
        target in scopes and meant.get(target, scopes[target]) == scopes[target]
        for target in map(_target, (wire.get("spec") or {}).get("sharedWith") or ())
    )


def _target(share: Mapping[str, Any]) -> tuple[str, str]:
    project = share.get("project")
    return ("project", project) if project else ("domain", str(share.get("domain")))


def target_of(share: Share | SharedTo) -> tuple[str, str]:
    """Return what is shared with: project or domain, and its name."""
    return ("project", share.project) if share.project else ("domain", share.domain or "")


def _check(new: Network, old: Network | None, referenced: Referenced) -> Sequence[Cause]:
    """Each share names a project or a domain, once, and not the network's own project."""
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for i, share in enumerate(new.spec.shared_with):
        path = f"spec.sharedWith[{i}]"
        if bool(share.project) == bool(share.domain):
            causes.append(Cause(field=path, reason="FieldValueInvalid", message="give project or domain, one of them"))
            continue
        if share.project == new.metadata.project:
            message = "is the network's own project, which needs no share; leave it out"
            causes.append(Cause(field=f"{path}.project", reason="FieldValueInvalid", message=message))
        if target_of(share) in seen:
            causes.append(Cause(field=path, reason="Duplicate", message="occurs twice; leave one out"))
        seen.add(target_of(share))
    return causes


def _must_exist(network: Network) -> Sequence[Reference]:
    """Return those that it is shared with: who takes a name later must not get what was given to another."""
    return [
        Reference(f"spec.sharedWith[{i}].{kind}", Ref(kind.capitalize(), None, name))
        for i, share in enumerate(network.spec.shared_with)
        for kind, name in (("project", share.project), ("domain", share.domain))
        if name
    ]


def _lent_by(wire: Mapping[str, Any]) -> Ref:
    return Ref(Network.KIND, wire["metadata"].get("project"), wire["metadata"]["name"])


def build_lent_view(wire: Mapping[str, Any], *, spec: Sequence[str] | None, status: Sequence[str]) -> dict[str, Any]:
    """Return of a wire object what a borrower needs: who it is, these fields (None: all) and whether it is Ready."""
    observed = wire.get("status") or {}
    conditions = [{k: v for k, v in c.items() if k != "message"} for c in observed.get("conditions") or ()]
    shown = ("resourceVersion", "project", "name", "uid", "generation", "creationTimestamp", "deletionTimestamp")
    return {
        **{k: wire[k] for k in ("apiVersion", "kind")},
        "metadata": {k: wire["metadata"][k] for k in shown if k in wire["metadata"]},
        "spec": {k: v for k, v in wire["spec"].items() if spec is None or k in spec},
        "status": {
            **{k: observed[k] for k in (*status, "observedGeneration") if k in observed},
            "conditions": [c for c in conditions if c["type"] in ("Ready", REALIZED)],
        },
    }


register(
    KindDefinition(
        model=Network,
        plural="networks",
        uid_prefix="net",
        scope=Scope.PROJECT,
        short_names=("net",),
        columns=(Column("MTU", "status.mtuBytes"),),
        view=(ViewColumn("mtu_bytes", "status.mtuBytes", "bigint"),),
        ready_when=(REALIZED,),
        finalizers=(FINALIZER,),
        check=_check,
        must_exist=_must_exist,
        lent_by=_lent_by,
        lent_view=lambda wire: build_lent_view(wire, spec=("mtuBytes",), status=("mtuBytes",)),
        apply_order=20,
        category="network",
        example={"metadata": {"project": "demo", "name": "web"}, "spec": {}, "status": {"mtuBytes": 1442}},
    )
)
