"""SSH certificates: who holds an authority's key makes logins that every guest accepts which trusts the authority.

OpenSSH's own format (PROTOCOL.certkeys). Pure, as the rest of the package.
"""

from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

LIFETIME: Final = timedelta(minutes=2)
"""Only the login needs it; a session goes on without."""
BEFORE: Final = timedelta(minutes=1)
"""For clocks of guests that are behind."""
KEY_ID_LIMIT: Final = 256


def make_private_key() -> bytes:
    """Return a new Ed25519 key, its 32 bytes."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_line(private_key: bytes) -> str:
    """Return the public half as it stands in authorized_keys: ``ssh-ed25519 AAAA...``."""
    public = Ed25519PrivateKey.from_private_bytes(private_key).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def private_text(private_key: bytes) -> bytes:
    """Return the key in OpenSSH's format."""
    key = Ed25519PrivateKey.from_private_bytes(private_key)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def issue_login(authority: bytes, public_key: Ed25519PublicKey, *, login: str, key_id: str, now: datetime) -> bytes:
    """Return a certificate that lets the key's holder log in under that name, once it is now, with a terminal only.

    Args:
        authority: the authority's private key.
        public_key: whose it is.
        login: the name in the guest.
        key_id: what the guest's log says of who it is.
        now: the time.
    """
    builder = (
        SSHCertificateBuilder()
        .public_key(public_key)
        .type(SSHCertificateType.USER)
        .key_id(_plain(key_id))
        .valid_principals([login.encode()])
        .valid_after((now - BEFORE).timestamp())
        .valid_before((now - BEFORE + LIFETIME).timestamp())
        .add_extension(b"permit-pty", b"")
    )
    return builder.sign(Ed25519PrivateKey.from_private_bytes(authority)).public_bytes()


def _plain(text: str) -> bytes:
    """It goes into the guest's log: nothing but printable ASCII."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:KEY_ID_LIMIT].encode()
