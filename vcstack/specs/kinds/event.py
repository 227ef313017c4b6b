"""Event: what happened to an object, for people; kept for a day unless set otherwise."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from vcstack.specs.meta import Message, Time
from vcstack.specs.model import Model, Observed
from vcstack.specs.registry import Column, KindDefinition, Scope, register
from vcstack.specs.resource import Resource, Spec, Status
from vcstack.specs.settings import EVENTS_RETENTION


def actor_of(host: str) -> str:
    """Return what a host's agent is called in the events that it reports."""
    return f"vc-compute/{host}"


class EventType(StrEnum):
    """Whether somebody should look."""

    NORMAL = "Normal"
    WARNING = "Warning"


class ObjectReference(Model):
    """The object that it happened to."""

    kind: Observed
    """Its kind."""
    name: Observed
    """Its name."""
    uid: Observed = ""
    """Its uid."""


class EventSpec(Spec):
    """What happened. Written by the system only."""

    regarding: ObjectReference
    """The object that it happened to."""
    type: EventType
    """Normal or Warning."""
    reason: Annotated[str, StringConstraints(max_length=1024)]
    """A machine's word, PascalCase."""
    message: Message
    """A sentence for people."""
    actor: Observed
    """Who reports it."""
    count: Annotated[int, Field(ge=0, le=2**53)] = 1
    """How often it happened."""
    first_time: Time
    """When it happened first."""
    last_time: Time
    """When it happened last."""


class EventStatus(Status):
    """Nothing: an event is an observation itself."""


class Event(Resource[EventSpec, EventStatus]):
    """What happened to an object, for people; kept for a day."""

    KIND = "Event"
    status: EventStatus = Field(default_factory=EventStatus)


register(
    KindDefinition(
        model=Event,
        plural="events",
        uid_prefix="ev",
        scope=Scope.GLOBAL_OR_PROJECT,
        short_names=("ev",),
        columns=(
            Column("LAST", "spec.lastTime", format="age"),
            Column("TYPE", "spec.type"),
            Column("REASON", "spec.reason"),
            Column("OBJECT", "spec.regarding.name"),
            Column("COUNT", "spec.count"),
            Column("MESSAGE", "spec.message"),
        ),
        ttl_setting=EVENTS_RETENTION,
        system_only=True,
        apply_order=90,
        category="core",
        example={
            "metadata": {"project": "demo", "name": "ev-1"},
            "spec": {
                "regarding": {"kind": "Instance", "name": "web-1"},
                "type": "Normal",
                "reason": "Started",
                "message": "It runs.",
                "actor": actor_of("h9"),
                "firstTime": "2026-11-01T12:00:00Z",
                "lastTime": "2026-11-01T12:00:00Z",
            },
        },
    )
)
