"""The shape of every resource: apiVersion, kind, metadata, spec, status."""

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import orjson
from pydantic import Field

from vcstack.specs.meta import API_VERSION, CONDITIONS_LIMIT, Condition, ConditionStatus, ObjectMeta, OwnerReference
from vcstack.specs.model import Model


class Spec(Model):
    """Intent, written by users and never rewritten by a controller."""


class Status(Model):
    """Observation, written by the reconcilers responsible; all of it can be rebuilt from the world."""

    observed_generation: int = 0
    """The generation that all required conditions have been observed for. Derived in the store."""
    conditions: list[Condition] = Field(default_factory=list, max_length=CONDITIONS_LIMIT)
    """What is observed, one entry a type; Ready sums up the others and is derived in the store."""


SpecT = TypeVar("SpecT", bound=Spec)
StatusT = TypeVar("StatusT", bound=Status)


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The identity of an object without its content; hashable, so it is a work queue's key too."""

    kind: str
    project: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.project + '/' if self.project else ''}{self.name}"


class Resource(Model, Generic[SpecT, StatusT]):
    """A typed resource. Subclasses name their spec and status and are registered as kinds."""

    KIND: ClassVar[str] = ""

    api_version: str = API_VERSION
    """vcstack.io/v1"""
    kind: str = ""
    """The kind's name, PascalCase."""
    metadata: ObjectMeta
    """Who it is."""
    spec: SpecT
    """What is wanted."""
    status: StatusT = Field(default_factory=Status)  # type: ignore[assignment]
    """What was observed."""

    def model_post_init(self, context: Any, /) -> None:
        """Fill in the kind when code did not give it."""
        if not self.kind:
            self.kind = self.KIND

    @classmethod
    def new(
        cls,
        name: str,
        spec: SpecT,
        *,
        project: str | None = None,
        labels: dict[str, str] | None = None,
        owners: tuple["Resource[Any, Any]", ...] = (),
    ) -> Self:
        """Return a fresh object as a controller or test creates it."""
        owner_references = [
            OwnerReference(kind=o.kind, name=o.metadata.name, uid=o.metadata.uid, controller=True) for o in owners
        ]
        meta = ObjectMeta(project=project, name=name, labels=labels or {}, owner_references=owner_references)
        return cls(metadata=meta, spec=spec)

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON-ready mapping; in spec only what was given, so that it equals its manifest."""
        status = self.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": self.metadata.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
            "spec": self.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True),
            "status": status,
        }

    def to_json(self) -> bytes:
        """Return to_wire() as JSON text."""
        return orjson.dumps(self.to_wire())

    @property
    def ref(self) -> Ref:
        """Return its identity."""
        return Ref(self.kind, self.metadata.project, self.metadata.name)

    @property
    def uid(self) -> str:
        """Return metadata.uid."""
        return self.metadata.uid

    @property
    def deleting(self) -> bool:
        """Return whether its deletion was asked for."""
        return self.metadata.deletion_timestamp is not None

    def find_condition(self, type_: str) -> Condition | None:
        """Return the condition of that type, or None."""
        return next((c for c in self.status.conditions if c.type == type_), None)

    def is_true(self, type_: str) -> bool:
        """Return whether the condition is True and was observed for the current generation."""
        found = self.find_condition(type_)
        return (
            found is not None
            and found.status is ConditionStatus.TRUE
            and found.observed_generation >= self.metadata.generation
        )


AnyResource = Resource[Any, Any]
