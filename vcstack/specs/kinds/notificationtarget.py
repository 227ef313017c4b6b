"""NotificationTarget: where events are sent to, by webhook."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.errors import Cause
from vcstack.specs.kinds.event import Event, EventType
from vcstack.specs.kinds.secret import Key
from vcstack.specs.meta import Time
from vcstack.specs.model import Model, Name
from vcstack.specs.permissions import RuleSelector
from vcstack.specs.registry import (
    Column,
    KindDefinition,
    Reference,
    Referenced,
    Scope,
    ViewColumn,
    load_kinds,
    register,
)
from vcstack.specs.resource import Ref, Resource, Spec, Status

DELIVERING = "Delivering"
"""True while what happens is delivered, or the receiver was reached lately."""
DELIVERY_FAILED = "DeliveryFailed"
"""Why not: it is reached, and does not take what it is sent."""

WebhookUrl = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?$", max_length=2048)]
KindName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")]
Reason = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,128}$")]


class TargetSecret(Model):
    """A value of a Secret."""

    project: Name | None = None
    """Of a target outside projects: the project that the Secret is in. In a project it is that one."""
    name: Name
    """The Secret."""
    key: Key
    """Which of its values."""


class EventSelection(Model):
    """Which events are sent. All that is given has to be so; nothing given: all."""

    kinds: Annotated[list[KindName], Field(max_length=64)] = Field(default_factory=list)
    """Of objects of these kinds, e.g. Instance."""
    reasons: Annotated[list[Reason], Field(max_length=64)] = Field(default_factory=list)
    """With these reasons, e.g. ContentLost."""
    types: Annotated[list[EventType], Field(max_length=2)] = Field(default_factory=list)
    """Normal, Warning."""
    label_selector: RuleSelector = ""
    """Of objects whose labels match when it is sent, e.g. env=prod. An object that is gone has none."""


class NotificationTargetSpec(Spec):
    """Which events go where."""

    url: WebhookUrl | None = None
    """Where they are posted to, as JSON. https, and a public address unless whoever runs the cloud allows another."""
    url_secret: TargetSecret | None = None
    """The same as a value of a Secret, for addresses that are secrets themselves, as chat systems have them."""
    signing_secret: TargetSecret | None = None
    """What they are signed with (HMAC-SHA256, as standardwebhooks.com says). Default no signature. Whoever names a
    value here has to be allowed to read it."""
    events: EventSelection = Field(default_factory=EventSelection)
    """Which events."""
    backlog_limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """How many may wait; of more the oldest are given up and counted as dropped."""
    suspended: bool = False
    """true: nothing is sent, and events wait."""


class NotificationTargetStatus(Status):
    """What was observed of the deliveries."""

    pending: int | None = None
    """How many events waited when it was looked at last."""
    delivered: int | None = None
    """How many were taken."""
    delivered_at: Time | None = None
    """When the last one was."""
    reached_at: Time | None = None
    """When the receiver was last reached: by a delivery, or where nothing is to be sent every ten minutes by a TLS
    handshake without a request."""
    dropped: int | None = None
    """How many were given up because too many waited."""
    refused: int | None = None
    """How many the receiver refused for what is in them (400, 413, 422); they are not sent again."""
    failures: int | None = None
    """How often in a row it could not be reached, or did not take what it was sent."""
    failed_at: Time | None = None
    """When it did not work last."""
    failure: str | None = None
    """Why."""
    cursor: str | None = None
    """Up to which version of the store everything was sent or given up."""
    ahead: list[str] = Field(default_factory=list)
    """Ids of what was sent of later versions."""


class NotificationTarget(Resource[NotificationTargetSpec, NotificationTargetStatus]):
    """Where events are sent to: those of its project, or outside of projects all of the cloud."""

    KIND = "NotificationTarget"
    spec: NotificationTargetSpec = Field(default_factory=NotificationTargetSpec)
    status: NotificationTargetStatus = Field(default_factory=NotificationTargetStatus)


def secrets_of(target: NotificationTarget) -> list[tuple[str, Ref]]:
    """Return the Secrets that are named, with the field of each."""
    named = (("spec.urlSecret", target.spec.url_secret), ("spec.signingSecret", target.spec.signing_secret))
    return [
        (field, Ref("Secret", target.metadata.project or secret.project, secret.name))
        for field, secret in named
        if secret is not None
    ]


def _check(new: NotificationTarget, old: NotificationTarget | None, referenced: Referenced) -> Sequence[Cause]:
    """There is one address, secrets lie where they can be named, kinds exist."""
    causes = []

    def blame(field: str, reason: str, message: str) -> None:
        causes.append(Cause(field=field, reason=reason, message=message))

    if (new.spec.url is None) == (new.spec.url_secret is None):
        blame("spec.url", "FieldValueRequired", "give url or urlSecret, one of them")
    own = new.metadata.project
    for field, secret in (("spec.urlSecret", new.spec.url_secret), ("spec.signingSecret", new.spec.signing_secret)):
        if secret is None:
            continue
        if own is None and secret.project is None:
            blame(f"{field}.project", "FieldValueRequired", "say in which project the Secret is")
        if own is not None and secret.project not in (None, own):
            blame(f"{field}.project", "FieldValueForbidden", "must be left out: it is the target's own project")
    for n, kind in enumerate(new.spec.events.kinds):
        if kind not in load_kinds() or kind == Event.KIND:
            blame(f"spec.events.kinds[{n}]", "FieldValueNotSupported", f"{kind} is no kind that events are about")
    return causes


def _must_exist(target: NotificationTarget) -> Sequence[Reference]:
    return [Reference(f"{field}.name", ref) for field, ref in secrets_of(target) if ref.project is not None]


register(
    KindDefinition(
        model=NotificationTarget,
        plural="notificationtargets",
        uid_prefix="nt",
        scope=Scope.GLOBAL_OR_PROJECT,
        short_names=("nt",),
        columns=(
            Column("DELIVERED", "status.delivered"),
            Column("LAST", "status.deliveredAt", format="age"),
            Column("REACHED", "status.reachedAt", format="age"),
            Column("PENDING", "status.pending"),
            Column("FAILURES", "status.failures"),
            Column("SUSPENDED", "spec.suspended", default="false"),
            Column("FAILURE", "status.failure", wide=True),
        ),
        view=(
            ViewColumn("suspended", "spec.suspended", "boolean"),
            ViewColumn("delivered_at", "status.deliveredAt", "timestamptz"),
            ViewColumn("failures", "status.failures", "bigint"),
        ),
        ready_when=(DELIVERING,),
        check=_check,
        must_exist=_must_exist,
        apply_order=17,
        category="core",
        example={
            "metadata": {"project": "demo", "name": "pager"},
            "spec": {"url": "https://hooks.example.com/vcstack", "events": {"types": ["Warning"]}},
        },
    )
)
