"""Keys, and requests for certificates: the part that a host needs."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

# Below this RSA is broken within the lifetime of an installation (NIST SP 800-57); far above it, checking
# a signature becomes a way to keep the server busy.
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 4096

MAX_CSR_BYTES: Final = 16 * 1024

UID_URN: Final = "urn:vcstack:uid:"
"""Before the uid of the object that a certificate was issued for, as a URI among its alternative names."""

PrivateKey = ec.EllipticCurvePrivateKey


class PkiError(Exception):
    """A key, a request or a certificate that we do not accept."""


def generate_key() -> PrivateKey:
    """A new key on P-256, which OpenSSL, Go and BoringSSL (gRPC) all take."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """The key as PKCS 8 without a passphrase: OVS takes no other, and a daemon has nobody to ask."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def key_from_pem(pem: bytes) -> PrivateKey:
    """The key of ours in the file.

    Raises:
        PkiError: it is none, or of another type.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise PkiError(f"not a private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError("not an elliptic curve key")
    return key


def common_name(name: str) -> x509.Name:
    """A subject that is a common name only."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def generate_key_and_csr(name: str) -> tuple[bytes, bytes]:
    """A new key and the request for a certificate for it, both PEM; the key stays where it was made."""
    key = generate_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(common_name(name))
    csr = request.sign(key, hashes.SHA256())
    return key_to_pem(key), csr.public_bytes(serialization.Encoding.PEM)


def csr_public_key(pem: bytes) -> CertificatePublicKeyTypes:
    """The public key of a request, after proof that the sender has the private one.

    Everything else that the request asks for is ignored on purpose.

    Raises:
        PkiError: no request, a wrong signature, or a key that is too weak, too large or of another type.
    """
    if len(pem) > MAX_CSR_BYTES:
        raise PkiError(f"the certificate request is larger than {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        _check_strength(key)
        proven = request.is_signature_valid
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise PkiError(f"not a certificate request: {error}") from error
    if not proven:
        raise PkiError("the certificate request is not signed by its own key")
    return key


def _check_strength(key: CertificatePublicKeyTypes) -> None:
    """Before the signature is looked at, for a huge RSA key makes that slow."""
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()) | ed25519.Ed25519PublicKey():
            return
        case rsa.RSAPublicKey(key_size=bits) if MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            return
    raise PkiError(f"a key must be P-256, P-384, Ed25519 or RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
