"""Key: encrypts or signs for those who may use it; its material never leaves the cloud."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from vcstack.specs.meta import Time
from vcstack.specs.model import Change, Model, Takes, Text
from vcstack.specs.registry import Column, KindDefinition, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/key-material"
"""The material outlives the wish to delete it by the waiting period."""
MATERIAL_READY = "MaterialReady"
"""True once there is something to encrypt or sign with."""


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
    deletion_wait_days: Annotated[int, Field(ge=7, le=90)] = 30
    """How long a deletion waits."""
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
    delete_at: Time | None = None
    """When the material will be destroyed."""


class Key(Resource[KeySpec, KeyStatus]):
    """Encrypts or signs for those who may use it; its material never leaves the cloud."""

    KIND = "Key"
    status: KeyStatus = Field(default_factory=KeyStatus)


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
        apply_order=10,
        category="security",
    )
)
