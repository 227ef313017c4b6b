"""Domains: kept while anything lies in them, and removed from the leaves up."""

from collections.abc import Iterator
from typing import Any

from vcstack.controllers.accepting import accept
from vcstack.runtime.context import ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.users import ensure_unused, name_some, refuse_deletion, watch_users
from vcstack.specs.kinds.domain import FINALIZER, Domain
from vcstack.specs.resource import Ref


class DomainReconciler:
    """Accepts domains and holds back their deletion while they are used."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    async def reconcile(self, domain: Domain | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if domain is None:
            return None
        if domain.deleting:
            await self._ensure_leaf(domain)
            await ensure_unused(self._context, domain)
            await self._context.client.remove_finalizer(domain, FINALIZER)
            return None
        await accept(self._context, domain)
        return None

    async def _ensure_leaf(self, domain: Domain) -> None:
        """A domain below that is being deleted too still counts: what lies in it would leave the tree."""
        below = await self._context.client.list(Domain, fields=f"spec.parent={domain.metadata.name}")
        if below.items:
            message = f"Used by {name_some(sorted(d.ref for d in below.items))}; delete them first."
            await refuse_deletion(self._context, domain, "InUse", message)


def build(context: ControllerContext) -> Controller:
    """Return the controller of domains."""
    domains = context.informer(Domain)

    def above(domain: Domain) -> Iterator[Ref]:
        parent = domains.find(domain.spec.parent or "")
        if parent is not None and parent.deleting:
            yield parent.ref

    watches: dict[type[Any], Any] = {**watch_users(context, Domain), Domain: above}
    return context.controller(DomainReconciler(context), Domain, watches=watches)
