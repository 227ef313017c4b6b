"""Task: reboots and recreates instances of this host, as workflows whose steps are safe to repeat.

A step never starts a machine. It stops it, or gives up its disk, and then waits until the instance's own
realizer has made it so again. That a machine is another one than before is told by its process.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vcstack.nodeagent.backends.hypervisor import Domain
from vcstack.nodeagent.realizers.instance import InstanceParts
from vcstack.nodeagent.record import Making
from vcstack.nodeagent.wakeups import Wakeups
from vcstack.runtime.errors import TerminalError, WaitingFor
from vcstack.runtime.informer import Informer
from vcstack.runtime.reconciler import Result
from vcstack.runtime.workflow import FINISHED, Step, StepScope, Workflow
from vcstack.specs.kinds.instance import Instance, PowerState
from vcstack.specs.kinds.task import RebootMode, Task, TaskType
from vcstack.specs.meta import format_time
from vcstack.specs.resource import Ref

OBSERVE, MACHINE = "Observe", "machine"
POLL_SECONDS = 1.0
"""A safety net besides the events of the machine."""


@dataclass(frozen=True, slots=True)
class TaskParts:
    """What steps work with."""

    instance: InstanceParts
    instances: Informer[Instance]
    wakeups: Wakeups

    def get_target(self, task: Task) -> Instance:
        """Return the instance. Raises TerminalError when it is gone, another one, or being deleted."""
        found = self.instances.find(task.spec.target.name, task.metadata.project)
        if found is None or found.deleting or found.uid != (task.status.target_uid or found.uid):
            raise TerminalError("TargetGone", f"instance {task.spec.target.name} is gone or being deleted")
        return found

    async def find_domain(self, instance: Instance) -> Domain | None:
        """Return the instance's domain."""
        return await self.instance.hypervisor.find_domain(instance.uid)


class TaskRealizer:
    """Runs the tasks that are bound to this host."""

    def __init__(self, parts: TaskParts, tasks: Informer[Task]) -> None:
        self._parts = parts
        self._tasks = tasks

    async def reconcile(self, resource: Task | None, ref: Ref) -> Result | None:
        """Take the task as far as it goes."""
        host = self._parts.instance.host.name
        if resource is None or resource.deleting or resource.status.host != host or resource.status.phase in FINISHED:
            return None
        middle: list[Step] = (
            [StopStep(self._parts)]
            if resource.spec.type is TaskType.REBOOT
            else [RequestStep(self._parts), RebuildStep(self._parts)]
        )
        workflow = Workflow(
            [ObserveStep(self._parts), *middle, RestartStep(self._parts)],
            self._parts.instance.client,
            self._parts.instance.clock,
            current=lambda: self._tasks.get(ref),
            events=self._parts.instance.events,
        )
        await workflow.run(resource)
        return None


class ObserveStep:
    """Notes which machine runs, so that all later steps know it from its successor."""

    name = OBSERVE

    def __init__(self, parts: TaskParts) -> None:
        self._parts = parts

    async def run(self, scope: StepScope) -> Mapping[str, str] | None:
        """Return the machine."""
        domain = await self._parts.find_domain(self._parts.get_target(scope.task))
        return {MACHINE: (domain.machine if domain is not None else None) or ""}

    async def compensate(self, scope: StepScope) -> None:
        """Nothing to undo: it only reads."""


class StopStep:
    """Stops the machine that ran when the task began: by its power button, else by force."""

    name = "Stop"

    def __init__(self, parts: TaskParts) -> None:
        self._parts = parts

    async def run(self, scope: StepScope) -> Mapping[str, str] | None:
        """Return when the machine that ran is gone. Nothing ran: nothing to do."""
        instance = self._parts.get_target(scope.task)
        async with self._parts.instance.locks.of(instance.uid):
            domain = await self._parts.find_domain(instance)
            if domain is None or not domain.active or _is_another(domain, scope):
                self._parts.instance.power.end_shutdown(instance.uid)
                return None
            power = self._parts.instance.power
            power.expect_start(instance.uid)
            soft = scope.task.spec.mode is RebootMode.SOFT
            grace = scope.task.spec.timeout_seconds if soft else 0.0
            again_in = await power.shut_down(instance.uid, grace, asked_by=scope.task.uid)
        if again_in is None:
            return None
        raise WaitingFor("GuestShutsDown", "The guest was asked to shut down.", min(again_in, POLL_SECONDS))

    async def compensate(self, scope: StepScope) -> None:
        """Nothing: the machine is started again by its own realizer."""
        self._parts.instance.power.end_shutdown(scope.task.status.target_uid or "")


class RequestStep:
    """Gives up the root disk: from here on it is made anew."""

    name = "GiveUpDisk"

    def __init__(self, parts: TaskParts) -> None:
        self._parts = parts

    async def run(self, scope: StepScope) -> Mapping[str, str] | None:
        """Note it beside the disk, once for each task."""
        instance = self._parts.get_target(scope.task)
        # The image must be there before the disk is given up.
        image = await self._parts.instance.references.get_image(instance)
        async with self._parts.instance.locks.of(instance.uid):
            await self._parts.instance.storage.request_rebuild(instance, scope.task.uid)
        self._parts.wakeups.wake(instance)
        return {"image": image.metadata.name, "digest": image.status.digest or ""}

    async def compensate(self, scope: StepScope) -> None:
        """Nothing can be undone: the disk may be gone."""


class RebuildStep:
    """Waits until the disk was made anew."""

    name = "Rebuild"

    def __init__(self, parts: TaskParts) -> None:
        self._parts = parts

    async def run(self, scope: StepScope) -> Mapping[str, str] | None:
        """Return when the disk is there."""
        instance = self._parts.get_target(scope.task)
        record = self._parts.instance.storage.get_record(instance)
        if record is not None and record.state is Making.MADE:
            return {"digest": record.image_digest}
        self._parts.wakeups.wake(instance)
        raise WaitingFor("DiskIsMade", "The root disk is being made from the image.", POLL_SECONDS)

    async def compensate(self, scope: StepScope) -> None:
        """Nothing to undo: it only waits."""


class RestartStep:
    """Waits until a machine runs that began after the task did."""

    name = "Start"

    def __init__(self, parts: TaskParts) -> None:
        self._parts = parts

    async def run(self, scope: StepScope) -> Mapping[str, str] | None:
        """Return when it runs, or when the instance is not to run at all."""
        instance = self._parts.get_target(scope.task)
        if instance.spec.power_state is PowerState.STOPPED:
            return None
        domain = await self._parts.find_domain(instance)
        if domain is not None and domain.active and _is_another(domain, scope):
            return {"startedAt": format_time(domain.started_at)} if domain.started_at else None
        self._parts.wakeups.wake(instance)
        raise WaitingFor("MachineStarts", "The machine is being started.", POLL_SECONDS)

    async def compensate(self, scope: StepScope) -> None:
        """Nothing to undo: it only waits."""


def _is_another(domain: Domain, scope: StepScope) -> bool:
    """Return whether the machine is not the one that ran when the task began."""
    return domain.machine != scope.results.get(OBSERVE, {}).get(MACHINE, "")
