"""RoleBinding: gives a role to a user, group or service account, in a project, a domain or the whole cloud."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field, PlainSerializer

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.domain import in_domain
from vcstack.specs.meta import IN_UTC, RFC_3339, format_time
from vcstack.specs.model import Change, Model, Name, RefersTo, Takes
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

ACCEPTED = "Accepted"
"""True when what it names is there; the message says what is missing."""

Expiry = Annotated[AwareDatetime, IN_UTC, RFC_3339, PlainSerializer(format_time, return_type=str, when_used="json")]
"""A point in time, with its offset from UTC."""


class SubjectKind(StrEnum):
    """Who can be given something."""

    USER = "User"
    GROUP = "Group"
    SERVICE_ACCOUNT = "ServiceAccount"


class Subject(Model):
    """Somebody who can be given something."""

    kind: SubjectKind
    """User, Group or ServiceAccount."""
    name: Name
    """Its name."""
    project: Name | None = None
    """Of a service account: the project that it lives in; default the object's own."""


def subject_ref(subject: Subject, project: str | None) -> Ref:
    """Return the object that is meant by one that lives in the project."""
    place = (subject.project or project) if subject.kind is SubjectKind.SERVICE_ACCOUNT else None
    return Ref(subject.kind.value, place, subject.name)


class RoleBindingSpec(Spec):
    """Who gets what, where, until when."""

    subject: Annotated[Subject, Takes(Change.IMMUTABLE)]
    """Who gets the role."""
    role: Annotated[Name, RefersTo("Role"), Takes(Change.IMMUTABLE)]
    """What is given."""
    domain: Annotated[Name | None, RefersTo("Domain"), Takes(Change.IMMUTABLE)] = None
    """Of a binding outside projects: the domain that it holds for, with all below it; default the whole cloud. A
    binding in a project holds for the project."""
    expires_at: Expiry | None = None
    """From then on it gives nothing, and is deleted; default never."""


class RoleBindingStatus(Status):
    """What was observed of the binding."""


class RoleBinding(Resource[RoleBindingSpec, RoleBindingStatus]):
    """Gives a role to a user, group or service account, in a project, a domain or the whole cloud."""

    KIND = "RoleBinding"
    status: RoleBindingStatus = Field(default_factory=RoleBindingStatus)


def _check(new: RoleBinding, old: RoleBinding | None, referenced: Referenced) -> Sequence[Cause]:
    """The fields fit the place and the subject."""
    causes = []

    def blame(field: str, reason: str, message: str) -> None:
        causes.append(Cause(field=field, reason=reason, message=message))

    if new.metadata.project and new.spec.domain:
        blame("spec.domain", "FieldValueForbidden", "must be left out: a binding in a project holds for the project")
    causes += check_subject(new.spec.subject, new.metadata.project)
    return causes


def check_subject(subject: Subject, project: str | None) -> Sequence[Cause]:
    """Return what is wrong with the subject's project."""
    if subject.kind is not SubjectKind.SERVICE_ACCOUNT and subject.project:
        message = f"must be left out: a {subject.kind} is global"
        return (Cause(field="spec.subject.project", reason="FieldValueForbidden", message=message),)
    if subject.kind is SubjectKind.SERVICE_ACCOUNT and not (subject.project or project):
        message = "is required: a ServiceAccount lives in a project"
        return (Cause(field="spec.subject.project", reason="FieldValueRequired", message=message),)
    return ()


def subject_must_exist(subject: Subject, project: str | None) -> Sequence[Reference]:
    """Return that the subject must exist: who takes its name later must not get what was given to it."""
    ref = subject_ref(subject, project)
    if check_subject(subject, project):
        return ()  # what is meant is not clear, and the check says why
    return (Reference("spec.subject.name", ref),)


def _must_exist(binding: RoleBinding) -> Sequence[Reference]:
    subject = subject_must_exist(binding.spec.subject, binding.metadata.project)
    return (*subject, *in_domain(binding.spec.domain))


register(
    KindDefinition(
        model=RoleBinding,
        plural="rolebindings",
        uid_prefix="rb",
        scope=Scope.GLOBAL_OR_PROJECT,
        short_names=("rb",),
        columns=(
            Column("ROLE", "spec.role"),
            Column("SUBJECT", "spec.subject.kind"),
            Column("OF", "spec.subject.name"),
            Column("DOMAIN", "spec.domain"),
            Column("EXPIRES", "spec.expiresAt"),
        ),
        view=(
            ViewColumn("role", "spec.role"),
            ViewColumn("subject_kind", "spec.subject.kind"),
            ViewColumn("subject_name", "spec.subject.name"),
            ViewColumn("subject_project", "spec.subject.project"),
            ViewColumn("domain", "spec.domain"),
            ViewColumn("expires_at", "spec.expiresAt", "timestamptz"),
        ),
        ready_when=(ACCEPTED,),
        check=_check,
        must_exist=_must_exist,
        domain_path="spec.domain",
        apply_order=20,
        category="identity",
        example={
            "metadata": {"project": "demo", "name": "operators"},
            "spec": {"subject": {"kind": "Group", "name": "operators"}, "role": "rebooter"},
        },
    )
)
