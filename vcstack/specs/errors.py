"""The errors of the API, raised alike by the store and by the API client.

ApiError
├── BadRequest            400 BadRequest         the request cannot be read
├── Unauthorized          401 Unauthorized       who are you?
├── Forbidden             403 Forbidden          you may not
│   ├── PolicyDenied      403 PolicyDenied       a policy objects; the causes name policy and rule
│   └── QuotaExceeded     403 QuotaExceeded      a limit of a quota is reached
├── NotFound              404 NotFound           no such object
├── MethodNotAllowed      405 MethodNotAllowed
├── Conflict              409 Conflict           a stale resourceVersion, a claim taken, a field owned by others
│   ├── AlreadyExists     409 AlreadyExists
│   └── ClaimTaken        409 ClaimTaken         an address, a MAC, capacity: held by somebody else
├── Expired               410 Expired            the revision was compacted, list again; or removed from history
├── TooLarge              413 RequestEntityTooLarge
├── UnsupportedMediaType  415 UnsupportedMediaType
├── Invalid               422 Invalid            the object breaks its schema or its rules
├── TooManyRequests       429 TooManyRequests    too many failures
│   └── RateLimited       429 RateLimited        a limit on requests; nothing was done, try again as it says
├── InternalError         500 InternalError
└── Unavailable           503 ServiceUnavailable a part behind the API does not answer; try again
FencedOut                 (409 Fenced)           the writer no longer leads; its write was refused
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from pydantic import Field

from vcstack.specs.model import Model

NAMES_NOTHING: Final = "FieldValueNotFound"
"""A cause's reason: the field names an object that is not there."""


class Cause(Model):
    """One reason for a refusal, tied to a field."""

    field: str
    """The field's path, e.g. spec.networkInterfaces[0].network."""
    reason: str
    """A machine's word, e.g. FieldValueInvalid."""
    message: str
    """A sentence that names the problem and the fix."""


class LimitDetails(Model):
    """The limit on requests that was reached."""

    reason: str
    """RateLimitExceeded, TooManyBytes, QueueFull, QueueTimeout or TooManyStreams."""
    name: str
    """The limit's name; of a queue or streams the level's."""
    policy: str = ""
    """The RateLimitPolicy that it is from; empty: it is built in."""
    per: str = ""
    """Of what each has its own count: Subject, Project or Address."""
    requests_per_minute: int = 0
    """What may be sent in the long run; 0: it is no rate."""
    burst: int = 0
    """What may be sent at once."""


class ErrorDetails(Model):
    """What the error is about."""

    kind: str = ""
    """The kind."""
    project: str = ""
    """The project."""
    name: str = ""
    """The object's name."""
    causes: list[Cause] = Field(default_factory=list)
    """The fields that were refused."""
    retry_after_seconds: int | None = None
    """When to try again."""
    limit: LimitDetails | None = None
    """The limit on requests that was reached."""


class ErrorStatus(Model):
    """The one error body of the API."""

    kind: str = "Error"
    """Always Error."""
    code: int
    """The HTTP status."""
    reason: str
    """A machine's word."""
    message: str
    """A sentence for people."""
    details: ErrorDetails = Field(default_factory=ErrorDetails)
    """What it is about."""


class ApiError(Exception):
    """The base of all errors that the API reports."""

    CODE: ClassVar[int] = 500
    REASON: ClassVar[str] = "InternalError"

    def __init__(self, message: str, *, causes: Sequence[Cause] = (), details: ErrorDetails | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or ErrorDetails()
        if causes:
            self.details.causes = list(causes)

    @property
    def causes(self) -> list[Cause]:
        """Return the fields that were refused."""
        return self.details.causes

    def to_status(self) -> ErrorStatus:
        """Return the body that the API sends."""
        return ErrorStatus(code=self.CODE, reason=self.REASON, message=self.message, details=self.details)


class BadRequest(ApiError):
    """The request cannot be read."""

    CODE, REASON = 400, "BadRequest"


class Unauthorized(ApiError):
    """The caller is not known."""

    CODE, REASON = 401, "Unauthorized"


class Forbidden(ApiError):
    """The caller may not do this."""

    CODE, REASON = 403, "Forbidden"


class PolicyDenied(Forbidden):
    """A policy objects; the causes name policy, rule and field."""

    REASON = "PolicyDenied"


class QuotaExceeded(Forbidden):
    """A limit of a quota is reached; the causes name the limits."""

    REASON = "QuotaExceeded"


class NotFound(ApiError):
    """There is no such object."""

    CODE, REASON = 404, "NotFound"


class MethodNotAllowed(ApiError):
    """The route does not know the method."""

    CODE, REASON = 405, "MethodNotAllowed"


class Conflict(ApiError):
    """The object is not as the caller believes: read it again."""

    CODE, REASON = 409, "Conflict"


class AlreadyExists(Conflict):
    """An object of that name exists."""

    REASON = "AlreadyExists"


class ClaimTaken(Conflict):
    """What must be unique or is limited is held by somebody else."""

    REASON = "ClaimTaken"


class FencedOut(Conflict):
    """The writer no longer leads; its write was refused."""

    REASON = "Fenced"


class Expired(ApiError):
    """The revision was compacted: list again; or what was at it was removed from history."""

    CODE, REASON = 410, "Expired"


class TooLarge(ApiError):
    """The body or the object exceeds the limit."""

    CODE, REASON = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    """The body's media type is not known here."""

    CODE, REASON = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """The object breaks its schema or its rules; the causes name the fields."""

    CODE, REASON = 422, "Invalid"


class TooManyRequests(ApiError):
    """The caller has to slow down."""

    CODE, REASON = 429, "TooManyRequests"


class RateLimited(TooManyRequests):
    """A limit on requests is reached; details.limit names it. Nothing was done: trying again later is safe."""

    REASON = "RateLimited"


class InternalError(ApiError):
    """A fault of ours; the log has the request's id."""


class Unavailable(ApiError):
    """A part behind the API does not answer; try again."""

    CODE, REASON = 503, "ServiceUnavailable"


def error_classes() -> dict[tuple[int, str], type[ApiError]]:
    """Return the error class of each (code, reason)."""
    found: dict[tuple[int, str], type[ApiError]] = {}
    stack: list[type[ApiError]] = [ApiError]
    while stack:
        cls = stack.pop()
        stack.extend(cls.__subclasses__())
        found.setdefault((cls.CODE, cls.REASON), cls)
    return found


def from_status(status: ErrorStatus) -> ApiError:
    """Return the exception that an error body stands for."""
    classes = error_classes()
    by_code = {code: cls for (code, reason), cls in reversed(classes.items())}
    cls = classes.get((status.code, status.reason)) or by_code.get(status.code, ApiError)
    return cls(status.message, details=status.details)
