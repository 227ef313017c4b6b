"""Evaluates expressions in a process of its own, which may be ended by what they do; see ``worker.py``."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import structlog

from vcstack.policy.wording import explain
from vcstack.specs.errors import Unavailable

CPU_SECONDS: Final = 0.2
"""Most processor time of one policy's expressions on one object; those of people take some microseconds."""
SHARE: Final = 0.1
"""Of a core, that a payer's expressions may take for long."""
SAVED_SECONDS: Final = 6.0
"""Of processor time, that a payer may take at once when it took none for a minute."""
CUSTOMER_PAYERS: Final = 3
"""All payers of one customer together may take as much as so many: projects are easily made."""
PAYERS: Final = 10_000
START_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 20.0
"""On a machine that is busy with other things processor time takes longer."""
SHUN_SECONDS: Final = 60.0
"""So long an expression is not tried again on the same one's objects when it took too much: one process ended a minute,
not one a request. What took too much on one tenant's object says nothing of another's."""
SHUNNED: Final = 1024
ANSWER_LIMIT: Final = 64 * 1024
WORKER: Final = Path(__file__).with_name("worker.py")
TOO_MUCH: Final = "takes too much time or memory"
TOO_OFTEN: Final = "the policies of this place took too much time of late; try again in a minute"
TOO_MANY: Final = "the policies that you wrote of late took too much time to read; try again in a minute"

log = structlog.get_logger(__name__)

_Tried = tuple[str, str, str]
"""Who pays, whose object it was, and the expression."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one expression."""

    value: bool = False
    error: str = ""
    """Why it could not be evaluated; then there is no value."""
    cpu: float = field(default=0.0, compare=False)
    """The processor time that it took, in seconds."""


class Evaluating(Protocol):
    """What evaluates expressions."""

    async def evaluate(
        self,
        rules: Sequence[str],
        obj: Mapping[str, Any],
        old: Mapping[str, Any] | None,
        request: Mapping[str, str],
        payer: str = "",
        whose: str = "",
        customer: str = "",
    ) -> list[Outcome]:
        """Return what each expression says of the object; whose they are pays for the time. Raises Unavailable."""

    async def compile(self, rules: Sequence[str], payer: str = "") -> list[Outcome]:
        """Return an error for each text that is no expression; who asks pays for the time. Raises Unavailable."""


class Sandbox:
    """One such process, started when it is first needed. Requests follow one another."""

    def __init__(self, cpu_seconds: float = CPU_SECONDS, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._cpu_seconds = cpu_seconds
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._shunned: dict[_Tried, float] = {}
        self._spent: dict[str, tuple[float, float]] = {}
        """By payer: processor time taken and not yet made up for, as of when."""

    async def close(self) -> None:
        """End the process."""
        await self._end()

    async def evaluate(
        self,
        rules: Sequence[str],
        obj: Mapping[str, Any],
        old: Mapping[str, Any] | None,
        request: Mapping[str, str],
        payer: str = "",
        whose: str = "",
        customer: str = "",
    ) -> list[Outcome]:
        """Return what each expression says of the object.

        ``payer``: whose expressions these are. Who takes a tenth of a core for long waits, so that one tenant's do not
        keep those of others from being evaluated; nobody ("") pays for those of the cloud.

        ``customer``: to whom the payer belongs, who pays as well.

        ``whose``: whose the object is. An expression that takes too much on it is not tried again for a minute on
        others of theirs, but on everybody else's; with nobody ("") it is tried on each.

        Raises:
            Unavailable: there is no process that could.
        """
        rest = {"object": obj, "oldObject": old, "request": request}
        return await self._ask("rules", rules, rest, payer, whose, customer if payer else "")

    async def compile(self, rules: Sequence[str], payer: str = "") -> list[Outcome]:
        """Return an error for each text that is no expression; ``payer`` as of ``evaluate``.

        Raises:
            Unavailable: there is no process that could, or it has done too much for the payer.
        """
        return await self._ask("compile", rules, {}, payer, f"texts of {payer}")

    async def _ask(
        self, what: str, texts: Sequence[str], rest: Mapping[str, Any], payer: str, whose: str, customer: str = ""
    ) -> list[Outcome]:
        found: list[Outcome] = []
        async with self._lock:
            shunned = {text for text in texts if self._is_shunned((payer, whose, text))}
            if self._has_taken_too_much(payer, customer):
                if what == "compile":
                    raise Unavailable(TOO_MANY)
                return [Outcome(error=TOO_OFTEN)] * len(texts)
            while len(found) < len(texts):
                if texts[len(found)] in shunned:
                    found.append(Outcome(error=TOO_MUCH))
                    continue
                left = list(texts[len(found) :])
                stop = next((n for n, text in enumerate(left) if text in shunned), len(left))
                outcomes = await self._exchange(what, left[:stop], rest)
                found += outcomes
                seconds = sum(o.cpu for o in outcomes) + (self._cpu_seconds if len(outcomes) < stop else 0)
                for each, payers in ((payer, 1), (customer, CUSTOMER_PAYERS)):
                    if each:
                        self._charge(each, seconds, payers)
                if len(outcomes) < stop:
                    shunned.add(texts[len(found)])
                    self._shun((payer, whose, texts[len(found)]))
        return found

    async def _exchange(self, what: str, texts: Sequence[str], rest: Mapping[str, Any]) -> list[Outcome]:
        """Return the answers that came before the process ended, all of them as a rule."""
        line = orjson.dumps({what: texts, **rest}) + b"\n"
        process = await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        found: list[Outcome] = []
        complete = False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with contextlib.suppress(ConnectionError):
                    process.stdin.write(line)
                    await process.stdin.drain()
                for text in texts:
                    answer = await process.stdout.readline()
                    if not answer.endswith(b"\n"):
                        return found
                    value = orjson.loads(answer)
                    error = explain(text, said) if (said := value.get("error")) else ""
                    found.append(Outcome(value.get("value", False), error, value.get("cpu", 0.0)))
            complete = True
        except TimeoutError as error:
            raise Unavailable("policies cannot be evaluated now: the machine is too busy; try again") from error
        finally:
            if not complete:
                await self._end()
        return found

    async def _start(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        try:
            # Neither our environment nor our folder: what is in there is not an expression's business.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", str(WORKER), str(self._cpu_seconds),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env={}, cwd="/", limit=ANSWER_LIMIT,
            )  # fmt: skip
            assert self._process.stdout is not None
            async with asyncio.timeout(START_SECONDS):
                ready = await self._process.stdout.readline()
        except (OSError, TimeoutError) as error:
            await self._end()
            raise Unavailable("policies cannot be evaluated: no process could be started for it; try again") from error
        except BaseException:
            await self._end()
            raise
        if not ready:
            await self._end()
            raise Unavailable("policies cannot be evaluated: their process does not start; see the server's log")
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
        transport = getattr(process, "_transport", None)  # else its pipes are closed by the garbage collector
        if transport is not None:
            transport.close()

    def _has_taken_too_much(self, payer: str, customer: str) -> bool:
        if payer and self._charge(payer, 0) > SAVED_SECONDS:
            return True
        return bool(customer) and self._charge(customer, 0, CUSTOMER_PAYERS) > SAVED_SECONDS * CUSTOMER_PAYERS

    def _charge(self, payer: str, seconds: float, payers: int = 1) -> float:
        """Return what the payer, who counts as so many, has taken and not made up for, with this."""
        now = self._monotonic()
        if payer not in self._spent and len(self._spent) >= PAYERS:
            self._spent.clear()
        spent, at = self._spent.get(payer, (0.0, now))
        left = max(0.0, spent - (now - at) * SHARE * payers) + seconds
        self._spent[payer] = (left, now)
        return left

    def _is_shunned(self, tried: _Tried) -> bool:
        until = self._shunned.get(tried)
        return until is not None and self._monotonic() < until

    def _shun(self, tried: _Tried) -> None:
        payer, whose, text = tried
        log.warning("an expression took too much time or memory", expression=text[:200], payer=payer, whose=whose)
        if not whose:
            return
        if len(self._shunned) >= SHUNNED:
            self._shunned.clear()
        self._shunned[tried] = self._monotonic() + SHUN_SECONDS
