"""What is said about logging in by OpenID Connect, as it is on the wire: ``/api/v1/auth/oidc/...``.

Nothing is kept between the steps: the challenge carries it, sealed. Tokens at the end are a ``TokensReply``.
"""

from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.meta import Time
from vcstack.specs.model import Model, Name

Long = Annotated[str, StringConstraints(max_length=4096)]


class OidcBeginRequest(Model):
    """A login with a browser."""

    provider: Name
    """The IdentityProvider."""
    redirect_uri: Annotated[str, StringConstraints(max_length=512)]
    """Where the browser comes back to: http://127.0.0.1:PORT/oidc/PROVIDER or http://[::1]:PORT/oidc/PROVIDER for
    programs, or this API's own address with a path that ends in /oidc/PROVIDER."""


class OidcBeginReply(Model):
    """Where the browser goes."""

    authorization_url: str
    """To be opened in a browser."""
    state: str
    """What comes back with the code; anything else is somebody else's login."""
    challenge: str
    """To be shown with the code. It is kept by the program that began."""
    expires_at: Time
    """Until when the login has to be complete."""


class OidcCompleteRequest(Model):
    """What the browser brought back."""

    challenge: Long
    """Of the beginning."""
    code: Long
    """The parameter code."""
    state: Annotated[str, StringConstraints(max_length=512)]
    """The parameter state."""
    issuer: Annotated[str, StringConstraints(max_length=2048)] = ""
    """The parameter iss, where the provider sends one (RFC 9207)."""


class OidcDeviceRequest(Model):
    """A login without a browser on this machine."""

    provider: Name
    """The IdentityProvider."""


class OidcDeviceReply(Model):
    """What the user does on another device."""

    user_code: str
    """To be typed there."""
    verification_uri: str
    """To be opened there."""
    verification_uri_complete: str | None = None
    """The same with the code in it."""
    challenge: str
    """To be shown when asking whether it is done."""
    interval_seconds: int
    """How long to wait between two questions."""
    expires_at: Time
    """Until when."""


class OidcPollRequest(Model):
    """Is it done?"""

    challenge: Long
    """Of the beginning."""


class OidcPendingReply(Model):
    """Not yet."""

    pending: bool = True
    """Always true."""
    interval_seconds: Annotated[int, Field(ge=1)]
    """How long to wait before the next question."""
