"""Network: a layer 2 segment, an OVN logical switch."""

from typing import Annotated

from pydantic import Field

from vcstack.specs.model import Change, Takes
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/network"
REALIZED = "Realized"
"""True when the logical switch was read back from OVN."""
DEFAULT_MTU_BYTES = 1442
"""1500 of the underlay less 58 for Geneve over IPv4 (lab-measured)."""


class NetworkSpec(Spec):
    """What the segment is to be."""

    mtu_bytes: Annotated[int | None, Field(ge=1280, le=8942), Takes(Change.REBOOT)] = None
    """MTU that guests are told; default 1442, which fits an underlay of 1500."""


class NetworkStatus(Status):
    """What was observed of the segment."""

    mtu_bytes: int | None = None
    """The MTU in force."""


class Network(Resource[NetworkSpec, NetworkStatus]):
    """A layer 2 segment that ports attach to."""

    KIND = "Network"
    spec: NetworkSpec = Field(default_factory=NetworkSpec)
    status: NetworkStatus = Field(default_factory=NetworkStatus)


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
        apply_order=20,
        category="network",
    )
)
