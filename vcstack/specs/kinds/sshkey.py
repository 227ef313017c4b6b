"""SSHKey: a public key that cloud-init puts into instances."""

import base64
import binascii
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from vcstack.specs.model import Change, Takes
from vcstack.specs.registry import Column, KindDefinition, Scope, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/in-use"
KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def check_public_key(value: str) -> str:
    """Return the key if it is one line of a known type with a blob of that type, else raise ValueError."""
    match = re.fullmatch(r"(\S+) ([A-Za-z0-9+/]+={0,2})( [\x20-\x7e]{0,200})?", value)
    if match is None:
        raise ValueError("must be one line 'TYPE BASE64 [COMMENT]', as in ~/.ssh/id_ed25519.pub")
    if match[1] not in KEY_TYPES:
        raise ValueError(f"key type {match[1]!r} is not known; use one of {', '.join(KEY_TYPES)}")
    try:
        blob = base64.b64decode(match[2], validate=True)
    except binascii.Error as error:
        raise ValueError("the second word is no base64") from error
    name = match[1].encode()
    if blob[: 4 + len(name)] != len(name).to_bytes(4, "big") + name:
        raise ValueError(f"the key's content is not of the type {match[1]} that it says")
    return value


PublicKey = Annotated[str, AfterValidator(check_public_key), Field(max_length=8192)]


class SSHKeySpec(Spec):
    """A public key."""

    public_key: Annotated[PublicKey, Takes(Change.IMMUTABLE)]
    """One line in OpenSSH's format, without options."""


class SSHKeyStatus(Status):
    """What was observed of the key."""

    fingerprint: str | None = None
    """SHA256:... as ssh-keygen -l prints it."""


class SSHKey(Resource[SSHKeySpec, SSHKeyStatus]):
    """A public key that cloud-init puts into instances."""

    KIND = "SSHKey"
    status: SSHKeyStatus = Field(default_factory=SSHKeyStatus)


register(
    KindDefinition(
        model=SSHKey,
        plural="sshkeys",
        uid_prefix="key",
        scope=Scope.PROJECT,
        columns=(Column("FINGERPRINT", "status.fingerprint"),),
        ready_when=("Accepted",),
        finalizers=(FINALIZER,),
        apply_order=10,
        category="compute",
        example={
            "metadata": {"project": "demo", "name": "me"},
            "spec": {
                "publicKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDw1zY3Vh7o4Uo1aPZ3a9mCVVv5pXWk9q3mJQm2b5Pz4 "
                "me@example"
            },
            "status": {"fingerprint": "SHA256:dZoTAPgY7a7rsBcKTdX4RwTbZ0QGk8D9yXm4J1vS2hE"},
        },
    )
)
