"""Roles: the built-in ones are kept as the cloud defines them, the others while a binding gives them."""

import asyncio
from collections.abc import AsyncIterator

from vcstack.controllers.accepting import AcceptingReconciler
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.users import watch_users
from vcstack.specs.errors import AlreadyExists
from vcstack.specs.kinds.role import BUILT_IN_LABEL, FINALIZER, Role, RoleSpec
from vcstack.specs.permissions import BuiltInRole, built_in_roles
from vcstack.specs.resource import Ref


class RoleReconciler:
    """Makes the built-in roles, repairs what was changed in them, accepts all."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._accepting = AcceptingReconciler(context, FINALIZER)

    async def reconcile(self, role: Role | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        built_in = built_in_roles().get(ref.name)
        if built_in is not None and role is None:
            await self._create(built_in)
        elif built_in is not None and role is not None and not role.deleting:
            role = await self._ensure_as_defined(role, built_in)
        return await self._accepting.reconcile(role, ref)

    async def built_in(self) -> AsyncIterator[Ref]:
        """Yield the built-in roles, so that those are looked at that are not there."""
        for name in built_in_roles():
            yield Ref(Role.KIND, None, name)
        await asyncio.Event().wait()

    async def _create(self, built_in: BuiltInRole) -> None:
        try:
            await self._client.create(build_role(built_in))
        except AlreadyExists:
            return  # the informer will tell of it

    async def _ensure_as_defined(self, role: Role, built_in: BuiltInRole) -> Role:
        wanted = build_role(built_in)
        labels = {**role.metadata.labels, **wanted.metadata.labels}
        if role.spec == wanted.spec and role.metadata.labels == labels:
            return role
        metadata = role.metadata.model_copy(update={"labels": labels})
        return await self._client.update(role.model_copy(update={"metadata": metadata, "spec": wanted.spec}))


def build_role(built_in: BuiltInRole) -> Role:
    """Return the object of a built-in role; pure."""
    spec = RoleSpec(description=built_in.description, rules=list(built_in.rules))
    return Role.new(built_in.name, spec, labels={BUILT_IN_LABEL: "true"})


def build(context: ControllerContext) -> Controller:
    """Return the controller of roles."""
    reconciler = RoleReconciler(context)
    return context.controller(reconciler, Role, watches=watch_users(context, Role), sources=(reconciler.built_in,))
