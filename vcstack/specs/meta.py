"""What every resource carries besides its spec: metadata and conditions."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from vcstack.specs.model import Model, Name

API_VERSION = "vcstack.io/v1"
APPLY_SET_LABEL = "vcstack.io/apply-set"
"""Names the apply set that an object belongs to; only objects of the set are ever pruned."""
PRUNE_LABEL = "vcstack.io/prune"
"""Disabled: the object is not pruned, whatever its apply set says."""


def format_time(value: datetime) -> str:
    """Return RFC 3339 in UTC with whole seconds or microseconds, ending in Z."""
    in_utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return in_utc.isoformat()[: -len("+00:00")] + "Z"


IN_UTC: Final = Field(ge=datetime.min.replace(tzinfo=UTC), le=datetime.max.replace(tzinfo=UTC))
"""What can be written in UTC: 9999-12-31T23:59:59-01:00 could be stored, and nobody could show it."""

TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"
"""RFC 3339 section 5.6. pydantic alone takes seconds since 1970, times without a zone and other letters, too: what it
takes is stored as it is written, and others do not read it, or read it otherwise."""


class _Rfc3339:
    """Has the text of a time looked at before it is read. Python's own times are taken as they are."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        time = handler(source)
        text = core_schema.str_schema(pattern=TIME_PATTERN, strict=True)
        read = core_schema.chain_schema([text, core_schema.datetime_schema(strict=False), time])
        return core_schema.json_or_python_schema(read, time)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time"}


RFC_3339: Final = _Rfc3339()

Time = Annotated[datetime, IN_UTC, RFC_3339, PlainSerializer(format_time, return_type=str, when_used="json")]
"""A point in time, RFC 3339 in UTC on the wire."""

LabelKey = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
AnnotationValue = Annotated[str, StringConstraints(max_length=65536)]


CONDITIONS_LIMIT: Final = 64
"""Conditions of one object: each is looked at with every write, also those that a broken host made up."""
MESSAGE_LIMIT: Final = 32_768
"""Characters of a message; type, reason and message may be as long as in a condition of Kubernetes."""
CUT: Final = "… (cut)"

Message = Annotated[str, StringConstraints(max_length=MESSAGE_LIMIT)]
"""Sentences for people that a program wrote."""


def fit_message(text: str) -> str:
    """Return the text, cut if a message may not be that long: thousands of hosts or objects may be told of."""
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - len(CUT)] + CUT


class ConditionStatus(StrEnum):
    """The three answers a condition can give."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One observed aspect of an object's state."""

    type: Annotated[str, StringConstraints(max_length=316)]
    """What is observed, PascalCase."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, StringConstraints(max_length=1024)] = ""
    """A machine's word for why, PascalCase."""
    message: Message = ""
    """A sentence for people: what is waited for and what they can do."""
    last_transition_time: Time
    """When status last changed."""
    observed_generation: int = 0
    """The generation of the spec that the observation belongs to."""


class OwnerReference(Model):
    """An object that this one belongs to; when all owners are gone this one is deleted."""

    kind: str
    """The owner's kind."""
    name: Name
    """The owner's name, in the same project or global."""
    uid: str
    """The owner's uid; another object of the same name is no owner."""
    controller: bool = False
    """Whether the owner's controller manages this object."""
    block_owner_deletion: bool = False
    """Whether foreground deletion of the owner waits for this object."""


class ManagedFieldsEntry(Model):
    """The fields that one field manager owns by server-side apply or by writing them."""

    manager: str
    """The manager's name, e.g. vcctl."""
    operation: str
    """Apply or Update."""
    subresource: str = ""
    """status when the fields were written through it."""
    time: Time
    """When the set last changed."""
    fields: dict[str, Any]
    """The set of fields as a tree, in Kubernetes' FieldsV1 notation: f:NAME, k:{"name":"x"}, v:VALUE and '.'."""


class ObjectMeta(Model):
    """The metadata of a resource."""

    project: Name | None = None
    """The project it lives in; absent on global objects. Immutable."""
    name: Name = ""
    """A DNS label, unique among the kind in its project. Immutable."""
    uid: str = ""
    """Never reused; names the external objects. Chosen by the system."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=64)
    """Short values to select by."""
    annotations: dict[LabelKey, AnnotationValue] = Field(default_factory=dict, max_length=64)
    """Values that are not selected by."""
    generation: int = 0
    """Rises when spec changes. Chosen by the system."""
    resource_version: str = ""
    """Opaque version for optimistic concurrency. Chosen by the system."""
    creation_timestamp: Time | None = None
    """When it was created. Chosen by the system."""
    deletion_timestamp: Time | None = None
    """When its deletion was asked for. Chosen by the system."""
    finalizers: list[str] = Field(default_factory=list, max_length=16)
    """What has to be cleaned up before it is gone."""
    owner_references: list[OwnerReference] = Field(default_factory=list, max_length=16)
    """The objects this one belongs to."""
    managed_fields: list[ManagedFieldsEntry] = Field(default_factory=list)
    """Who owns which fields. Chosen by the system."""
