"""Instance: makes the virtual machines that are bound to this host."""

import asyncio
from dataclasses import dataclass
from typing import Any

from vcstack.clock import Clock
from vcstack.nodeagent.backends.hypervisor import Domain, Hypervisor, Mark, Power
from vcstack.nodeagent.domain_xml import DomainWanted, build_domain, seal
from vcstack.nodeagent.fields import digest_fields
from vcstack.nodeagent.locks import Locks
from vcstack.nodeagent.realizers.interfaces import Interfaces, Network
from vcstack.nodeagent.realizers.pending import report_pending
from vcstack.nodeagent.realizers.power import Outcome, PowerKeeper
from vcstack.nodeagent.realizers.report import Report
from vcstack.nodeagent.realizers.storage import Storage
from vcstack.nodeagent.record import Making
from vcstack.nodeagent.references import References
from vcstack.runtime.client import ResourceClient
from vcstack.runtime.errors import BackendNotFound, ReconcileError, WaitingFor
from vcstack.runtime.events import EventRecorder
from vcstack.runtime.informer import Informer
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import write_status
from vcstack.specs.errors import ApiError
from vcstack.specs.kinds.flavor import Flavor
from vcstack.specs.kinds.instance import DISKS_READY, DOMAIN_FINALIZER, RUNNING, UP_TO_DATE, Instance, PowerState
from vcstack.specs.kinds.port import Port
from vcstack.specs.meta import format_time
from vcstack.specs.model import Change
from vcstack.specs.resource import Ref

RELEASE_SECONDS = 3.0
"""A guest that holds a card that is to go is asked again after that."""
RELEASED = "released"
"""Stands for cards that the guest let go of at once."""
SAME_START_SECONDS = 0.5
"""Two readings of one process's start differ by less when the wall clock is adjusted; two starts never do."""

_OBSERVED = {
    Power.RUNNING: PowerState.RUNNING,
    Power.PAUSED: PowerState.PAUSED,
    Power.STOPPED: PowerState.STOPPED,
    Power.CRASHED: PowerState.STOPPED,
}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What definitions depend on besides the instance."""

    name: str
    virt_type: str
    """kvm or qemu."""
    userspace_datapath: bool


@dataclass(frozen=True, slots=True)
class InstanceParts:
    """What the realizer works with."""

    host: HostFacts
    client: ResourceClient
    hypervisor: Hypervisor
    storage: Storage
    interfaces: Interfaces
    power: PowerKeeper
    references: References
    ports: Informer[Port]
    locks: Locks
    clock: Clock
    events: EventRecorder | None = None


class InstanceRealizer:
    """Reconciles one instance: disks and network together, then definition, cards, power; then status."""

    def __init__(self, parts: InstanceParts) -> None:
        self._parts = parts

    async def reconcile(self, resource: Instance | None, ref: Ref) -> Result | None:
        """Make it so, once. What is left over of an instance that is gone is the sweep's."""
        if resource is None or resource.status.host != self._parts.host.name:
            return None
        async with self._parts.locks.of(resource.uid):
            if resource.deleting:
                await self._finalize(resource)
                return None
            return await self._realize(resource)

    async def _finalize(self, instance: Instance) -> None:
        if DOMAIN_FINALIZER not in instance.metadata.finalizers:
            return
        parts, uid = self._parts, instance.uid
        await remove_instance(
            parts, uid, [p for p in parts.ports.list() if p.status.instance == instance.metadata.name]
        )
        await parts.client.remove_finalizer(instance, DOMAIN_FINALIZER)

    async def _realize(self, instance: Instance) -> Result | None:
        report = Report(instance, self._parts.clock)
        try:
            result, failure = await self._act(instance, report)
        except (ReconcileError, ApiError):
            await self._write(instance, report)
            raise
        await self._write(instance, report)
        if failure is not None:
            raise failure
        return result

    async def _act(self, instance: Instance, report: Report) -> tuple[Result | None, ReconcileError | ApiError | None]:
        """Do what is to be done; return what held up a part of it without stopping the rest."""
        parts = self._parts
        with report.blame(RUNNING):
            domain = await self._release_disk(instance, await parts.hypervisor.find_domain(instance.uid))
            report_observed(report, instance, domain)
            flavor = await parts.references.get_flavor(instance)
            network = await parts.interfaces.observe(instance)
        has_disks, failure = await self._prepare(instance, domain, flavor, network, report)
        if domain is None and (failure is not None or not has_disks):
            self._report_held(report, failure)
            return None, failure
        before = domain
        with report.blame(RUNNING):
            domain = await self._define(instance, domain, flavor, network)
            held = await self._ensure_cards(instance, domain, network)
            can_start = has_disks and failure is None
            outcome = await self._ensure_power(instance, domain, can_start, failure, report)
            if outcome is not None and (outcome.changed or before is None):
                domain = await self._get_domain(instance)
            report_observed(report, instance, domain)
            if held:
                # The manager takes Running of this generation for leave to delete the ports of removed cards.
                report.drop(RUNNING)
            else:
                await parts.interfaces.remove_leftovers(domain, network)
        self._report_pending(instance, domain, network, held, report)
        waits = [0.0 if held == [RELEASED] else RELEASE_SECONDS] if held else []
        waits += [outcome.again_in] if outcome is not None and outcome.again_in is not None else []
        return Result(min(waits) if waits else None), failure

    async def _release_disk(self, instance: Instance, domain: Domain | None) -> Domain | None:
        """Pull the plug when the disk is to be made anew: a Task asked for it."""
        if domain is None or not domain.active:
            return domain
        record = self._parts.storage.get_record(instance)
        if record is None or record.state is not Making.MAKING:
            return domain
        await self._parts.hypervisor.destroy(domain.name)
        self._parts.power.expect_start(domain.name)
        return await self._get_domain(instance)

    async def _prepare(
        self, instance: Instance, domain: Domain | None, flavor: Flavor, network: Network, report: Report
    ) -> tuple[bool, ReconcileError | ApiError | None]:
        """Have disks and plugs, at the same time; return whether disks are there, and what failed."""
        outcomes = await _outcomes(
            self._parts.storage.ensure(instance, domain, flavor, network, report),
            self._parts.interfaces.ensure(instance, network),
        )
        failures = [o for o in outcomes if isinstance(o, ReconcileError | ApiError)]
        if network.missing:
            message = f"waiting for the port of {', '.join(network.missing)} to hold its addresses"
            failures.append(WaitingFor("PortNotReady", message))
        return outcomes[0] is True, failures[0] if failures else None

    async def _define(self, instance: Instance, domain: Domain | None, flavor: Flavor, network: Network) -> Domain:
        wanted = self._wanted(instance, flavor, network)
        mark = seal(wanted)
        known = domain.config if domain is not None else None
        same = known is not None and known.wanted == mark.wanted and known.reboot_fields == mark.reboot_fields
        # With a port unknown for the moment its card must not drop out of the definition; a size that the
        # host has no room for is not claimed, so the machine keeps the one that is.
        keep = same or network.missing or not _is_claimed(instance, flavor)
        if domain is not None and not domain.edited and keep:
            return domain
        await self._parts.hypervisor.define(build_domain(wanted))
        return await self._get_domain(instance)

    def _wanted(self, instance: Instance, flavor: Flavor, network: Network) -> DomainWanted:
        files = self._parts.storage.files(instance)
        mark = Mark(
            uid=instance.uid,
            project=instance.metadata.project or "",
            name=instance.metadata.name,
            generation=instance.metadata.generation,
            reboot_fields=digest_fields(instance.spec, Change.REBOOT),
        )
        return DomainWanted(
            mark=mark,
            vcpus=flavor.spec.vcpus,
            memory_mib=flavor.spec.memory_mib,
            virt_type=self._parts.host.virt_type,
            root_disk=files.root_disk,
            seed=files.seed,
            serial_log=files.serial_log,
            interfaces=network.cards,
            userspace_datapath=self._parts.host.userspace_datapath,
        )

    async def _ensure_cards(self, instance: Instance, domain: Domain, network: Network) -> list[str]:
        """Plug and unplug in a running machine; return the cards that the guest still holds."""
        if not domain.active:
            return []
        released = await self._parts.interfaces.ensure_cards(domain, network)
        if not released:
            return []
        now = await self._get_domain(instance)
        # What the guest has let go of already is put in again, or cleaned up, by the next reconcile.
        return [i.mac for i in now.interfaces if i.mac in released] or [RELEASED]

    async def _ensure_power(
        self,
        instance: Instance,
        domain: Domain,
        can_start: bool,
        failure: ReconcileError | ApiError | None,
        report: Report,
    ) -> Outcome | None:
        """Take the next step to the wanted power state, unless that is a start for which something is missing."""
        if not can_start and not domain.active and instance.spec.power_state is not PowerState.STOPPED:
            self._report_held(report, failure)
            return None
        outcome = await self._parts.power.ensure(instance, domain)
        report.set(RUNNING, outcome.reached, outcome.reason, outcome.message)
        self._tell(instance, outcome)
        return outcome

    def _tell(self, instance: Instance, outcome: Outcome) -> None:
        """Tell people what was done to the machine, and why if nobody asked for it."""
        events = self._parts.events
        if events is None:
            return
        if outcome.reason == "Restarting":
            events.warning(instance, "Restarting", outcome.message)
        elif outcome.mishap:
            events.warning(instance, "Restarted", f"{outcome.mishap}; it was started again.")
        elif outcome.changed and instance.status.started_at is not None:  # the first start is no news: Ready says it
            events.normal(instance, outcome.reason, outcome.message or f"The machine is {outcome.reason.lower()} now.")

    def _report_held(self, report: Report, failure: ReconcileError | ApiError | None) -> None:
        if failure is not None:
            report.fail(RUNNING, failure, what="Not started: ")
        else:
            report.set(RUNNING, False, "DisksNotReady", f"Not started: see the condition {DISKS_READY}.")

    def _report_pending(
        self, instance: Instance, domain: Domain, network: Network, held: list[str], report: Report
    ) -> None:
        if held:
            message = "A network card is being taken out; the guest has to let go of it. If it does not, reboot it."
            report.set(UP_TO_DATE, False, "Unplugging", message)
        elif network.missing:
            message = f"Waiting for the port of {', '.join(network.missing)} to hold its addresses."
            report.set(UP_TO_DATE, False, "PortNotReady", message)
        else:
            report_pending(report, instance, domain, network, self._parts.storage.get_record(instance))

    async def _get_domain(self, instance: Instance) -> Domain:
        domain = await self._parts.hypervisor.find_domain(instance.uid)
        if domain is None:
            raise BackendNotFound(f"domain {instance.uid} vanished")
        return domain

    async def _write(self, instance: Instance, report: Report) -> None:
        await write_status(self._parts.client, instance, fields=report.fields, conditions=report.conditions)


async def remove_instance(parts: InstanceParts, uid: str, ports: list[Port]) -> None:
    """Remove everything of an instance from this host. Absent is success."""
    await parts.hypervisor.destroy(uid)
    await parts.hypervisor.undefine(uid)
    await parts.interfaces.delete(uid, ports)
    await parts.storage.delete(uid)
    parts.power.forget(uid)


def _is_claimed(instance: Instance, flavor: Flavor) -> bool:
    """Return whether what the scheduler claimed on the host covers the flavor."""
    claimed = instance.status.allocated
    return claimed is None or (claimed.vcpus >= flavor.spec.vcpus and claimed.memory_mib >= flavor.spec.memory_mib)


def report_observed(report: Report, instance: Instance, domain: Domain | None) -> None:
    """Note power state and start as observed."""
    if domain is None:
        if instance.status.power_state is not None:
            report.fields["powerState"] = PowerState.STOPPED.value
        return
    report.fields["powerState"] = _OBSERVED[domain.power].value
    before, now = instance.status.started_at, domain.started_at
    if now is not None and (before is None or abs((now - before).total_seconds()) >= SAME_START_SECONDS):
        report.fields["startedAt"] = format_time(now)


async def _outcomes(*steps: Any) -> list[Any]:
    """Return what each step returned or how it failed on purpose; raise any other failure."""
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, ReconcileError | ApiError):
            raise outcome
    return outcomes
