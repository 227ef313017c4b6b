"""RateLimitPolicy: how many requests somebody, a project or an address may send, and which seats they get."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.model import Model, Name, RefersTo, Text
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, ViewColumn, register
from vcstack.specs.resource import Resource, Spec, Status

APPLIED = "Applied"
"""True when all live API workers apply the newest generation; the message names those that do not."""


class RouteClass(StrEnum):
    """Sorts of requests, by what they cost."""

    READ = "Read"
    """One object, or what one may."""
    LIST = "List"
    """A page of a collection."""
    QUERY = "Query"
    """What PostgreSQL is asked: history, the audit trail."""
    WRITE = "Write"
    """Changes, dry runs included."""
    KEY_OPERATION = "KeyOperation"
    """Encrypting, signing and so on, and reading a secret's value."""
    STREAM = "Stream"
    """Beginnings of watches, logs and consoles."""
    TRANSFER = "Transfer"
    """Image content, each chunk."""
    HEARTBEAT = "Heartbeat"
    """Hosts saying that they are alive, and renewing their certificates."""
    LOGIN = "Login"
    """Logging in, renewing a session, exchanging an API key, joining as a host."""
    ANONYMOUS = "Anonymous"
    """Everything else without a credential, or with one that is refused."""


UNKNOWN_SENDER: Final = (RouteClass.LOGIN, RouteClass.ANONYMOUS)
"""Nobody known sends these, so they are counted by address only."""


class Per(StrEnum):
    """Of what each has its own count."""

    SUBJECT = "Subject"
    PROJECT = "Project"
    ADDRESS = "Address"


class Seats(StrEnum):
    """Whose seats requests take while they are worked on."""

    TENANTS = "Tenants"
    OPERATORS = "Operators"


class SenderKind(StrEnum):
    """Who can be limited by name."""

    USER = "User"
    SERVICE_ACCOUNT = "ServiceAccount"
    HOST = "Host"


class Sender(Model):
    """Who sends requests."""

    kind: SenderKind
    """User, ServiceAccount or Host."""
    name: Name
    """Its name."""
    project: Name | None = None
    """Of a service account: the project that it lives in."""


class RateLimit(Model):
    """One limit: a bucket of so many requests that fills again at that rate."""

    name: Name
    """What people know it by; answers that refuse a request name it."""
    per: Per
    """Of what each has a bucket of its own: Subject (who asks), Project (the one that the request's path names) or
    Address (where from; of IPv6 the /64)."""
    routes: Annotated[list[RouteClass], Field(max_length=16)] = Field(default_factory=list)
    """For which requests: Read, List, Query, Write, KeyOperation, Stream, Transfer, Heartbeat, Login, Anonymous; they
    share the bucket. Default all. A limit that names a request's class goes before one that names none."""
    requests_per_minute: Annotated[int, Field(ge=1, le=60_000_000)]
    """How fast the bucket fills: what can be sent in the long run."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many requests it holds: what can be sent at once after a pause. Default what ten seconds bring."""


class RateLimitPolicySpec(Spec):
    """Which requests are limited, and to how many. What is left out does not narrow them."""

    subject: Sender | None = None
    """Only requests of this one."""
    project: Annotated[Name | None, RefersTo("Project")] = None
    """Only requests for what is in this project."""
    domain: Annotated[Name | None, RefersTo("Domain")] = None
    """Only requests for what is in projects of this domain and those below it, and, for what is in no project, of
    their users and service accounts."""
    seats: Seats | None = None
    """Operators: requests of these users and service accounts are worked on in seats of their own, which tenants
    cannot fill. Default Tenants."""
    limits: Annotated[list[RateLimit], Field(max_length=32)] = Field(default_factory=list)
    """For each Per and class of requests one limit holds: that of the policy that fits most closely (first by subject,
    then by project, then by the nearest domain), of several such the lowest, and where no policy has one the
    built-in."""
    description: Text = ""
    """What it is for."""


class WorkerState(Model):
    """What one API worker applies."""

    name: str
    """The worker: a process that serves the API."""
    generation: int = 0
    """The policy's generation that it applies; 0: it has not seen the policy yet."""


class RateLimitPolicyStatus(Status):
    """What was observed of the policy."""

    workers: list[WorkerState] = Field(default_factory=list)
    """What each live API worker says it applies."""
    applied: str = ""
    """How many of the live API workers apply the newest generation, e.g. 4/4."""


class RateLimitPolicy(Resource[RateLimitPolicySpec, RateLimitPolicyStatus]):
    """How many requests somebody, a project or an address may send."""

    KIND = "RateLimitPolicy"
    status: RateLimitPolicyStatus = Field(default_factory=RateLimitPolicyStatus)


def _check(new: RateLimitPolicy, old: RateLimitPolicy | None, referenced: Referenced) -> Sequence[Cause]:
    """The parts fit together and say something."""
    causes = []

    def blame(field: str, reason: str, message: str) -> None:
        causes.append(Cause(field=field, reason=reason, message=message))

    spec = new.spec
    if not spec.limits and spec.seats is None:
        blame("spec.limits", "FieldValueRequired", "is empty: give a limit, or name the seats")
    if spec.subject is not None:
        service = spec.subject.kind is SenderKind.SERVICE_ACCOUNT
        if service and not spec.subject.project:
            blame("spec.subject.project", "FieldValueRequired", "is missing: a service account lives in a project")
        if not service and spec.subject.project:
            blame("spec.subject.project", "FieldValueForbidden", "must be left out: only service accounts have one")
        if spec.subject.kind is SenderKind.HOST and spec.seats is not None:
            blame("spec.seats", "FieldValueForbidden", "must be left out: hosts have seats of their own")
    names = [limit.name for limit in spec.limits]
    narrowed = spec.subject is not None or spec.project is not None or spec.domain is not None
    for number, limit in enumerate(spec.limits):
        if limit.name in names[:number]:
            blame(f"spec.limits[{number}].name", "FieldValueDuplicate", f"{limit.name!r} occurs twice")
        for place, route in enumerate(limit.routes):
            if route in UNKNOWN_SENDER and (limit.per is not Per.ADDRESS or narrowed):
                message = f"{route} has no effect here, for nobody known sends such requests: limit them per Address"
                message += ", in a policy without subject, project and domain"
                blame(f"spec.limits[{number}].routes[{place}]", "FieldValueForbidden", message)
    return causes


register(
    KindDefinition(
        model=RateLimitPolicy,
        plural="ratelimitpolicies",
        uid_prefix="rlp",
        scope=Scope.GLOBAL,
        short_names=("rlp",),
        columns=(
            Column("SUBJECT", "spec.subject.name"),
            Column("PROJECT", "spec.project"),
            Column("DOMAIN", "spec.domain"),
            Column("LIMITS", "spec.limits[*].name"),
            Column("APPLIED", "status.applied"),
        ),
        view=(
            ViewColumn("limited_project", "spec.project"),
            ViewColumn("domain", "spec.domain"),
            ViewColumn("limits", "spec.limits", "jsonb"),
        ),
        ready_when=(APPLIED,),
        check=_check,
        apply_order=15,
        category="core",
        example={
            "metadata": {"name": "builds"},
            "spec": {
                "subject": {"kind": "ServiceAccount", "name": "builds", "project": "demo"},
                "limits": [{"name": "builds", "per": "Subject", "routes": ["Write"], "requestsPerMinute": 600}],
            },
        },
    )
)
