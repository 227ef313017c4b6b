"""Domain: a customer or a part of one, in a tree; grants on a domain hold for all below it."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.model import Change, Name, RefersTo, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/in-use"


class DomainSpec(Spec):
    """Where the domain is in the tree."""

    parent: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """The domain above; default the top of the tree. It has to exist first, so there are no cycles."""
    display_name: Text = ""
    """A name for people."""
    description: Text = ""
    """What it is for."""


class DomainStatus(Status):
    """What was observed of the domain."""


class Domain(Resource[DomainSpec, DomainStatus]):
    """A customer or a part of one, in a tree; grants on a domain hold for all below it."""

    KIND = "Domain"
    spec: DomainSpec = Field(default_factory=DomainSpec)
    status: DomainStatus = Field(default_factory=DomainStatus)


def in_domain(name: str | None, path: str = "spec.domain") -> Sequence[Reference]:
    """Return that the domain must exist, if one is named."""
    return (Reference(path, Ref(Domain.KIND, None, name)),) if name else ()


def _check(new: Domain, old: Domain | None, referenced: Referenced) -> Sequence[Cause]:
    """A domain is not its own parent."""
    if new.spec.parent != new.metadata.name:
        return ()
    message = "is the domain itself; name another one, or none for the top"
    return (Cause(field="spec.parent", reason="FieldValueInvalid", message=message),)


def _must_exist(domain: Domain) -> Sequence[Reference]:
    return in_domain(domain.spec.parent, "spec.parent") if domain.spec.parent != domain.metadata.name else ()


register(
    KindDefinition(
        model=Domain,
        plural="domains",
        uid_prefix="dom",
        scope=Scope.GLOBAL,
        columns=(Column("PARENT", "spec.parent"),),
        view=(ViewColumn("parent", "spec.parent"), ViewColumn("display_name", "spec.displayName")),
        ready_when=("Accepted",),
        finalizers=(FINALIZER,),
        check=_check,
        must_exist=_must_exist,
        domain_path="spec.parent",
        apply_order=0,
        category="identity",
        example={"metadata": {"name": "acme"}, "spec": {"displayName": "Acme"}},
    )
)
