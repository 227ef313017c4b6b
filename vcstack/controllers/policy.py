"""Policies: whether their expressions can be read, and which existing objects are not as they say.

What the cloud itself makes for others (a port of an instance) is neither held nor reported: nobody could give it what
is missing.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vcstack.controllers.accepting import ACCEPTED
from vcstack.controllers.backends.network_sources import Throttle
from vcstack.policy.evaluation import NO_LABELS, Breach, CompiledPolicy, Site, show_object
from vcstack.policy.sandbox import Evaluating
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller, asked_of
from vcstack.runtime.domaintree import find_enclosing
from vcstack.runtime.errors import BackendUnavailable
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.columns import find_value
from vcstack.specs.errors import Unavailable
from vcstack.specs.kinds.domain import Domain
from vcstack.specs.kinds.policy import COMPLIANT, SHOWN, Policy, PolicyVerb, Violation, governable
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.user import User
from vcstack.specs.meta import Condition
from vcstack.specs.registry import definition_of, load_kinds
from vcstack.specs.resource import AnyResource, Ref

EVALUATING: BackendKey[Evaluating] = BackendKey("policy-evaluation")
COUNT_SECONDS = 2.0
"""A policy is looked at no more often, however much changes."""
TURN = 64
"""Others run after so many objects."""


def governed_kinds() -> list[type[AnyResource]]:
    """Return the kinds that policies can concern."""
    return [d.model for d in load_kinds().values() if governable(d) and d.ttl_setting is None]


@dataclass(slots=True)
class _Known:
    """What was found of the objects of one version of a policy."""

    generation: int
    compiled: CompiledPolicy
    found: dict[str, tuple[object, Sequence[Breach]]] = field(default_factory=dict)
    """By uid: what the finding rests on, and the rules that the object breaks."""


class PolicyReconciler:
    """Reports what is not as policies say. An object is evaluated once a version."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._evaluating = context.backend(EVALUATING)
        self._informers = {kind.KIND: context.informer(kind) for kind in governed_kinds()}
        self._projects, self._domains = context.informer(Project), context.informer(Domain)
        self._users = context.informer(User)
        self._counting = Throttle(context.clock, COUNT_SECONDS)
        self._known: dict[str, _Known] = {}

    async def reconcile(self, policy: Policy | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if policy is None or policy.deleting:
            if policy is not None:
                self._forget(policy.uid)
            return None
        remaining = self._counting.remaining(policy.uid)
        known = self._known.get(policy.uid)
        if remaining and known is not None and known.generation == policy.metadata.generation:
            return Result(requeue_after=remaining)
        if known is None or known.generation != policy.metadata.generation:
            known = self._known[policy.uid] = _Known(policy.metadata.generation, CompiledPolicy(policy))
        try:
            await self._report(policy, known)
        except Unavailable as error:
            raise BackendUnavailable(error.message) from error
        self._counting.note(policy.uid)
        return None

    def concerned(self, resource: AnyResource) -> Iterator[Ref]:
        """Yield the policies that may have something to say of an object."""
        policies = self._context.informer(Policy).list()
        if not policies:
            return
        for policy in policies:
            known = self._known.get(policy.uid)
            # Another place's policy would find that nothing has changed; these are cheap to tell.
            if policy.metadata.project not in (None, resource.metadata.project):
                continue
            if known is None or isinstance(resource, Project | Domain) or _reports(known.compiled, resource.KIND):
                yield policy.ref

    async def _report(self, policy: Policy, known: _Known) -> None:
        accepted = await self._examine(policy, known.compiled)
        broken: list[tuple[str, str, str, Breach]] = []
        seen: dict[str, tuple[object, Sequence[Breach]]] = {}
        for n, resource in enumerate(self._select(known.compiled)):
            if n % TURN == 0:
                await asyncio.sleep(0)
            rests_on = asked_of(resource)
            before = known.found.get(resource.uid)
            breaches = before[1] if before is not None and before[0] == rests_on else await self._ask(known, resource)
            # Of many objects that take long some are looked at now, and the others when it is tried again.
            known.found[resource.uid] = seen[resource.uid] = (rests_on, breaches)
            if breaches:
                meta = resource.metadata
                broken.append((resource.KIND, meta.project or "", meta.name, breaches[0]))
        known.found = seen
        first = heapq.nsmallest(SHOWN, broken, key=lambda each: each[:3])
        await self._write(policy, accepted, len(seen), len(broken), [_violation(*each) for each in first])

    async def _ask(self, known: _Known, resource: AnyResource) -> Sequence[Breach]:
        request = {"verb": "create", "subject": "", "project": resource.metadata.project or ""}
        customer = self._site_of(resource).customer
        return await known.compiled.find_breaches(
            self._evaluating, show_object(resource), None, request, customer=customer, can_wait=True
        )

    async def _examine(self, policy: Policy, compiled: CompiledPolicy) -> Condition:
        faults = [o.error for o in await self._evaluating.compile(compiled.texts) if o.error]
        if not faults:
            return condition_of(policy, ACCEPTED, True, "Valid", clock=self._context.clock)
        message = f"An expression cannot be read: {faults[0]}"
        return condition_of(policy, ACCEPTED, False, "ExpressionInvalid", message, clock=self._context.clock)

    async def _write(
        self, policy: Policy, accepted: Condition, checked: int, broken: int, violations: Sequence[Violation]
    ) -> None:
        before = policy.status.violations
        message = f"{broken} of {checked} objects are not as the policy says." if broken else ""
        compliant = condition_of(
            policy, COMPLIANT, not broken, "Violations" if broken else "NoViolations", message,
            clock=self._context.clock,
        )  # fmt: skip
        fields = {"checked": checked, "violations": broken, "violating": violations}
        await write_status(self._context.client, policy, fields=fields, conditions=[accepted, compliant])
        if broken and not before:
            self._context.events.warning(policy, "Violations", message)
        elif before and not broken:
            self._context.events.normal(policy, "NoViolations", "All objects are as the policy says.")

    def _select(self, compiled: CompiledPolicy) -> Iterator[AnyResource]:
        """Yield what exists and is concerned."""
        for kind, informer in self._informers.items():
            if not _reports(compiled, kind):
                continue
            for resource in informer.list():
                owned = any(owner.controller for owner in resource.metadata.owner_references)
                if resource.deleting or owned:
                    continue
                if compiled.selects(resource.metadata.labels, self._site_of(resource)):
                    yield resource

    def _site_of(self, resource: AnyResource) -> Site:
        name = resource.metadata.project
        if name is not None:
            project = self._projects.find(name)
            if project is None:
                return Site(name, (), NO_LABELS)
            return Site(name, self._above(project.spec.domain), project.metadata.labels)
        return Site(None, self._above(self._domain_of(resource)), NO_LABELS)

    def _domain_of(self, resource: AnyResource) -> str | None:
        definition = definition_of(resource)
        wire: Mapping[str, object] = {"spec": resource.spec.to_wire()}
        owner = find_value(wire, definition.owner_path) if definition.owner_path else None
        if isinstance(owner, str):
            user = self._users.find(owner)
            return user.spec.domain if user is not None else None
        found = find_value(wire, definition.domain_path) if definition.domain_path else None
        return found if isinstance(found, str) else None

    def _above(self, name: str | None) -> Sequence[str]:
        return find_enclosing(self._domains, name)[::-1]

    def _forget(self, uid: str) -> None:
        self._known.pop(uid, None)
        self._counting.forget(uid)


def _reports(compiled: CompiledPolicy, kind: str) -> bool:
    """Return whether existing objects of the kind are reported; what only concerns deletions says nothing of them."""
    return any(compiled.concerns(kind, verb) for verb in (PolicyVerb.CREATE, PolicyVerb.UPDATE))


def _violation(kind: str, project: str, name: str, breach: Breach) -> Violation:
    return Violation(kind=kind, project=project or None, object=name, rule=breach.rule, message=breach.message[:500])


def build(context: ControllerContext) -> Controller:
    """Return the controller of policies."""
    reconciler = PolicyReconciler(context)
    kinds = governed_kinds()
    watches: dict[type[AnyResource], Callable[[AnyResource], Iterator[Ref]]] = dict.fromkeys(
        kinds, reconciler.concerned
    )
    matters = dict.fromkeys(kinds, asked_of)
    return context.controller(reconciler, Policy, watches=watches, matters=matters, workers=1)
