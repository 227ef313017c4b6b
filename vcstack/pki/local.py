"""The certificates of this machine: the authority in its files, and what is renewed of the rest.

Whoever needs them reads the files each time they changed, so what lies there is what is used. Each step replaces one
file, and whatever is there after it fits together: the bundle of those to trust grows before another key signs, and
shrinks after the last certificate of the old one is gone; a renewed certificate keeps its key.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vcstack.pki.authority import (
    CertificateAuthority,
    find_issuer,
    fingerprint,
    load_certificate,
    needs_renewal,
    subject_alternative_names,
    to_pem,
)
from vcstack.pki.files import PRIVATE, PUBLIC, Credential, Stamps, locked, stamps_of, write_atomically
from vcstack.pki.keys import PkiError, key_from_pem


class LocalAuthority:
    """The authority in two files, as they are now."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = (cert, key)
        self._stamps: Stamps = ()
        self._loaded: CertificateAuthority | None = None

    @property
    def current(self) -> CertificateAuthority:
        """The authority. Raises PkiError or OSError when there is none yet; later the last good one stays."""
        stamps = stamps_of(self._files)
        if self._loaded is None or stamps != self._stamps:
            try:
                self._loaded, self._stamps = CertificateAuthority.load(*self._files), stamps
            except (OSError, PkiError):
                if self._loaded is None:
                    raise
        return self._loaded

    def replace(self, authority: CertificateAuthority) -> bool:
        """Make this the authority; return whether it was not.

        Raises:
            PkiError: nothing that is trusted here is trusted there: it is another cloud's.
        """
        cert, key = self._files
        with locked(cert.parent):
            now = CertificateAuthority.load(cert, key)
            if not set(now.trusted) & set(authority.trusted):
                raise PkiError(f"{cert} is of another cloud than the store; copy ca.crt and ca.key from its machines")
            steps = []
            if authority.certificate not in now.trusted:
                # The key that signs has its certificate in the bundle at every moment.
                both = dict.fromkeys((*now.trusted, authority.certificate))
                steps.append((cert, b"".join(to_pem(each) for each in both), PUBLIC))
            if now.key_pem != authority.key_pem:
                steps.append((key, authority.key_pem, PRIVATE))
            if steps or now.bundle != authority.bundle:
                steps.append((cert, authority.bundle, PUBLIC))
            for path, content, mode in steps:
                if path.read_bytes() != content:
                    write_atomically(path, content, mode)
        return bool(steps)


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate on this machine."""

    path: Path
    issuer: str
    """The fingerprint of the authority that signed it."""
    expires_at: datetime


def renew(
    credentials: Iterable[Credential],
    authority: CertificateAuthority,
    *,
    hours: int,
    names: Mapping[Credential, Sequence[str]] | None = None,
) -> list[Held]:
    """Renew what is due, of an authority that signs no more, or without a name it needs; return what there is then.

    To be called while ``locked``. Certificates of others (an API's certificate of a public CA) and files that are not
    there are left alone.

    Args:
        credentials: where they lie.
        authority: who signs.
        hours: lifetime.
        names: what some of them have to be good for, whatever they were made for.
    """
    held, needed = [], names or {}
    for each in dict.fromkeys(credentials):
        try:
            pem = each.cert.read_bytes()
            certificate = load_certificate(pem)
            fits = certificate.public_key() == key_from_pem(each.key.read_bytes()).public_key()
        except (OSError, PkiError):
            continue
        issuer = find_issuer(certificate, authority.trusted)
        if issuer is None or not fits:
            continue
        also = needed.get(each, ())
        lacks = not set(also) <= set(subject_alternative_names(certificate))
        if issuer != authority.certificate or needs_renewal(pem) or lacks:
            issuer, fresh = authority.certificate, authority.reissue(certificate, hours=hours, also=also)
            write_atomically(each.cert, fresh, PUBLIC)
            # ovsdb-server loads both when it finds both changed, and looks at the key's time first.
            each.key.touch()
            certificate = load_certificate(fresh)
        held.append(Held(each.cert, fingerprint(issuer), certificate.not_valid_after_utc))
    return held
