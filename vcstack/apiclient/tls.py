"""The client's side of TLS: only the given CA is trusted, TLS 1.2 or later, client certificates reload."""

import ssl
from pathlib import Path

from vcstack.apiclient.settings import ConnectionSettings

Stamp = tuple[int, ...]


def build_context(settings: ConnectionSettings) -> ssl.SSLContext:
    """Return a verifying context; with a client certificate when its files are there.

    Raises:
        OSError: if a file cannot be read.
        ssl.SSLError: if a file holds no certificate or the key does not fit.
    """
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file is not None and settings.cert_file.exists():
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def stamp_of(settings: ConnectionSettings) -> Stamp:
    """Return what changes when one of the files is replaced."""
    return tuple(_stamp(p) for p in (settings.ca_file, settings.cert_file, settings.key_file, settings.token_file))


def read_token(settings: ConnectionSettings) -> str | None:
    """Return the bearer token in force, or None."""
    if settings.token is not None:
        return settings.token
    if settings.token_file is None:
        return None
    return settings.token_file.read_text().strip()


def _stamp(path: Path | None) -> int:
    try:
        return path.stat().st_mtime_ns if path is not None else 0
    except FileNotFoundError:
        return 0
