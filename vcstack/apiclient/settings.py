"""How to reach an API server and who we are to it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where the API is, whom to trust and how to prove who we are.

    Either a token (inline or in a file, read again for every connection) or a client certificate, which
    is read again when its file changes.
    """

    api_url: str
    """https://HOST:PORT"""
    ca_file: Path | None = None
    """The only CA that is trusted; None: the system's."""
    token: str | None = None
    """A bearer token."""
    token_file: Path | None = None
    """A file with a bearer token."""
    cert_file: Path | None = None
    """A client certificate with its chain, PEM."""
    key_file: Path | None = None
    """The certificate's key, PEM."""
    connect_timeout_seconds: float = 5.0
    """To connect and to finish the TLS handshake."""
    request_timeout_seconds: float = 30.0
    """For the answer to an ordinary request."""
    watch_silence_seconds: float = 40.0
    """A watch without even a keep-alive for that long is dead; the server sends one every 10 s."""
    attempts: int = 4
    """How often a safe request is tried before its error is reported."""
    patience_seconds: float = 60.0
    """How long a request is tried again, all in all, that the server refuses for now (429, 503 with Retry-After); a
    longer wait is reported at once."""
    user_agent: str = "vcstack"
    """Named in the server's access log."""
