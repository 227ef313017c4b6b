"""The crash sweep: one step of the scenario, with a program killed at its k-th call to the outside."""

import asyncio
import copy
import gc
import logging
import multiprocessing.util
import os
import pickle
import shutil
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import NoReturn

import structlog

from tests.cloud.agent import AgentProcess
from tests.cloud.cloud import Cloud, Process, Snapshot, run_cloud
from tests.cloud.scenario import HOSTS, STEPS
from tests.cloud.tenant import Tenant, Wire
from tests.cloud.virtual_time import run_virtually
from tests.fakes.crash import When
from vcstack.specs.resource import Ref

MANAGER, AGENT, FILES = "manager", "agent", "agent's files"
BOTH = {MANAGER: AGENT, AGENT: MANAGER}
BOTH_EVERY = 4
"""Each so many-th kill of one program is followed by one of the other."""
LATER_CALLS = 25
"""The other one is killed within so many calls of its."""
LEASES_OVER_SECONDS = 60.0


@dataclass(frozen=True)
class Beginning:
    """The world before a step, and what the user knows."""

    snapshot: Snapshot
    wanted: dict[Ref, Wire]
    gone: set[Ref]


@dataclass(frozen=True)
class Kill:
    """Where a program is killed."""

    step: str
    victim: str
    call: int
    when: When
    later: int = 0
    """The call, counted from that moment, at which the other program is killed too; 0: it is not."""

    def __str__(self) -> str:
        also = f", then {BOTH[self.victim]} at its call {self.later} from there" if self.later else ""
        return f"{self.step}: {self.victim} killed {self.when} call {self.call}{also}"


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    kill: Kill
    killed_at: str
    """The call; empty when the program did not come so far."""
    fault: str
    """What is wrong at the end, empty when all is well."""


def list_kills(step: str) -> list[Kill]:
    """Return the kills on both sides of each call that a victim makes during the step."""
    counts = _walk()[1][step]
    kills = [Kill(step, v, call, when) for v in counts for call in range(1, counts[v] + 1) for when in When]
    random = Random(step)
    both = [k for k in kills if k.victim in BOTH][random.randrange(BOTH_EVERY) :: BOTH_EVERY]
    return kills + [replace(k, later=random.randint(1, LATER_CALLS)) for k in both]


def run_kills(kills: Sequence[Kill]) -> list[Outcome]:
    """Run kills of one step: each in a fork of a cloud that has just come to rest before the step."""
    outcomes: list[Outcome] = []
    beginnings, _ = _walk()

    async def main(step: str) -> None:
        loop = asyncio.get_running_loop()
        async with _Begun(beginnings[step]) as (cloud, user):
            gc.freeze()
            files = _folder() / "untouched"
            shutil.rmtree(files, ignore_errors=True)
            shutil.copytree(cloud.folder, files)
            for kill in kills:
                reader, writer = os.pipe()
                if os.fork() == 0:
                    asyncio._set_running_loop(loop)  # asyncio forgets it in a fork, for good reasons in general
                    await _run_forked(kill, cloud, user, writer)
                os.close(writer)
                with os.fdopen(reader, "rb") as answer:
                    text = answer.read()
                os.wait()  # noqa: ASYNC222 - virtual time stands still meanwhile, as it should
                outcomes.append(pickle.loads(text) if text else Outcome(kill, "", "the process died"))
                shutil.rmtree(cloud.folder)
                shutil.copytree(files, cloud.folder)

    run_virtually(main(kills[0].step))
    return outcomes


async def _run_forked(kill: Kill, cloud: Cloud, user: Tenant, writer: int) -> NoReturn:
    """Run one kill in this process, tell what came of it, and end the process."""
    outcome = await _run(kill, cloud, user)
    with os.fdopen(writer, "wb") as out:
        out.write(pickle.dumps(outcome))
    os._exit(0)


async def _run(kill: Kill, cloud: Cloud, user: Tenant) -> Outcome:
    """Do the step, kill, let the program be started again, and wait for rest."""
    victims, fault = _victims(cloud, kill.victim), ""
    for victim in victims:
        if kill.victim == FILES:
            assert isinstance(victim, AgentProcess)
            victim.files.kill_at, victim.files.when = victim.files.written + kill.call, kill.when
        else:
            victim.program.kill_at(kill.call, kill.when)
    followers = [asyncio.create_task(_follow(cloud, victim, kill)) for victim in victims if kill.later]
    try:
        await STEPS[kill.step](user)
        await user.rest()
    except Exception:  # noqa: BLE001 - told to the parent
        fault = traceback.format_exc(limit=-4)
    for follower in followers:
        follower.cancel()
    crashers = [v.program.crasher for v in victims if not v.program.alive]
    return Outcome(kill, " and ".join(c.calls[(c.at or 0) - 1] for c in crashers), fault)


async def _follow(cloud: Cloud, first: Process, kill: Kill) -> None:
    """Have the other programs die too, some calls after the first did."""
    await first.program.crasher.dead.wait()
    for other in _victims(cloud, BOTH[kill.victim]):
        other.program.kill_at(kill.later, kill.when)


def set_up_logging() -> None:
    """Log nothing, for the loss of connections is what is tested; $CLOUD_LOG=10 shows all."""
    level = int(os.environ.get("CLOUD_LOG", str(logging.CRITICAL)))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))


def prepare_worker() -> None:
    """Make a fresh process one that runs kills; what it writes goes with it."""
    set_up_logging()
    multiprocessing.util.Finalize(None, shutil.rmtree, (_folder(),), {"ignore_errors": True}, exitpriority=1)


def _victims(cloud: Cloud, victim: str) -> list[Process]:
    """Return the manager, or all agents: the one that has the instance will come so far."""
    assert cloud.manager is not None
    return [cloud.manager] if victim == MANAGER else list(cloud.agents.values())


@cache
def _folder() -> Path:
    """Return a folder of this process in memory, for files that are flushed again and again."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="vcstack-sweep-", dir=shared if shared.is_dir() else None))


@cache
def _walk() -> tuple[dict[str, Beginning], dict[str, dict[str, int]]]:
    """Walk through the scenario undisturbed: return the world before each step and the calls made in it."""
    beginnings: dict[str, Beginning] = {}
    counts: dict[str, dict[str, int]] = {}

    async def lay_ground() -> Beginning:
        async with run_cloud(_folder() / "world", *HOSTS) as cloud:
            user = Tenant(cloud)
            await user.make_basics()
            await user.rest()
            return await _end(cloud, user, "ground")

    async def take(step: str, beginning: Beginning) -> Beginning:
        async with _Begun(beginning) as (cloud, user):
            programs = {v: _victims(cloud, v) for v in (MANAGER, AGENT)}
            agents = list(cloud.agents.values())
            written = {a: a.files.written for a in agents}
            before = {p: len(p.program.crasher.calls) for found in programs.values() for p in found}
            await STEPS[step](user)
            await user.rest()
            made = {v: [len(p.program.crasher.calls) - before[p] for p in found] for v, found in programs.items()}
            made[FILES] = [a.files.written - written[a] for a in agents]
            counts[step] = {v: max(calls) for v, calls in made.items()}
            return await _end(cloud, user, step)

    beginning = run_virtually(lay_ground())
    for step in STEPS:
        beginnings[step] = beginning
        beginning = run_virtually(take(step, beginning))
    return beginnings, counts


class _Begun:
    """A cloud at the beginning of a step: started, leading and at rest."""

    def __init__(self, beginning: Beginning) -> None:
        self._beginning = beginning
        self._running = run_cloud(_folder() / "world", snapshot=beginning.snapshot)

    async def __aenter__(self) -> tuple[Cloud, Tenant]:
        cloud = await self._running.__aenter__()
        user = Tenant(cloud)
        user.wanted, user.gone = copy.deepcopy(self._beginning.wanted), set(self._beginning.gone)
        while cloud.manager is None or not cloud.manager.ready.is_set() or not cloud.manager.leads_all:
            await asyncio.sleep(0.5)
        await user.rest()
        return cloud, user

    async def __aexit__(self, *error: object) -> None:
        await self._running.__aexit__(*error)  # type: ignore[arg-type]


async def _end(cloud: Cloud, user: Tenant, step: str) -> Beginning:
    """Kill everything, let the leases run out, and keep the world."""
    cloud.stop_supervising()
    for process in cloud.processes:
        await process.kill()
    cloud.etcd.advance(LEASES_OVER_SECONDS)
    return Beginning(cloud.snapshot(_folder() / f"after-{step}"), copy.deepcopy(user.wanted), set(user.gone))


def describe(outcomes: list[Outcome]) -> Iterator[str]:
    """Yield a line for each failure."""
    for outcome in outcomes:
        if outcome.fault:
            yield f"{outcome.kill} ({outcome.killed_at or 'not reached'}):\n{outcome.fault}"
