"""The workflow engine: what happens once, as steps that are persisted before and after each is run.

Killed at any line, the next run goes on with the step that was begun. So a step's ``run`` must be safe to
repeat, and its ``compensate`` must succeed when the step was never run, half run or compensated already.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vcstack.clock import Clock
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.errors import TerminalError
from vcstack.runtime.events import EventRecorder
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.kinds.task import SUCCEEDED, DesiredState, Phase, StepState, Task, TaskStep
from vcstack.specs.meta import ConditionStatus, fit_message, format_time

FINISHED = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})
CANCELLED_REASON = "Cancelled"


@dataclass(frozen=True, slots=True)
class StepScope:
    """What a step may know."""

    task: Task
    results: Mapping[str, Mapping[str, str]]
    """What the earlier steps returned, by step name."""


class Step(Protocol):
    """One step of a workflow."""

    name: str
    """Unique in the workflow; never changed, because running tasks have it stored."""

    async def run(self, scope: StepScope) -> Mapping[str, str] | None:
        """Do it and return what later steps need to know.

        Raises TerminalError when it cannot be done: the earlier steps are then compensated. Any other
        error, WaitingFor included, is raised to the runtime and the step is run again.
        """

    async def compensate(self, scope: StepScope) -> None:
        """Undo it; nothing to undo is success."""


@dataclass(slots=True)
class Workflow:
    """Runs the steps of one task; made anew for each reconcile."""

    steps: Sequence[Step]
    client: ResourceClient
    clock: Clock
    current: Callable[[], Task | None] = lambda: None
    """The newest known state of the task, for cancellation between steps."""
    events: EventRecorder | None = None
    _task: Task = field(init=False)

    async def run(self, task: Task) -> Task:
        """Bring the task to its end and return it. A finished task is returned as it is."""
        self._task = task
        if task.status.phase in FINISHED:
            return task
        if task.status.phase is not Phase.COMPENSATING:
            failure = await self._forward()
            if failure is None:
                return await self._finish(Phase.SUCCEEDED, True, "Done", "All steps succeeded.")
            await self._begin_compensation(failure)
        await self._backward()
        reason, message = self._failure()
        phase = Phase.CANCELLED if reason == CANCELLED_REASON else Phase.FAILED
        return await self._finish(phase, False, reason, message)

    async def _forward(self) -> TerminalError | None:
        """Run what is left; return why it has to be undone, or None when all is done."""
        for step in self.steps:
            state = self._state_of(step.name)
            if state.state is StepState.SUCCEEDED:
                continue
            if state.state is StepState.FAILED:
                return TerminalError("StepFailed", f"{step.name}: {state.message}")
            if self._cancelled():
                return TerminalError(CANCELLED_REASON, "Cancelled on request.")
            if state.state is StepState.PENDING:
                await self._save(step.name, phase=Phase.RUNNING, state=StepState.RUNNING, started_at=self.clock.now())
            try:
                result = await step.run(self._scope())
            except TerminalError as error:
                end = self.clock.now()
                await self._save(step.name, state=StepState.FAILED, message=fit_message(error.message), finished_at=end)
                return error
            end = self.clock.now()
            await self._save(step.name, state=StepState.SUCCEEDED, result=dict(result or {}), finished_at=end)
        return None

    async def _begin_compensation(self, failure: TerminalError) -> None:
        condition = condition_of(
            self._task, SUCCEEDED, ConditionStatus.FALSE, failure.reason, failure.message, clock=self.clock
        )
        fields = {"phase": Phase.COMPENSATING.value}
        self._task = await write_status(self.client, self._task, fields=fields, conditions=[condition])

    async def _backward(self) -> None:
        """Undo what was begun, the last first."""
        for step in reversed(self.steps):
            before = self._state_of(step.name)
            if before.state in (StepState.PENDING, StepState.COMPENSATED):
                continue
            message = before.message
            try:
                await step.compensate(self._scope())
            except TerminalError as error:
                message = f"{message}; could not be undone: {error.message}".lstrip("; ")
            await self._save(
                step.name, state=StepState.COMPENSATED, message=fit_message(message), finished_at=self.clock.now()
            )

    async def _finish(self, phase: Phase, succeeded: bool, reason: str, message: str) -> Task:
        condition = condition_of(self._task, SUCCEEDED, succeeded, reason, message, clock=self.clock)
        fields: dict[str, Any] = {"phase": phase.value, "finishedAt": format_time(self.clock.now())}
        if succeeded:
            fields["progressPercent"] = 100
        self._task = await write_status(self.client, self._task, fields=fields, conditions=[condition])
        if self.events is not None:
            tell = self.events.normal if succeeded else self.events.warning
            tell(self._task, phase.value, message)
        return self._task

    async def _save(self, name: str, *, phase: Phase | None = None, **changes: Any) -> None:
        """Write the change of one step and the progress; steps not yet stored are written with it."""
        steps = [self._state_of(step.name) for step in self.steps]
        steps = [s.model_copy(update=changes) if s.name == name else s for s in steps]
        done = sum(1 for s in steps if s.state in (StepState.SUCCEEDED, StepState.COMPENSATED))
        fields: dict[str, Any] = {"steps": steps, "progressPercent": 100 * done // max(len(steps), 1)}
        if phase is not None:
            fields["phase"] = phase.value
        self._task = await write_status(self.client, self._task, fields=fields)

    def _state_of(self, name: str) -> TaskStep:
        stored = {s.name: s for s in self._task.status.steps or ()}
        return stored.get(name) or TaskStep(name=name)

    def _scope(self) -> StepScope:
        return StepScope(self._task, {s.name: s.result for s in self._task.status.steps or ()})

    def _cancelled(self) -> bool:
        newest = self.current()
        known = newest if newest is not None and newest.uid == self._task.uid else self._task
        return known.spec.desired_state is DesiredState.CANCELLED

    def _failure(self) -> tuple[str, str]:
        condition = self._task.find_condition(SUCCEEDED)
        return (condition.reason, condition.message) if condition else ("Failed", "")
