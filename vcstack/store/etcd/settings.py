"""Where etcd is and how patient the client is with it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """Everything a client needs to know.

    With `ca_file` the connection is TLS, and etcd's certificate must match the endpoint's host name or IP
    address; `cert_file` and `key_file` are shown to an etcd that asks for client certificates.
    """

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    """host:port of each member, without a scheme; the first that answers is used until it fails."""

    ca_file: Path | None = None
    """PEM of the CA that signed etcd's certificate; None means no TLS, for tests on loopback only."""

    cert_file: Path | None = None
    """PEM of the client certificate."""

    key_file: Path | None = None
    """PEM of the client certificate's key."""

    request_timeout_seconds: float = 5.0
    """Longest time of one call, retries and connecting included."""

    max_receive_bytes: int = 256 * 1024 * 1024
    """Largest answer taken. gRPC's own default of 4 MiB is less than a page of 5,000 objects."""

    keepalive_seconds: float = 6.0
    """Silence after which the connection is probed while calls are open.

    Not below etcd's `--grpc-keepalive-min-time` (5 s by default), else etcd closes it with
    ENHANCE_YOUR_CALM.
    """

    ping_timeout_seconds: float = 3.0
    """Time a probe may go unanswered before the connection counts as dead (a frozen etcd, a cut cable)."""

    backoff_min_seconds: float = 0.05
    """First pause before trying again; it doubles."""

    backoff_max_seconds: float = 1.0
    """Longest pause before trying again."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later.

        Raises:
            ValueError: no endpoints, an endpoint with a scheme, or a certificate without its key.
        """
        if not self.endpoints:
            raise ValueError("etcd: at least one endpoint is needed")
        for endpoint in self.endpoints:
            if "/" in endpoint or ":" not in endpoint:
                raise ValueError(f"etcd: endpoint {endpoint!r} must be host:port, without a scheme")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("etcd: cert_file and key_file go together")
        if self.cert_file is not None and self.ca_file is None:
            raise ValueError("etcd: a client certificate needs ca_file too")
