"""Task: something that happens once, run as a workflow of persisted steps."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from vcstack.specs.errors import Cause
from vcstack.specs.meta import Message, Time
from vcstack.specs.model import Change, Model, Name, Observed, Takes
from vcstack.specs.registry import Column, KindDefinition, Referenced, Scope, register
from vcstack.specs.resource import Resource, Spec, Status

FINALIZER = "vcstack.io/task"
SUCCEEDED = "Succeeded"
"""True when the task ended well, False with the reason when it failed or was cancelled."""


class TaskType(StrEnum):
    """What is done."""

    REBOOT = "Reboot"
    """Restart the instance's domain; pending changes of class Reboot come into force."""
    RECREATE = "Recreate"
    """Build the root disk anew from the image and start: what was on it is lost."""


class RebootMode(StrEnum):
    """How an instance is rebooted."""

    SOFT = "Soft"
    """By the guest: the power button, then by force when timeoutSeconds have passed."""
    HARD = "Hard"
    """By force."""


class DesiredState(StrEnum):
    """Whether the task should run."""

    RUN = "Run"
    CANCELLED = "Cancelled"


class TaskTarget(Model):
    """The object it is done to, in the same project."""

    kind: str
    """Its kind."""
    name: Name
    """Its name."""


class TaskSpec(Spec):
    """What is to happen, once."""

    type: Annotated[TaskType, Takes(Change.IMMUTABLE)]
    """What is done."""
    target: Annotated[TaskTarget, Takes(Change.IMMUTABLE)]
    """The object it is done to."""
    mode: Annotated[RebootMode, Takes(Change.IMMUTABLE)] = RebootMode.SOFT
    """For Reboot: Soft or Hard."""
    timeout_seconds: Annotated[int, Field(ge=1, le=3600), Takes(Change.IMMUTABLE)] = 60
    """For a soft Reboot: how long the guest may take to shut down before it is done by force."""
    desired_state: DesiredState = DesiredState.RUN
    """Cancelled stops it after the current step and undoes what can be undone."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=30 * 86400)] = 86400
    """How long it stays after its end."""


class StepState(StrEnum):
    """How far a step is."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    COMPENSATED = "Compensated"


class TaskStep(Model):
    """One persisted step."""

    name: Observed
    """What it does."""
    state: StepState = StepState.PENDING
    """How far it is."""
    message: Message = ""
    """What came of it."""
    started_at: Time | None = None
    """When it was begun."""
    finished_at: Time | None = None
    """When it ended."""
    result: dict[Observed, Observed] = Field(default_factory=dict, max_length=16)
    """What later steps need to know."""


class Phase(StrEnum):
    """How far the task is."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPENSATING = "Compensating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class TaskStatus(Status):
    """How far it is."""

    phase: Phase | None = None
    """How far the task is."""
    host: Observed | None = None
    """The host whose agent runs it."""
    target_uid: Observed | None = None
    """The target's uid when the task began: another object of that name is not touched."""
    steps: Annotated[list[TaskStep], Field(max_length=64)] | None = None
    """The steps, in order."""
    progress_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """From 0 to 100."""
    finished_at: Time | None = None
    """When it ended."""


class Task(Resource[TaskSpec, TaskStatus]):
    """Something that happens once, run as a workflow of persisted steps."""

    KIND = "Task"
    status: TaskStatus = Field(default_factory=TaskStatus)


def _check(new: Task, old: Task | None, referenced: Referenced) -> Sequence[Cause]:
    """The target is of a kind that the type is for."""
    if new.spec.target.kind == "Instance":
        return ()
    message = f"{new.spec.type} is for an Instance, not for {new.spec.target.kind}"
    return (Cause(field="spec.target.kind", reason="FieldValueInvalid", message=message),)


register(
    KindDefinition(
        model=Task,
        plural="tasks",
        uid_prefix="task",
        scope=Scope.PROJECT,
        columns=(
            Column("TYPE", "spec.type"),
            Column("TARGET", "spec.target.name"),
            Column("PHASE", "status.phase"),
            Column("PROGRESS", "status.progressPercent"),
        ),
        ready_when=(SUCCEEDED,),
        node_path="status.host",
        check=_check,
        counted=False,
        apply_order=60,
        category="core",
        example={
            "metadata": {"project": "demo", "name": "reboot-1"},
            "spec": {"type": "Reboot", "target": {"kind": "Instance", "name": "web-1"}},
            "status": {
                "host": "h1",
                "phase": "Succeeded",
                "progressPercent": 100,
                "finishedAt": "2026-11-23T09:00:00Z",
            },
        },
    )
)
