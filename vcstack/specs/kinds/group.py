"""Group: users who get the same grants. Groups hold users only, no groups."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.model import Change, Name, RefersTo, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/grants"
"""The grants that name the group go before it does."""
MAX_MEMBERS = 100
"""Each new member is a comparison in the group's transaction, of which etcd takes 128."""


class GroupSpec(Spec):
    """Who is in the group."""

    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """The domain whose administrators look after the group; default the top of the tree."""
    display_name: Text = ""
    """A name for people."""
    members: Annotated[list[Annotated[Name, RefersTo("User")]], Field(max_length=MAX_MEMBERS)] = Field(
        default_factory=list
    )
    """Users, of any domain."""


class GroupStatus(Status):
    """What was observed of the group."""


class Group(Resource[GroupSpec, GroupStatus]):
    """Users who get the same grants. Groups hold users only, no groups."""

    KIND = "Group"
    spec: GroupSpec = Field(default_factory=GroupSpec)
    status: GroupStatus = Field(default_factory=GroupStatus)


def _check(new: Group, old: Group | None, referenced: Referenced) -> Sequence[Cause]:
    """Nobody is in it twice."""
    names = new.spec.members
    return [
        Cause(field=f"spec.members[{i}]", reason="Duplicate", message=f"{name} occurs twice")
        for i, name in enumerate(names)
        if name in names[:i]
    ]


def _must_exist(group: Group) -> Sequence[Reference]:
    members = (Reference(f"spec.members[{i}]", Ref("User", None, m)) for i, m in enumerate(group.spec.members))
    return (*in_domain(group.spec.domain), *members)


register(
    KindDefinition(
        model=Group,
        plural="groups",
        uid_prefix="grp",
        scope=Scope.GLOBAL,
        columns=(
            Column("DOMAIN", "spec.domain"),
            Column("DISPLAY_NAME", "spec.displayName"),
            Column("MEMBERS", "spec.members[*]", wide=True),
        ),
        view=(
            ViewColumn("domain", "spec.domain"),
            ViewColumn("display_name", "spec.displayName"),
            ViewColumn("members", "spec.members", "jsonb"),
        ),
        ready_when=("Accepted",),
        finalizers=(FINALIZER,),
        check=_check,
        must_exist=_must_exist,
        domain_path="spec.domain",
        apply_order=4,
        category="identity",
        example={"metadata": {"name": "operators"}, "spec": {"domain": "acme", "members": ["alice"]}},
    )
)
