"""Policy: rules for objects of any kind, held at each write and reported on what exists."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.meta import LabelKey
from vcstack.specs.model import Change, Model, Name, RefersTo, Takes, Text
from vcstack.specs.permissions import ANY, RuleKind, RuleSelector
from vcstack.specs.registry import (
    Column,
    KindDefinition,
    Reference,
    Referenced,
    Scope,
    ViewColumn,
    find_kind,
    load_kinds,
    register,
)
from vcstack.specs.resource import Resource, Spec, Status

ACCEPTED = "Accepted"
"""True when all expressions can be read. It is held from the write on, whether or not this was looked at."""
COMPLIANT = "Compliant"
"""True when all that exists is as the policy says; the message says how much is not."""
MAX_EXPRESSION = 2048
"""Characters of an expression; the language's own limit of nesting is far below what these could hold."""
SHOWN = 20
"""Objects that status names."""


class Action(StrEnum):
    """What becomes of a write that a policy objects to."""

    DENY = "Deny"
    WARN = "Warn"
    AUDIT = "Audit"


class FailurePolicy(StrEnum):
    """What becomes of a write when an expression cannot be evaluated."""

    FAIL = "Fail"
    IGNORE = "Ignore"


class PolicyVerb(StrEnum):
    """A write."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Matches(Model):
    """Which writes are concerned. All that is given has to be so."""

    kinds: Annotated[list[RuleKind], Field(min_length=1, max_length=128)]
    """Kinds by name, e.g. Instance, or * for all but policies."""
    verbs: Annotated[list[PolicyVerb], Field(min_length=1, max_length=3)] = Field(
        default_factory=lambda: [PolicyVerb.CREATE, PolicyVerb.UPDATE]
    )
    """create, update, delete; apply is one of the first two. Default create and update."""
    label_selector: RuleSelector = ""
    """Only objects whose labels match, e.g. env=prod. Default all."""
    project_selector: RuleSelector = ""
    """Only objects in projects whose labels match. Default all, also those outside projects."""
    domains: Annotated[list[Annotated[Name, RefersTo("Domain")]], Field(max_length=64)] = Field(default_factory=list)
    """Only what lies in these domains or below. Default everywhere. For policies from above that who administers the
    domain cannot take away."""


class RequiredLabel(Model):
    """A label that objects have to have."""

    key: LabelKey
    """Its key, e.g. cost."""
    value_pattern: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """A regular expression (RE2) for its whole value, e.g. [0-9]{4}. Default any value."""


class PolicyRule(Model):
    """Something that has to be so."""

    name: Name
    """What it is called in messages."""
    expression: Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXPRESSION)]
    """In the Common Expression Language (CEL), true when all is well: `object` is the object as it would be, with
    defaults, `oldObject` as it was (null when it is new), `request.verb`, `request.subject` and `request.project` say
    who does what. Of a deletion both are the object. Secret values are `***`."""
    message: Text = ""
    """What who breaks it is told. Default the expression."""


class PolicySpec(Spec):
    """Which rules hold for what."""

    description: Text = ""
    """For people."""
    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """Of a policy outside projects: the domain that it holds for, with all below it; default the whole cloud. A policy
    in a project holds for the project."""
    action: Action = Action.DENY
    """Deny: what breaks it is not written. Warn: it is, and who wrote it is told. Audit: only existing objects are
    reported. Default Deny."""
    failure_policy: FailurePolicy = FailurePolicy.FAIL
    """When an expression cannot be evaluated: Fail as if it were false, Ignore as if it were true. Default Fail."""
    matches: Matches
    """Which writes are concerned."""
    require_labels: Annotated[list[RequiredLabel], Field(max_length=32)] = Field(default_factory=list)
    """Labels that objects have to have, e.g. for cost or owner."""
    rules: Annotated[list[PolicyRule], Field(max_length=32)] = Field(default_factory=list)
    """What else has to be so."""


class Violation(Model):
    """An object that is not as the policy says."""

    kind: str
    """Its kind."""
    project: str | None = None
    """Its project."""
    object: str
    """Its name."""
    rule: str
    """The rule, or the label that is required."""
    message: str
    """What is wrong."""


class PolicyStatus(Status):
    """What was observed of the policy."""

    checked: int | None = None
    """How many existing objects it concerns."""
    violations: int | None = None
    """How many of them are not as it says."""
    violating: list[Violation] = Field(default_factory=list)
    """The first of them, by kind, project and name, each with the first rule that it breaks."""


class Policy(Resource[PolicySpec, PolicyStatus]):
    """Rules for objects of any kind, held at each write and reported on what exists."""

    KIND = "Policy"
    status: PolicyStatus = Field(default_factory=PolicyStatus)


def governable(definition: KindDefinition) -> bool:
    """Return whether policies can concern the kind: people write it, and it is no policy, which they must be able to
    repair."""
    return definition.kind != Policy.KIND and not definition.system_only


def _check(new: Policy, old: Policy | None, referenced: Referenced) -> Sequence[Cause]:
    """The place fits, kinds are known, and there is something to hold."""
    causes = []

    def blame(field: str, reason: str, message: str) -> None:
        causes.append(Cause(field=field, reason=reason, message=message))

    if new.metadata.project and new.spec.domain:
        blame("spec.domain", "FieldValueForbidden", "must be left out: a policy in a project holds for the project")
    if not new.spec.rules and not new.spec.require_labels:
        blame("spec.rules", "FieldValueRequired", "give rules or requireLabels: there is nothing to hold")
    for n, kind in enumerate(new.spec.matches.kinds):
        definition = load_kinds().get(kind)
        if kind == ANY or (definition is not None and governable(definition)):
            continue
        known = find_kind(kind)
        hint = f"; did you mean {known.kind}?" if known is not None and definition is None else ""
        what = "cannot be concerned by policies" if definition is not None else "is no kind"
        blame(f"spec.matches.kinds[{n}]", "FieldValueNotSupported", f"{kind} {what}{hint}")
    names = [rule.name for rule in new.spec.rules]
    for n, name in enumerate(names):
        if name in names[:n]:
            blame(f"spec.rules[{n}].name", "FieldValueDuplicate", f"there is a rule {name} before it")
    if new.metadata.project and (new.spec.matches.domains or new.spec.matches.project_selector):
        message = "must be left out: a policy in a project concerns nothing else"
        blame("spec.matches", "FieldValueForbidden", f"domains and projectSelector {message}")
    return causes


def _must_exist(policy: Policy) -> Sequence[Reference]:
    return in_domain(policy.spec.domain)


register(
    KindDefinition(
        model=Policy,
        plural="policies",
        uid_prefix="pol",
        scope=Scope.GLOBAL_OR_PROJECT,
        short_names=("pol",),
        columns=(
            Column("ACTION", "spec.action", default=Action.DENY.value),
            Column("KINDS", "spec.matches.kinds[*]"),
            Column("DOMAIN", "spec.domain"),
            Column("CHECKED", "status.checked"),
            Column("VIOLATIONS", "status.violations"),
        ),
        view=(
            ViewColumn("action", "spec.action"),
            ViewColumn("domain", "spec.domain"),
            ViewColumn("violations", "status.violations", "bigint"),
        ),
        ready_when=(ACCEPTED,),
        check=_check,
        must_exist=_must_exist,
        domain_path="spec.domain",
        apply_order=16,
        category="identity",
        example={
            "metadata": {"project": "demo", "name": "labels"},
            "spec": {"matches": {"kinds": ["Instance"]}, "requireLabels": [{"key": "cost"}], "action": "Audit"},
        },
    )
)
