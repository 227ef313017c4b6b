"""What a host's agent asks of the API besides its objects: joining, renewing its certificate, heartbeats."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from vcstack.apiclient.connection import Connection
from vcstack.apiclient.paths import API_ROOT
from vcstack.specs.meta import LabelKey, LabelValue, Time
from vcstack.specs.model import Model, Name


class JoinRequest(Model):
    """A host asks to become one of the cloud's."""

    token: str
    """The one-time token of ``vcctl`` or ``vc-management join-token``."""
    host_name: Name
    """The host's name; the token is good for this one only."""
    csr: str
    """A certificate signing request, PEM; its key never leaves the host."""
    zone: Name | None = None
    """The failure domain of the new Host object."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Labels of the new Host object."""


class CertificateRequest(Model):
    """A host asks for a new certificate with its present one."""

    csr: str
    """A certificate signing request, PEM."""


class IssuedCertificate(Model):
    """A signed certificate."""

    certificate: str
    """The host's certificate, PEM, followed by intermediates if there are any."""
    ca: str
    """The cloud's CA, PEM; while it is rotated two, both to be trusted."""


class JoinToken(Model):
    """A one-time token that lets one host join."""

    token: str
    """Shown once; the server keeps its hash only."""
    expires_at: Time
    """When it runs out."""


class Heartbeat(Model):
    """The server's answer to a heartbeat."""

    ttl_seconds: int
    """The host counts as gone when none comes for that long."""
    server_time: datetime | None = None
    """The server's clock, to notice a host whose clock is wrong."""
    generation: int | None = None
    """Of the host's object: the host reports anew when it changed."""
    authority: str | None = None
    """What changes when another authority signs or others are to be trusted: then the host asks for a certificate."""


class HostClient:
    """The host's own calls."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def join(
        self, *, token: str, host_name: str, csr: str, zone: str | None = None, labels: Mapping[str, str] | None = None
    ) -> IssuedCertificate:
        """Return the host's first certificate; its Host object is there afterwards.

        The same token and CSR key may be sent again (an answer may be lost). Raises Forbidden for a token
        that is wrong, used or too old.
        """
        request = JoinRequest(token=token, host_name=host_name, csr=csr, zone=zone, labels=dict(labels or {}))
        answer = await self.connection.request("POST", f"{API_ROOT}/join", content=request.to_json())
        return IssuedCertificate.from_wire(answer.content)

    async def renew(self, host_name: str, csr: str) -> IssuedCertificate:
        """Return a new certificate, asked for with the present one."""
        path = f"{API_ROOT}/hosts/{host_name}/certificate"
        answer = await self.connection.request("POST", path, content=CertificateRequest(csr=csr).to_json())
        return IssuedCertificate.from_wire(answer.content)

    async def beat(self, host_name: str, *, timeout_seconds: float = 5.0) -> Heartbeat:
        """Say that the host is alive; costs the store no revision."""
        path = f"{API_ROOT}/hosts/{host_name}/heartbeat"
        answer = await self.connection.request("POST", path, timeout_seconds=timeout_seconds)
        return Heartbeat.from_wire(answer.content)

    async def create_join_token(self, host_name: str) -> JoinToken:
        """Return a token for that host (administrators only)."""
        answer = await self.connection.request("POST", f"{API_ROOT}/hosts/{host_name}/jointoken")
        return JoinToken.from_wire(answer.content)
