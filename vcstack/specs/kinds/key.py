"""Key: encrypts or signs for those who may use it; its material never leaves the cloud."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.rolebinding import Expiry, Subject, SubjectKind, subject_ref
from vcstack.specs.meta import Time
from vcstack.specs.model import Change, Model, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Reference, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Ref, Resource, Spec, Status

FINALIZER = "vcstack.io/key-material"
"""The material outlives the wish to delete it by the waiting period."""
MATERIAL_READY = "MaterialReady"
"""True once there is something to encrypt or sign with."""
ROTATION_OVERDUE = "RotationOverdue"
"""True when there should be a newer version and none can be made."""


class KeyAlgorithm(StrEnum):
    """What a key is, and so what it can do: AES and RSA encrypt, ECDSA signs."""

    AES_256_GCM = "AES-256-GCM"
    ECDSA_P256 = "ECDSA-P256"
    ECDSA_P384 = "ECDSA-P384"
    RSA_OAEP_3072 = "RSA-OAEP-3072"
    RSA_OAEP_4096 = "RSA-OAEP-4096"


class KeyState(StrEnum):
    """Whether a key is to be used."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"


class KeyOperation(StrEnum):
    """What can be done with a key."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    REENCRYPT = "reencrypt"
    DATAKEY = "datakey"
    SIGN = "sign"
    VERIFY = "verify"


class KeyRule(Model):
    """Who may do what with the key."""

    operations: Annotated[list[KeyOperation], Field(min_length=1, max_length=8)]
    """encrypt, decrypt, reencrypt, datakey, sign, verify."""
    subjects: Annotated[list[Subject], Field(min_length=1, max_length=64)]
    """Users, groups and service accounts; a service account without a project is one of the key's project."""


class KeySpec(Spec):
    """What the key is to be."""

    algorithm: Annotated[KeyAlgorithm, Takes(Change.IMMUTABLE)] = KeyAlgorithm.AES_256_GCM
    """AES-256-GCM (the default), RSA-OAEP-3072 or -4096 encrypt; ECDSA-P256 or -P384 sign."""
    state: KeyState = KeyState.ENABLED
    """Disabled does nothing until it is enabled again. PendingDeletion is deleted with all that it encrypted when
    the waiting period is over; any other state calls that off."""
    rotation_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    """A new version every so many days, which encrypts and signs from then on; older ones still decrypt and verify.
    Default never."""
    deletion_wait_days: Annotated[int, Field(ge=0, le=90)] = 30
    """How long a deletion waits, counted from when it was asked for; it can be changed while it waits. Less than 7
    days is set by who may delete the project."""
    policy: Annotated[list[KeyRule], Field(max_length=64)] | None = None
    """Who may use the key, of those whom their roles allow it; nobody else may then, administrators included. Default:
    roles alone decide. It is changed by who may update the subresource ``policy``: the project's administrators."""
    rotate_after: Expiry | None = None
    """A new version is made once if the newest one is older than this point in time: for a rotation at once."""
    description: Text = ""
    """What it is for."""


class KeyVersion(Model):
    """One version of the key."""

    version: int
    """Its number; ciphertexts and signatures name it."""
    created_at: Time
    """When it was made."""
    public_key: str | None = None
    """PEM, for those who verify or encrypt by themselves; none of AES."""


class KeyStatus(Status):
    """What was observed of the key."""

    versions: list[KeyVersion] | None = None
    """The oldest first."""
    current_version: int | None = None
    """The one that encrypts and signs."""
    rotated_at: Time | None = None
    """When it was made."""
    deletion_asked_at: Time | None = None
    """When it was first seen that it is to be deleted; the waiting period begins there."""
    delete_at: Time | None = None
    """When the material will be destroyed."""


class Key(Resource[KeySpec, KeyStatus]):
    """Encrypts or signs for those who may use it; its material never leaves the cloud."""

    KIND = "Key"
    status: KeyStatus = Field(default_factory=KeyStatus)


def policy_subjects(key: Key, operation: str) -> set[Ref]:
    """Return whom the key's policy lets do it."""
    rules = key.spec.policy or ()
    return {subject_ref(s, key.metadata.project) for r in rules if operation in r.operations for s in r.subjects}


def _must_exist(key: Key) -> Sequence[Reference]:
    """Whoever takes a name later must not get what was given to it."""
    found: dict[Ref, Reference] = {}
    for i, rule in enumerate(key.spec.policy or ()):
        for j, subject in enumerate(rule.subjects):
            ref = subject_ref(subject, key.metadata.project)
            found.setdefault(ref, Reference(f"spec.policy[{i}].subjects[{j}].name", ref))
    return tuple(found.values())


def _check(new: Key, old: Key | None, referenced: Referenced) -> Sequence[Cause]:
    """A policy's rules fit the key."""
    causes = []
    signs = new.spec.algorithm.startswith("ECDSA")
    able = (
        {KeyOperation.SIGN, KeyOperation.VERIFY}
        if signs
        else set(KeyOperation) - {KeyOperation.SIGN, KeyOperation.VERIFY}
    )
    for i, rule in enumerate(new.spec.policy or ()):
        unfit = sorted(set(rule.operations) - able)
        if unfit:
            message = f"{new.spec.algorithm} does not {', '.join(unfit)}"
            causes.append(Cause(field=f"spec.policy[{i}].operations", reason="FieldValueNotSupported", message=message))
        for j, subject in enumerate(rule.subjects):
            if subject.project and subject.kind is not SubjectKind.SERVICE_ACCOUNT:
                message = f"must be left out: a {subject.kind} is global"
                field = f"spec.policy[{i}].subjects[{j}].project"
                causes.append(Cause(field=field, reason="FieldValueForbidden", message=message))
    return causes


register(
    KindDefinition(
        model=Key,
        plural="keys",
        uid_prefix="kms",
        scope=Scope.PROJECT,
        columns=(
            Column("ALGORITHM", "spec.algorithm", default="AES-256-GCM"),
            Column("STATE", "spec.state", default="Enabled"),
            Column("VERSION", "status.currentVersion"),
            Column("ROTATED", "status.rotatedAt", format="age"),
            Column("DELETED_AT", "status.deleteAt", wide=True),
        ),
        view=(
            ViewColumn("algorithm", "spec.algorithm"),
            ViewColumn("state", "spec.state"),
            ViewColumn("current_version", "status.currentVersion", "bigint"),
            ViewColumn("rotated_at", "status.rotatedAt", "timestamptz"),
            ViewColumn("delete_at", "status.deleteAt", "timestamptz"),
        ),
        ready_when=(MATERIAL_READY,),
        finalizers=(FINALIZER,),
        check=_check,
        must_exist=_must_exist,
        apply_order=10,
        category="security",
        example={
            "metadata": {"project": "demo", "name": "disks"},
            "spec": {"rotationDays": 90},
            "status": {"currentVersion": 1, "rotatedAt": "2026-11-23T09:00:00Z"},
        },
    )
)
