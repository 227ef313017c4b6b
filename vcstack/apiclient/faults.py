"""What went wrong on the wire, as the errors of ``vcstack.specs.errors``."""

import os
import socket
import ssl

import httpx2
from pydantic import ValidationError

from vcstack.specs.errors import (
    ApiError,
    ErrorStatus,
    InternalError,
    Unauthorized,
    Unavailable,
    error_classes,
    from_status,
)


class NotSent(Unavailable):
    """The request never reached a server: repeating it is safe whatever it does."""


class OutcomeUnknown(Unavailable):
    """The connection broke after the request was sent: it may have been done."""


class LoggedOut(Unauthorized):
    """Nobody is logged in, or no more."""


class BadCredential(Unauthorized):
    """A credential that is no such thing."""


def read_error(code: int, body: bytes) -> ApiError:
    """Return the exception that an HTTP error answer stands for."""
    try:
        return from_status(ErrorStatus.from_wire(body))
    except ValidationError:
        pass
    text = body[:200].decode("utf-8", "replace").strip() or "no body"
    message = f"the server answered HTTP {code} in a shape that is not the API's: {text}"
    cls = next((c for (known, _), c in error_classes().items() if known == code), InternalError)
    return cls(message)


def transport_error(error: httpx2.TransportError, url: str) -> ApiError:
    """Return the exception for a failure below HTTP."""
    url = url.partition("?")[0]
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return NotSent(f"cannot reach {url}: {_explain(error)}")
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
        return NotSent(f"cannot ask {url}: {error}")
    if isinstance(error, httpx2.TimeoutException):
        return OutcomeUnknown(f"{url} did not answer in time")
    return OutcomeUnknown(f"the connection to {url} broke: {_explain(error)}")


def _explain(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message}); is caFile the right one?"
        if isinstance(cause, socket.gaierror):
            return cause.strerror or str(cause)
        if isinstance(cause, ConnectionError | TimeoutError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.exceptions[0] if isinstance(cause, ExceptionGroup) else cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
