"""The scheduler: binds instances to hosts, with their claim on capacity in the same transaction.

A bound instance is never bound anew. What this process has decided but not yet written counts as used
(assumed), so that many instances at once do not all choose the same room.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vcstack.controllers.capacity import OVERCOMMIT_SETTINGS, add, build_request, find_shortage, largest, read_standard
from vcstack.controllers.placement import (
    Candidate,
    Demand,
    Offer,
    Strategy,
    build_candidate,
    build_offer,
    choose,
    describe_rejections,
)
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller, asked_of
from vcstack.runtime.errors import WaitingFor
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.specs.errors import ClaimTaken, Conflict
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.host import Capacity, Host
from vcstack.specs.kinds.image import Image
from vcstack.specs.kinds.instance import SCHEDULED, UP_TO_DATE, Instance
from vcstack.specs.kinds.setting import Setting
from vcstack.specs.meta import Condition
from vcstack.specs.resource import Ref
from vcstack.specs.settings import SCHEDULER_STRATEGY, SettingReader

SETTINGS: BackendKey[SettingReader] = BackendKey("settings")

RETRY_SECONDS = 60.0
"""The safety net for unschedulable instances; changes of hosts wake them."""

CLAIM_ATTEMPTS = 4
WORKERS = 8

_PENDING = "unbound"


@dataclass(slots=True)
class Ledger:
    """What is used on each host: bound instances as the informer shows them, and assumed ones."""

    bound: defaultdict[str, Capacity] = field(default_factory=lambda: defaultdict(Capacity))
    assumed: dict[str, tuple[str, Capacity]] = field(default_factory=dict)

    def on_instance(self, old: Instance | None, new: Instance | None) -> None:
        """Take in a change of an instance."""
        for instance, times in ((old, -1), (new, 1)):
            if instance is not None and instance.status.host and instance.status.allocated:
                host = instance.status.host
                self.bound[host] = add(self.bound[host], instance.status.allocated, times=times)
        if old is not None and (new is None or new.status.host):
            self.assumed.pop(old.uid, None)

    def used(self, host: str) -> Capacity:
        """Return what is used of the host."""
        total = self.bound[host]
        for name, claim in self.assumed.values():
            if name == host:
                total = add(total, claim)
        return total


class Scheduler:
    """Reconciles instances: the unbound to a host, the bound to the claim that their flavor needs."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._settings = context.backend(SETTINGS)
        self._hosts = context.informer(Host)
        self._offers: dict[str, Offer] = {}
        self.ledger = Ledger()

    async def reconcile(self, instance: Instance | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if instance is None or instance.deleting:
            return None
        flavor = await self._get_flavor(instance)
        request = build_request(flavor.spec)
        if instance.status.host:
            await self._ensure_claim(instance, instance.status.host, request)
        else:
            await self._bind(instance, request)
        return None

    async def _get_flavor(self, instance: Instance) -> Flavor:
        name = instance.spec.flavor
        flavor = self._context.informer(Flavor).find(name)
        if flavor is None:
            message = f"Flavor {name} does not exist; create it."
            if not instance.status.host:
                await self._write(instance, self._condition(instance, False, "FlavorNotFound", message))
            raise WaitingFor("FlavorNotFound", message)
        return flavor

    async def _bind(self, instance: Instance, request: Capacity) -> None:
        demand = Demand(request, instance.spec.placement, self._find_digest(instance))
        strategy = Strategy(self._settings.text(SCHEDULER_STRATEGY, project=instance.metadata.project))
        chosen, rejected = choose(demand, self._candidates(), strategy)
        if chosen is None:
            raise await self._report_unschedulable(instance, rejected)
        host = chosen.host.metadata.name
        self.ledger.assumed[instance.uid] = (host, request)
        try:
            message = f"Bound to host {host}."
            if rejected:
                message += f" Not chosen: {describe_rejections(rejected)}."
            condition = self._condition(instance, True, "Bound", message)
            await self._claim(instance, chosen, {"host": host}, request, condition)
        except BaseException:
            self.ledger.assumed.pop(instance.uid, None)
            raise
        self._context.events.normal(instance, "Scheduled", f"Bound to host {host}.")

    async def _claim(
        self, instance: Instance, at: Candidate, fields: dict[str, Any], claim: Capacity, condition: Condition
    ) -> None:
        """Write the claim and what goes with it in one transaction that keeps within the host's limits.

        The decision holds for that state of the instance; when only its status was written meanwhile, the
        claim is tried again at once.
        """
        patch = {**fields, "allocated": claim.to_wire(), "conditions": [condition.to_wire()]}
        grows = largest(instance.status.allocated or Capacity(), claim) != instance.status.allocated
        allowed = (at.allocatable or Capacity()).to_wire()
        limits = {f"capacity/{at.host.metadata.name}": allowed} if grows else None
        client, newest = self._context.client, instance
        for attempt in range(CLAIM_ATTEMPTS):
            try:
                await client.patch_status(newest, patch, exact_version=True, limits=limits)
                return
            except ClaimTaken:
                raise
            except Conflict:
                newest = await client.get(Instance, instance.metadata.name, instance.metadata.project)
                if attempt + 1 == CLAIM_ATTEMPTS or _decided_on(newest) != _decided_on(instance):
                    raise

    async def _report_unschedulable(self, instance: Instance, rejected: Mapping[str, str]) -> WaitingFor:
        """Say why no host takes it; return what to raise: the hosts have to change."""
        wanted = instance.spec.placement.host
        message = f"None of {len(rejected)} hosts fits: {describe_rejections(rejected)}."
        if not rejected:
            message = "There are no hosts; join one with vc-compute."
        elif wanted and wanted not in rejected:
            message = f"Host {wanted}, which placement names, does not exist."
        before = instance.find_condition(SCHEDULED)
        await self._write(instance, self._condition(instance, False, "Unschedulable", message))
        if before is None or before.message != message:
            self._context.events.warning(instance, "Unschedulable", message)
        return WaitingFor("Unschedulable", message, RETRY_SECONDS)

    async def _ensure_claim(self, instance: Instance, name: str, request: Capacity) -> None:
        """Claim what a changed flavor needs more on its host, and release what it no longer needs.

        While the domain still has the old size, the larger of both is claimed.
        """
        before = instance.status.allocated or Capacity()
        wanted = request if instance.is_true(UP_TO_DATE) else largest(before, request)
        host = self._hosts.find(name)
        current = instance.find_condition(SCHEDULED)
        message = current.message if current and current.status == "True" else f"Bound to host {name}."
        condition = self._condition(instance, True, "Bound", message)
        if wanted == before or host is None:
            await self._write(instance, condition)
            return
        standard = read_standard(self._settings)
        candidate = build_candidate(host, standard, add(self.ledger.used(name), before, times=-1))
        shortage = find_shortage(wanted, candidate.used, candidate.allocatable or Capacity())
        if shortage and largest(before, wanted) != before:
            message = (
                f"Host {name} has no room for flavor {instance.spec.flavor}: {shortage}. It keeps its old size; "
                "choose a smaller flavor or recreate it."
            )
            await self._write(instance, self._condition(instance, False, "ResizeDoesNotFit", message))
            raise WaitingFor("ResizeDoesNotFit", message, RETRY_SECONDS)
        await self._claim(instance, candidate, {}, wanted, condition)

    def _candidates(self) -> Iterator[Candidate]:
        standard = read_standard(self._settings)
        for host in self._hosts.list():
            name = host.metadata.name
            offer = self._offers.get(name)
            if offer is None or offer.host is not host or offer.standard != standard:
                offer = self._offers[name] = build_offer(host, standard)
            yield Candidate(offer, self.ledger.used(name))

    def _find_digest(self, instance: Instance) -> str | None:
        images, name = self._context.informer(Image), instance.spec.image
        image = images.find(name, instance.metadata.project) or images.find(name)
        return image.status.digest if image else None

    def _condition(self, instance: Instance, status: bool, reason: str, message: str) -> Condition:
        return condition_of(instance, SCHEDULED, status, reason, message, clock=self._context.clock)

    async def _write(self, instance: Instance, condition: Condition) -> None:
        await write_status(self._context.client, instance, conditions=[condition])


def _decided_on(instance: Instance) -> tuple[object, ...]:
    """Return what a decision about the instance depends on."""
    return (instance.uid, instance.metadata.generation, instance.deleting, instance.status.host)


def _read_of_instance(instance: Instance) -> tuple[object, ...]:
    status = instance.status
    return (*asked_of(instance), status.host, status.allocated, instance.is_true(UP_TO_DATE))


class Wakers:
    """Finds the pending instances that a change concerns; remembers hosts to see what really changed."""

    def __init__(self, context: ControllerContext) -> None:
        self._instances = context.informer(Instance)
        self._instances.add_index(_PENDING, lambda i: () if i.status.host else (i.spec.flavor,))
        self._offers: dict[str, Any] = {}

    def _pending(self) -> Iterator[Ref]:
        for flavor in self._instances.index_values(_PENDING):
            yield from (i.ref for i in self._instances.by_index(_PENDING, flavor))

    def on_host(self, host: Host) -> Iterator[Ref]:
        """All that pend, when the host offers something else than before."""
        states = tuple((c.type, c.status) for c in host.status.conditions)
        labels = tuple(sorted(host.metadata.labels.items()))
        offer = (host.uid, host.spec.to_json(), host.status.capacity, host.status.virt_type, states, labels)
        if self._offers.get(host.metadata.name) != offer:
            self._offers[host.metadata.name] = offer
            yield from self._pending()

    def on_setting(self, setting: Setting) -> Iterator[Ref]:
        """All that pend, when hosts may offer more now."""
        if setting.spec.setting in OVERCOMMIT_SETTINGS:
            yield from self._pending()

    def on_flavor(self, flavor: Flavor) -> Iterator[Ref]:
        """Those that pend with the flavor."""
        yield from (i.ref for i in self._instances.by_index(_PENDING, flavor.metadata.name))

    def on_instance(self, instance: Instance) -> Iterator[Ref]:
        """All that pend, when an instance may have given room back."""
        known = self._instances.get(instance.ref)
        if instance.status.host and (known is None or known.status.allocated != instance.status.allocated):
            yield from self._pending()


def build(context: ControllerContext) -> Controller:
    """Return the scheduler."""
    scheduler, wakers, instances = Scheduler(context), Wakers(context), context.informer(Instance)
    context.informer(Image)
    return context.controller(
        scheduler,
        Instance,
        name="scheduler",
        workers=WORKERS,
        watches={
            Host: wakers.on_host,
            Flavor: wakers.on_flavor,
            Setting: wakers.on_setting,
            Instance: wakers.on_instance,
        },
        listeners=[(instances, scheduler.ledger.on_instance)],
        matters={Instance: _read_of_instance},
    )
