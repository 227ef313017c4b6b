"""Role bindings: what they name is looked for, and expired ones are deleted.

A binding gives nothing from the moment of its expiry on, and nothing while its role or subject is missing;
the API server sees to both. Here it is said, and cleaned up.
"""

from collections.abc import Iterator
from typing import Any

from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.group import Group
from vcstack.specs.kinds.role import Role
from vcstack.specs.kinds.rolebinding import ACCEPTED, RoleBinding, subject_ref
from vcstack.specs.kinds.serviceaccount import ServiceAccount
from vcstack.specs.kinds.user import User
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import AnyResource, Ref

LOOK_AGAIN_SECONDS = 86_400.0
"""An expiry further away is looked at again by then."""

_NAMED = "named"


def named_by(binding: RoleBinding) -> Iterator[Ref]:
    """Yield what the binding needs to give anything."""
    yield Ref(Role.KIND, None, binding.spec.role)
    yield subject_ref(binding.spec.subject, binding.metadata.project)


class RoleBindingReconciler:
    """Writes Accepted and deletes bindings when their time is over."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client

    async def reconcile(self, binding: RoleBinding | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if binding is None or binding.deleting:
            return None
        expiry = binding.spec.expires_at
        left = (expiry - self._context.clock.now()).total_seconds() if expiry is not None else None
        if left is not None and left <= 0:
            await self._client.delete(ref, uid=binding.uid)
            return None
        missing = [named for named in named_by(binding) if not await self._exists(named)]
        message = f"Gives nothing: there is no {' and no '.join(str(m) for m in missing)}." if missing else ""
        reason = f"{missing[0].kind}NotFound" if missing else "Valid"
        condition = condition_of(binding, ACCEPTED, not missing, reason, message, clock=self._context.clock)
        await write_status(self._client, binding, conditions=[condition])
        return Result(requeue_after=min(left, LOOK_AGAIN_SECONDS)) if left is not None else None

    async def _exists(self, ref: Ref) -> bool:
        """Return whether the object is there; before it counts as missing it is read consistently."""
        if self._context.informers.find(ref) is not None:
            return True
        try:
            await self._client.get(get_kind(ref.kind).model, ref.name, ref.project)
        except NotFound:
            return False
        return True


def build(context: ControllerContext) -> Controller:
    """Return the controller of role bindings."""
    bindings = context.informer(RoleBinding)
    bindings.add_index(_NAMED, named_by)

    def naming(resource: AnyResource) -> Iterator[Ref]:
        for binding in bindings.by_index(_NAMED, resource.ref):
            yield binding.ref

    watched: tuple[type[Any], ...] = (Role, User, Group, ServiceAccount)
    return context.controller(RoleBindingReconciler(context), RoleBinding, watches=dict.fromkeys(watched, naming))
