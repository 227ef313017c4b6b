"""An instance's power state: what is done so that the machine is in the state that spec asks for."""

import math
from dataclasses import dataclass

from vcstack.clock import Clock
from vcstack.nodeagent.backends.hypervisor import Domain, Hypervisor, Power
from vcstack.specs.kinds.instance import Instance, PowerState

GRACE_SECONDS = 60.0
"""How long a guest may take to shut down before the plug is pulled."""
PRESS_SECONDS = 10.0
"""The power button is pressed again after that; a guest that still boots misses the first time."""
STABLE_SECONDS = 60.0
"""A machine that ran that long and then stopped is started again at once."""
LONGEST_PAUSE_SECONDS = 60.0
"""Between starts of a machine that stops again and again."""

_MISHAPS = ("crashed", "destroyed", "failed")
_WHY = {
    "shutdown": "The guest powered itself off",
    "crashed": "The guest crashed",
    "destroyed": "The machine was destroyed by somebody else",
    "failed": "QEMU was killed or failed",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the power state is on its way."""

    reached: bool
    reason: str
    message: str = ""
    again_in: float | None = None
    """Seconds after which to look again."""
    changed: bool = False
    """Whether something was done, so that the machine has to be observed again."""
    mishap: str = ""
    """Why the machine had to be started again, when nobody here had asked for its stop."""


@dataclass(slots=True)
class _Starts:
    """The latest starts of one machine."""

    in_a_row: int = 0
    at: float = 0.0


SPEC = "spec"
"""Who asked for a shutdown: the wanted power state."""


@dataclass(slots=True)
class _Stopping:
    """A shutdown under way."""

    asked_by: str
    """The uid of a Task, or SPEC."""
    since: float
    pressed: float


class PowerKeeper:
    """Starts, stops and pauses machines. What it remembers only paces it; losing that is harmless."""

    def __init__(self, hypervisor: Hypervisor, clock: Clock, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._grace = grace_seconds
        self._starts: dict[str, _Starts] = {}
        self._stopping: dict[str, _Stopping] = {}

    async def ensure(self, instance: Instance, domain: Domain) -> Outcome:
        """Take the next step towards the wanted power state."""
        wanted = instance.spec.power_state
        stopping = self._stopping.get(domain.name)
        if wanted is not PowerState.STOPPED and stopping is not None and stopping.asked_by == SPEC:
            self.end_shutdown(domain.name)
        if domain.power is Power.CRASHED:
            await self._hypervisor.destroy(domain.name)
            return Outcome(
                False, "Crashed", "The guest crashed; the machine is being reset.", again_in=0.0, changed=True
            )
        if wanted is PowerState.STOPPED:
            return await self._stop(domain)
        if domain.power is Power.STOPPED:
            return await self._start(domain, paused=wanted is PowerState.PAUSED)
        return await self._set_paused(domain, wanted)

    def expect_start(self, uid: str) -> None:
        """Start the machine without a pause next time: its stop was asked for."""
        self._starts.pop(uid, None)

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a machine that is gone."""
        self._starts.pop(uid, None)
        self._stopping.pop(uid, None)

    async def shut_down(self, name: str, grace_seconds: float, *, asked_by: str = SPEC) -> float | None:
        """Press the power button, or pull the plug when the grace is over; return when to look again.

        The grace counts from when the same asker asked first.
        """
        now, stopping = self._clock.monotonic(), self._stopping.get(name)
        if stopping is None or stopping.asked_by != asked_by:
            stopping = self._stopping[name] = _Stopping(asked_by, since=now, pressed=now - PRESS_SECONDS)
        left = stopping.since + grace_seconds - now
        if left <= 0:
            await self._hypervisor.destroy(name)
            self._stopping.pop(name, None)
            return None
        if now - stopping.pressed >= PRESS_SECONDS:
            stopping.pressed = now
            await self._hypervisor.shut_down(name)
        return min(left, stopping.pressed + PRESS_SECONDS - now)

    def end_shutdown(self, name: str) -> None:
        """Forget a shutdown that came to its end."""
        self._stopping.pop(name, None)

    async def _stop(self, domain: Domain) -> Outcome:
        self._starts.pop(domain.name, None)
        if not domain.active:
            self._stopping.pop(domain.name, None)
            return Outcome(True, "Stopped")
        if domain.power is Power.PAUSED:
            await self._hypervisor.resume(domain.name)
        again_in = await self.shut_down(domain.name, self._grace)
        if again_in is None:
            return Outcome(False, "Stopping", "The guest did not shut down in time.", again_in=0.0, changed=True)
        message = f"The guest was asked to shut down; the plug is pulled {self._grace:g} s after that."
        return Outcome(False, "Stopping", message, again_in=again_in)

    async def _start(self, domain: Domain, *, paused: bool) -> Outcome:
        now, starts = self._clock.monotonic(), self._starts.setdefault(domain.name, _Starts())
        if now - starts.at >= STABLE_SECONDS:
            starts.in_a_row = 0
        pause = min(2.0**starts.in_a_row, LONGEST_PAUSE_SECONDS) if starts.in_a_row else 0.0
        left = starts.at + pause - now
        why = _WHY.get(domain.why, "The machine stopped")
        if starts.in_a_row and left > 0:
            return Outcome(False, "Restarting", f"{why}; it is started again in {math.ceil(left)} s.", again_in=left)
        starts.in_a_row += 1
        starts.at = now
        await self._hypervisor.start(domain.name, paused=paused)
        mishap = why if domain.why in _MISHAPS else ""
        return Outcome(True, "Paused" if paused else "Running", changed=True, mishap=mishap)

    async def _set_paused(self, domain: Domain, wanted: PowerState) -> Outcome:
        if wanted is PowerState.PAUSED and domain.power is Power.RUNNING:
            await self._hypervisor.pause(domain.name)
            return Outcome(True, "Paused", changed=True)
        if wanted is PowerState.RUNNING and domain.power is Power.PAUSED:
            await self._hypervisor.resume(domain.name)
            return Outcome(True, "Running", changed=True)
        return Outcome(True, str(wanted))
