"""Session: somebody who is logged in. Deleting it ends it, on every replica and at once."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.rolebinding import Subject, check_subject, subject_must_exist
from vcstack.specs.meta import Time
from vcstack.specs.model import Change, Name, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status


class SessionSpec(Spec):
    """Who is logged in. Written by the system only; the object's name is the session's id in tokens."""

    subject: Annotated[Subject, Takes(Change.IMMUTABLE)]
    """Who is logged in."""
    methods: Annotated[list[Text], Takes(Change.IMMUTABLE)] = Field(default_factory=list)
    """How that was proven: pwd, otp, oidc, ldap, key."""
    created_at: Annotated[Time, Takes(Change.IMMUTABLE)]
    """When it began."""
    expires_at: Time
    """When it ends at the latest."""
    identity_provider: Annotated[Name | None, Takes(Change.IMMUTABLE)] = None
    """The IdentityProvider that vouched for the user. When it is disabled or deleted, the session is good no more."""
    external_groups: list[Text] = Field(default_factory=list)
    """The groups there that the provider said and its groupMapping names, as of the login or the last refresh."""
    client: Text = ""
    """Where from and with what program, for people to recognise."""


class SessionStatus(Status):
    """Nothing: a session is an observation itself."""


class Session(Resource[SessionSpec, SessionStatus]):
    """Somebody who is logged in. Deleting it ends it, on every replica and at once."""

    KIND = "Session"
    status: SessionStatus = Field(default_factory=SessionStatus)


def _check(new: Session, old: Session | None, referenced: Referenced) -> Sequence[Cause]:
    """The subject's place fits."""
    return check_subject(new.spec.subject, None)


register(
    KindDefinition(
        model=Session,
        plural="sessions",
        uid_prefix="ses",
        scope=Scope.GLOBAL,
        columns=(
            Column("SUBJECT", "spec.subject.kind"),
            Column("OF", "spec.subject.name"),
            Column("METHODS", "spec.methods[*]"),
            Column("EXPIRES", "spec.expiresAt"),
            Column("CLIENT", "spec.client"),
        ),
        view=(
            ViewColumn("subject_kind", "spec.subject.kind"),
            ViewColumn("subject_name", "spec.subject.name"),
            ViewColumn("began_at", "spec.createdAt", "timestamptz"),
            ViewColumn("expires_at", "spec.expiresAt", "timestamptz"),
        ),
        check=_check,
        must_exist=lambda session: subject_must_exist(session.spec.subject, None),
        system_only=True,
        revocable=True,
        owner_path="spec.subject",
        apply_order=60,
        category="identity",
        example={
            "metadata": {"name": "s-1"},
            "spec": {
                "subject": {"kind": "User", "name": "alice"},
                "methods": ["pwd"],
                "createdAt": "2026-11-01T12:00:00Z",
                "expiresAt": "2036-11-01T12:00:00Z",
            },
        },
    )
)
