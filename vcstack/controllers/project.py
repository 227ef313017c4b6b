"""Projects: given their default security group as the settings say, and emptied before they go."""

from collections.abc import Iterator, Sequence

from vcstack.controllers.certificate import CERTIFICATE_RECORDS
from vcstack.controllers.scheduler import SETTINGS
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import DELETABLE, name_some, refuse_deletion
from vcstack.specs.errors import AlreadyExists, QuotaExceeded
from vcstack.specs.kinds.project import TERMINATING_FINALIZER, Project
from vcstack.specs.kinds.securitygroup import (
    DEFAULT_NAME,
    Direction,
    SecurityGroup,
    SecurityGroupRule,
    SecurityGroupSpec,
)
from vcstack.specs.registry import KindDefinition, Scope, load_kinds
from vcstack.specs.resource import AnyResource, Ref
from vcstack.specs.settings import NETWORK_DEFAULT_GROUP

REASONS_TOLD = 3
DEFAULTS_CREATED = "DefaultsCreated"
"""True when the project has had what every new one gets: its default security group."""


def contained_kinds() -> list[KindDefinition]:
    """Return the kinds that can live in a project, in the order in which they are deleted."""
    kinds = [d for d in load_kinds().values() if d.scope is not Scope.GLOBAL]
    return sorted(kinds, key=lambda d: -d.apply_order)


def build_default_group(project: str, lets_in: str = "Members") -> SecurityGroup:
    """Return the group "default": everything out, in what the setting network.defaultGroup says; pure."""
    rules = [SecurityGroupRule(name="egress", direction=Direction.EGRESS)]
    if lets_in == "Members":
        inward = SecurityGroupRule(name="from-members", direction=Direction.INGRESS, remote_security_group=DEFAULT_NAME)
        rules.append(inward)
    elif lets_in == "Open":
        rules.append(SecurityGroupRule(name="ingress", direction=Direction.INGRESS))
    return SecurityGroup.new(DEFAULT_NAME, SecurityGroupSpec(rules=rules), project=project)


class ProjectReconciler:
    """Makes what every project has, and deletes all that a deleted project has."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._records = context.backend(CERTIFICATE_RECORDS)
        self._settings = context.backend(SETTINGS)

    async def reconcile(self, project: Project | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if project is None:
            return None
        if project.deleting:
            await self._finalize(project)
            return None
        wanted = self._settings.text(NETWORK_DEFAULT_GROUP, domain=project.spec.domain)
        if wanted == "None":
            message = "The settings say that no default security group is made."
        else:
            await self._ensure_default_group(project, wanted)
            message = f'Security group "{DEFAULT_NAME}" is there.'
        condition = condition_of(project, DEFAULTS_CREATED, True, "Created", message, clock=self._context.clock)
        await write_status(self._client, project, conditions=[condition])
        return None

    async def _ensure_default_group(self, project: Project, lets_in: str) -> None:
        name = project.metadata.name
        existing = self._context.informer(SecurityGroup).find(DEFAULT_NAME, name)
        if existing is not None and not existing.deleting:
            return
        try:
            await self._client.create(build_default_group(name, lets_in))
        except QuotaExceeded as error:
            await self._wait(project, "QuotaExceeded", error.message, 30.0)
        except AlreadyExists:
            found = await self._client.get(SecurityGroup, DEFAULT_NAME, name)
            if found.deleting:
                message = f'Security group "{DEFAULT_NAME}" is being deleted; it is made anew when it is gone.'
                await self._wait(project, "DefaultGroupDeleting", message, 5.0)

    async def _wait(self, project: Project, reason: str, message: str, seconds: float) -> None:
        """Say what it has to wait for.

        Raises:
            WaitingFor: always.
        """
        condition = condition_of(project, DEFAULTS_CREATED, False, reason, message, clock=self._context.clock)
        await write_status(self._client, project, conditions=[condition])
        raise WaitingFor(reason, message, seconds)

    async def _finalize(self, project: Project) -> None:
        """Delete what is in it, one order after the other; the last reads are consistent and final.

        The store refuses new objects in a project that is being deleted.
        """
        order: int | None = None
        left: list[AnyResource] = []
        for definition in contained_kinds():
            if left and definition.apply_order != order:
                break
            order = definition.apply_order
            left += (await self._client.list(definition.model, project=project.metadata.name)).items
        if not left:
            await self._records.forget(project.uid)  # its authorities: nobody can be issued any more
            await self._client.remove_finalizer(project, TERMINATING_FINALIZER)
            return
        for resource in left:
            if not resource.deleting:
                await self._client.delete(resource.ref, uid=resource.uid)
        message = f"Waiting for {name_some(sorted(r.ref for r in left))} to be gone.{_reasons(left)}"
        await refuse_deletion(self._context, project, "NotEmpty", message, after_seconds=2.0)


def _reasons(left: Sequence[AnyResource]) -> str:
    """Return what holds some of them back, as they say themselves."""
    held = [(r.ref, c) for r in left if (c := r.find_condition(DELETABLE)) is not None and c.status == "False"]
    return "".join(f" {ref}: {condition.message}" for ref, condition in held[:REASONS_TOLD])


def build(context: ControllerContext) -> Controller:
    """Return the controller of projects."""
    projects = context.informer(Project)

    def emptied(resource: AnyResource) -> Iterator[Ref]:
        project = projects.find(resource.metadata.project or "")
        if project is not None and project.deleting:
            yield project.ref

    def changed_group(group: SecurityGroup) -> Iterator[Ref]:
        if group.metadata.name == DEFAULT_NAME:
            yield Ref(Project.KIND, None, group.metadata.project or "")
        yield from emptied(group)

    kinds = [d.model for d in contained_kinds() if d.ttl_setting is None]
    watches = {kind: changed_group if kind is SecurityGroup else emptied for kind in kinds}
    return context.controller(ProjectReconciler(context), Project, watches=watches)
