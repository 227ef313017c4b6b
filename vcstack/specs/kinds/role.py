"""Role: a set of rules that a binding gives to somebody."""

import difflib
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import NAMES_NOTHING, Cause
from vcstack.specs.model import Text
from vcstack.specs.permissions import ANY, Rule, built_in_roles
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, load_kinds, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/in-use"
BUILT_IN_LABEL = "vcstack.io/built-in"
"""On roles that the cloud itself defines."""


class RoleSpec(Spec):
    """What the role allows, wherever it is bound."""

    description: Text = ""
    """What it is for."""
    rules: Annotated[list[Rule], Field(max_length=64)] = Field(default_factory=list)
    """What is allowed: the sum of the rules."""


class RoleStatus(Status):
    """What was observed of the role."""


class Role(Resource[RoleSpec, RoleStatus]):
    """A set of rules that a binding gives to somebody."""

    KIND = "Role"
    spec: RoleSpec = Field(default_factory=RoleSpec)
    status: RoleStatus = Field(default_factory=RoleStatus)


def check_rules(rules: Sequence[Rule], path: str) -> Sequence[Cause]:
    """Return a cause for each kind that does not exist: such a rule would allow nothing, silently."""
    known = load_kinds()
    return [
        Cause(field=f"{path}[{i}].kinds[{j}]", reason=NAMES_NOTHING, message=_unknown(kind))
        for i, rule in enumerate(rules)
        for j, kind in enumerate(rule.kinds)
        if kind != ANY and kind not in known
    ]


def _unknown(kind: str) -> str:
    near = difflib.get_close_matches(kind, load_kinds(), n=1)
    return f"there is no kind {kind}; did you mean {near[0]}?" if near else f"there is no kind {kind}"


def _check(new: Role, old: Role | None, referenced: Referenced) -> Sequence[Cause]:
    """Rules name kinds that exist; the names of built-in roles stand for what the cloud defines, and only that."""
    built_in = built_in_roles().get(new.metadata.name)
    if built_in is not None and new.spec.rules != list(built_in.rules):
        message = f"the rules of the built-in role {built_in.name} are the cloud's; make a role of another name"
        return (Cause(field="spec.rules", reason="FieldValueForbidden", message=message),)
    return check_rules(new.spec.rules, "spec.rules")


register(
    KindDefinition(
        model=Role,
        plural="roles",
        uid_prefix="rol",
        scope=Scope.GLOBAL,
        columns=(Column("DESCRIPTION", "spec.description"),),
        view=(ViewColumn("description", "spec.description"), ViewColumn("rules", "spec.rules", "jsonb")),
        ready_when=("Accepted",),
        finalizers=(FINALIZER,),
        check=_check,
        shared=True,
        apply_order=3,
        category="identity",
        example={
            "metadata": {"name": "rebooter"},
            "spec": {"rules": [{"verbs": ["create", "get"], "kinds": ["Task"], "labelSelector": "env=dev"}]},
        },
    )
)
