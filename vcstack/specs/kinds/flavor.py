"""Flavor: the size of an instance."""

from typing import Annotated

from pydantic import Field

from vcstack.specs.model import Change, Takes
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/in-use"


class FlavorSpec(Spec):
    """A size. A flavor never changes; make another one instead."""

    vcpus: Annotated[int, Field(ge=1, le=256), Takes(Change.IMMUTABLE)]
    """Number of virtual CPUs."""
    memory_mib: Annotated[int, Field(ge=16, le=16 * 1024 * 1024, alias="memoryMiB"), Takes(Change.IMMUTABLE)]
    """Memory in MiB."""
    root_disk_gib: Annotated[int, Field(ge=1, le=64 * 1024, alias="rootDiskGiB"), Takes(Change.IMMUTABLE)]
    """Size of the root disk in GiB; an image that is larger does not fit."""


class FlavorStatus(Status):
    """What was observed of the flavor."""


class Flavor(Resource[FlavorSpec, FlavorStatus]):
    """The size of an instance."""

    KIND = "Flavor"
    status: FlavorStatus = Field(default_factory=FlavorStatus)


register(
    KindDefinition(
        model=Flavor,
        plural="flavors",
        uid_prefix="fl",
        scope=Scope.GLOBAL,
        columns=(
            Column("VCPUS", "spec.vcpus"),
            Column("MEMORY_MIB", "spec.memoryMiB"),
            Column("ROOT_DISK_GIB", "spec.rootDiskGiB"),
        ),
        view=(
            ViewColumn("vcpus", "spec.vcpus", "bigint"),
            ViewColumn("memory_mib", "spec.memoryMiB", "bigint"),
            ViewColumn("root_disk_gib", "spec.rootDiskGiB", "bigint"),
        ),
        ready_when=("Accepted",),
        finalizers=(FINALIZER,),
        shared=True,
        apply_order=10,
        category="compute",
        example={"metadata": {"name": "tiny"}, "spec": {"vcpus": 1, "memoryMiB": 128, "rootDiskGiB": 1}},
    )
)
