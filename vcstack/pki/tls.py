"""TLS contexts for our servers and clients, and the name of who is at the other end."""

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from vcstack.pki.files import Stamps, stamps_of
from vcstack.pki.keys import UID_URN, PkiError


class ReloadingContext(ssl.SSLContext):
    """A server's context that each new connection finds as the files are then.

    An ``SSLContext`` never forgets a CA that it was given; so another one is built whenever a file changed, and stands
    in for this one in each handshake. Files that do not fit each other (half replaced) change nothing yet.
    """

    _build: Callable[[], ssl.SSLContext]
    _files: tuple[Path, ...]
    _stamps: Stamps
    _current: ssl.SSLContext

    @classmethod
    def of(cls, build: Callable[[], ssl.SSLContext], *files: Path) -> "ReloadingContext":
        """The context that ``build`` makes of these files. Raises what it raises for those that are there now."""
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made._build, made._files = build, files
        made._stamps = stamps_of(files)
        made._current = build()
        return made

    @property
    def current(self) -> ssl.SSLContext:
        """The context of the files as they are now."""
        stamps = stamps_of(self._files)
        if stamps != self._stamps:
            with contextlib.suppress(OSError):  # ssl.SSLError is one
                self._current, self._stamps = self._build(), stamps
        return self._current

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """A connection's TLS; asyncio and uvloop ask for it here."""
        return self.current.wrap_bio(*args, **options)


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
    # Nobody comes back by a ticket whose certificate would be refused by now.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
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


def certificate_uid(certificate: x509.Certificate) -> str:
    """The uid of the object that a certificate was issued for; empty when it names none, or several."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    uids = [uri.removeprefix(UID_URN) for uri in uris if uri.startswith(UID_URN)]
    return uids[0] if len(uids) == 1 else ""
