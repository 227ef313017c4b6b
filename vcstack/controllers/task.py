"""Tasks, the manager's part: bound to the host of their target, ended when it is gone, removed in time.

The host's agent runs the steps (``runtime/workflow.py``).
"""

from collections.abc import Iterator
from datetime import timedelta

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.workflow import CANCELLED_REASON, FINISHED
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.kinds.task import SUCCEEDED, DesiredState, Phase, Task
from vcstack.specs.meta import ConditionStatus, format_time
from vcstack.specs.resource import Ref

_BY_TARGET = "target"


class TaskReconciler:
    """Binds tasks and sees to their end."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client

    async def reconcile(self, task: Task | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if task is None or task.deleting:
            return None
        if task.status.phase in FINISHED:
            return await self._expire(task)
        target = await self._find_target(task)
        if task.status.host is None:
            await self._bind(task, target)
        elif target is None or target.uid != task.status.target_uid:
            message = f"Instance {task.spec.target.name} was deleted before the task ended."
            await self._end(task, Phase.FAILED, "TargetGone", message)
        return None

    async def _find_target(self, task: Task) -> Instance | None:
        """Return the target; before it counts as missing it is read consistently."""
        name, project = task.spec.target.name, task.metadata.project
        found = self._context.informer(Instance).find(name, project)
        if found is not None and task.status.target_uid in (None, found.uid):
            return found
        try:
            return await self._client.get(Instance, name, project)
        except NotFound:
            return None

    async def _bind(self, task: Task, target: Instance | None) -> None:
        name = task.spec.target.name
        if task.spec.desired_state is DesiredState.CANCELLED:
            await self._end(task, Phase.CANCELLED, CANCELLED_REASON, "Cancelled before it began.")
        elif target is None:
            await self._end(task, Phase.FAILED, "TargetNotFound", f"Instance {name} does not exist.")
        elif target.deleting:
            await self._end(task, Phase.FAILED, "TargetDeleting", f"Instance {name} is being deleted.")
        elif target.status.host is None:
            message = f"Instance {name} is not bound to a host; see its condition Scheduled."
            await self._end(task, Phase.FAILED, "TargetNotBound", message)
        else:
            message = f"Waiting for the agent of host {target.status.host}."
            condition = condition_of(
                task, SUCCEEDED, ConditionStatus.UNKNOWN, "Bound", message, clock=self._context.clock
            )
            fields = {"host": target.status.host, "targetUid": target.uid, "phase": Phase.PENDING.value}
            await write_status(self._client, task, fields=fields, conditions=[condition])

    async def _end(self, task: Task, phase: Phase, reason: str, message: str) -> None:
        """End it; exact, so that an end that the agent wrote meanwhile stands."""
        condition = condition_of(task, SUCCEEDED, False, reason, message, clock=self._context.clock)
        fields = {"phase": phase.value, "finishedAt": format_time(self._context.clock.now())}
        await write_status(self._client, task, fields=fields, conditions=[condition], exact_version=True)
        self._context.events.warning(task, phase.value, message)

    async def _expire(self, task: Task) -> Result | None:
        """Delete it when its time after the end is over."""
        if task.status.finished_at is None:
            return None
        expiry = task.status.finished_at + timedelta(seconds=task.spec.ttl_seconds_after_finished)
        left = (expiry - self._context.clock.now()).total_seconds()
        if left > 0:
            return Result(requeue_after=left)
        await self._client.delete(task.ref, uid=task.uid)
        return None


def build(context: ControllerContext) -> Controller:
    """Return the controller of tasks."""
    tasks = context.informer(Task)
    tasks.add_index(_BY_TARGET, lambda t: ((t.metadata.project, t.spec.target.name),))

    def aimed_at(instance: Instance) -> Iterator[Ref]:
        for task in tasks.by_index(_BY_TARGET, (instance.metadata.project, instance.metadata.name)):
            if task.status.phase not in FINISHED:
                yield task.ref

    return context.controller(TaskReconciler(context), Task, watches={Instance: aimed_at})
