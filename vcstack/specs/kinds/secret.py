"""Secret: values that others name, such as passwords and user data; read only by those who may read them."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from vcstack.specs.errors import Cause
from vcstack.specs.model import Change, Model, Name, RefersTo, Sensitive, Takes
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/in-use"
ACCEPTED = "Accepted"
"""True at once: the schema says all there is to check."""

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$")]
"""What a value is called."""


class SecretType(StrEnum):
    """What a secret holds."""

    OPAQUE = "Opaque"
    BASIC_AUTH = "BasicAuth"
    SSH_PRIVATE_KEY = "SSHPrivateKey"
    TLS = "TLS"


NEEDED: Final[Mapping[SecretType, tuple[str, ...]]] = {
    SecretType.OPAQUE: (),
    SecretType.BASIC_AUTH: ("username", "password"),
    SecretType.SSH_PRIVATE_KEY: ("privateKey",),
    SecretType.TLS: ("certificate", "privateKey"),
}
"""The values that a type has to have."""


class SecretSpec(Spec):
    """The values."""

    type: Annotated[SecretType, Takes(Change.IMMUTABLE)] = SecretType.OPAQUE
    """What it holds: Opaque anything, BasicAuth a username and a password, SSHPrivateKey a privateKey, TLS a
    certificate and its privateKey."""
    data: Annotated[dict[Key, Annotated[str, Sensitive()]], Field(max_length=64)] = Field(default_factory=dict)
    """The values by name, text of 64 KiB each at most. Written as they are, read as stand-ins like
    ***:1f2e3d4c5b6a; a stand-in that is written back keeps its value."""


class SecretStatus(Status):
    """What was observed of the secret."""


class Secret(Resource[SecretSpec, SecretStatus]):
    """Values that others name, such as passwords and user data; read only by those who may read them."""

    KIND = "Secret"
    status: SecretStatus = Field(default_factory=SecretStatus)


class SecretValues(Model):
    """The values of a secret, for those who may read them."""

    values: dict[Key, str]
    """By name."""


class SecretKey(Model):
    """One value of a Secret of the same project."""

    name: Annotated[Name, RefersTo("Secret")]
    """The Secret."""
    key: Key
    """Which of its values."""


def _check(new: Secret, old: Secret | None, referenced: Referenced) -> Sequence[Cause]:
    """The values that the type needs are there."""
    return [
        Cause(
            field=f"spec.data.{key}", reason="FieldValueRequired", message=f"is needed in a secret of {new.spec.type}"
        )
        for key in NEEDED[new.spec.type]
        if key not in new.spec.data
    ]


register(
    KindDefinition(
        model=Secret,
        plural="secrets",
        uid_prefix="sec",
        scope=Scope.PROJECT,
        columns=(Column("TYPE", "spec.type", default="Opaque"),),
        view=(ViewColumn("type", "spec.type"),),
        ready_when=(ACCEPTED,),
        finalizers=(FINALIZER,),
        check=_check,
        apply_order=2,
        category="security",
        example={"metadata": {"project": "demo", "name": "db"}, "spec": {"data": {"password": "correct horse"}}},
    )
)
