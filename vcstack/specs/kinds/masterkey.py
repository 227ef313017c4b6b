"""MasterKey: which master key the store is encrypted under, and how far it has moved to a new one. Read only."""

from pydantic import Field

from vcstack.specs.model import Model
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

REWRAPPED = "Rewrapped"
"""True when everything in the store is under the active version; False while some of it is not."""
MASTER = "master"
"""The name of the one there is."""


class MasterKeySpec(Spec):
    """Nothing: where the master key is stands in the manager's settings, and rotation begins at its file or token."""


class NeededMasterVersion(Model):
    """A version of the master key that is still needed."""

    version: int
    """Its number."""
    envelopes: int
    """How many encrypted values in the store need it."""


class MasterKeyStatus(Status):
    """How far the store is, as the manager counts that moves it."""

    active_version: int | None = None
    """The version that encrypts now."""
    versions: list[NeededMasterVersion] | None = None
    """Those that are needed, the oldest first, as counted at the beginning and end of a pass over the store."""
    left: int | None = None
    """How many encrypted values are still to be put under the active version, damaged ones included."""
    unreadable: int | None = None
    """How many are damaged: they hold back the retirement of older versions."""


class MasterKey(Resource[MasterKeySpec, MasterKeyStatus]):
    """Which master key the store is encrypted under, and how far it has moved to a new one."""

    KIND = "MasterKey"
    spec: MasterKeySpec = Field(default_factory=MasterKeySpec)
    status: MasterKeyStatus = Field(default_factory=MasterKeyStatus)


register(
    KindDefinition(
        model=MasterKey,
        plural="masterkeys",
        uid_prefix="mk",
        scope=Scope.GLOBAL,
        columns=(
            Column("ACTIVE", "status.activeVersion"),
            Column("NEEDED", "status.versions[*].version"),
            Column("LEFT", "status.left"),
            Column("UNREADABLE", "status.unreadable"),
        ),
        view=(
            ViewColumn("active_version", "status.activeVersion", "bigint"),
            ViewColumn("values_left", "status.left", "bigint"),
        ),
        ready_when=(REWRAPPED,),
        system_only=True,
        apply_order=60,
        category="security",
        example={"metadata": {"name": MASTER}, "spec": {}, "status": {"activeVersion": 2, "left": 0, "unreadable": 0}},
    )
)
