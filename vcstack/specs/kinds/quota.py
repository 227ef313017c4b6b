"""Quota: how much may be in a project, or in a domain with all below it."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.model import Change, Name, RefersTo, Takes
from vcstack.specs.registry import (
    Column,
    KindDefinition,
    Reference,
    Referenced,
    Scope,
    ViewColumn,
    quota_names,
    register,
)
from vcstack.specs.resource import Resource, Spec, Status

ACCEPTED = "Accepted"
"""True at once: the limits are in force from the write on."""

WITHIN_LIMITS = "WithinLimits"
"""False while more is in use than may be: what was there when a limit was lowered stays."""

Limit = Annotated[int, Field(ge=0, le=2**53)]


class QuotaSpec(Spec):
    """What is limited to what."""

    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """Of a quota outside projects: the domain whose projects, with those of all domains below, it limits together;
    default the whole cloud. A quota in a project limits the project."""
    limits: Annotated[dict[str, Limit], Field(min_length=1, max_length=128)]
    """By name how many there may be: a kind's plural, e.g. instances, or an amount: vcpus, memoryMiB, rootDiskGiB.
    What is not named is not limited here. Limits of all quotas of a project and of the domains above it hold at
    once. What is there when a limit is lowered stays."""


class QuotaStatus(Status):
    """What was observed of the quota. The subresource ``usage`` tells of this moment, and who takes most."""

    used: dict[str, int] | None = None
    """How much of each limit was in use when it was last looked at, every quarter of a minute."""


class Quota(Resource[QuotaSpec, QuotaStatus]):
    """How much may be in a project, or in a domain with all below it."""

    KIND = "Quota"
    status: QuotaStatus = Field(default_factory=QuotaStatus)


def _check(new: Quota, old: Quota | None, referenced: Referenced) -> Sequence[Cause]:
    """The place fits and the limits' names are known."""
    causes = []
    if new.metadata.project and new.spec.domain:
        message = "must be left out: a quota in a project limits the project"
        causes.append(Cause(field="spec.domain", reason="FieldValueForbidden", message=message))
    known = quota_names()
    unknown = [name for name in new.spec.limits if name not in known]
    if unknown:
        message = f"{', '.join(unknown)[:200]} cannot be limited; what can be: {', '.join(known)}"
        causes.append(Cause(field="spec.limits", reason="FieldValueNotSupported", message=message))
    return causes


def _must_exist(quota: Quota) -> Sequence[Reference]:
    return in_domain(quota.spec.domain)


register(
    KindDefinition(
        model=Quota,
        plural="quotas",
        uid_prefix="quo",
        scope=Scope.GLOBAL_OR_PROJECT,
        columns=(Column("DOMAIN", "spec.domain"),),
        view=(ViewColumn("domain", "spec.domain"), ViewColumn("limits", "spec.limits", "jsonb")),
        ready_when=(ACCEPTED,),
        check=_check,
        must_exist=_must_exist,
        counted=False,
        domain_path="spec.domain",
        apply_order=15,
        category="identity",
        spec_outside={"domain": "acme", "limits": {"instances": 100}},
        example={"metadata": {"project": "demo", "name": "small"}, "spec": {"limits": {"instances": 10, "vcpus": 20}}},
    )
)
