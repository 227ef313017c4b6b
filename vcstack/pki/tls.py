"""TLS contexts for our servers and clients, and the name of who is at the other end."""

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from vcstack.pki.keys import PkiError


def server_ssl_context(
    cert: Path, key: Path, ca: Path, *, client_certificate: ssl.VerifyMode = ssl.CERT_OPTIONAL
) -> ssl.SSLContext:
    """A server's context; by default a client may show a certificate, and one that is shown must be ours.

    With CERT_OPTIONAL users come with tokens and hosts with certificates through the same port.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    context.verify_mode = client_certificate
    return context


def client_ssl_context(ca: Path, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """A client's context: it trusts our CA alone, and checks the server's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


def peer_common_name(connection: ssl.SSLObject | ssl.SSLSocket) -> str | None:
    """The name in the certificate that the peer showed and TLS has verified; None if it showed none.

    Raises:
        PkiError: the certificate has no common name, or several, of which one could be meant to deceive.
    """
    der = connection.getpeercert(binary_form=True)
    return None if der is None else certificate_common_name(x509.load_der_x509_certificate(der))


def certificate_common_name(certificate: x509.Certificate) -> str:
    """The one common name of a certificate's subject.

    Raises:
        PkiError: there is none or more than one.
    """
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise PkiError(f"a certificate needs exactly one common name, this one has {len(names)}")
    return str(names[0].value)
