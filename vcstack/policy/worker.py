"""The process in which expressions are evaluated. Run by ``sandbox.py`` as a plain script; imports nothing of ours.

An expression is somebody's program. CEL ends by design, and the library bounds the loops, the nesting and the length
of an expression, but neither how much one step does nor how much memory all take. So the kernel does: the processor
time of the expressions of a line together (an interval timer whose signal nobody handles) and the memory of the
process. What exceeds either ends the process, which holds nothing but the object at hand.

A line in: {"rules": [text...], "object": {...}, "oldObject": {...}|null, "request": {...}}, or {"compile": [text...]}.
Lines out, one for each text: {"value": bool}, {} (it compiles) or {"error": text}, with the processor time that it took
in seconds, "cpu". First of all: {"ready": true}.
"""

import json
import resource
import signal
import sys
import time
from collections import OrderedDict
from typing import Any

from cel_expr_python import cel

MEMORY_BYTES = 768 * 1024 * 1024
"""Of addresses, the libraries' own included; an object has a mebibyte at most."""
REMEMBERED = 1024
"""Expressions that are kept compiled."""
ERROR_LIMIT = 300
FAULTS = 8
"""Of one expression that are told."""
COMPILE_SECONDS = 0.2
"""Compiling takes milliseconds, once, and is bounded by the length of the text."""
LEAST_SECONDS = 0.005
"""Timers are as coarse as that."""


class Evaluator:
    """Compiles once, evaluates often."""

    def __init__(self) -> None:
        text, anything = cel.Type.STRING, cel.Type.DYN
        variables = {"object": anything, "oldObject": anything, "request": cel.Type.Map(text, text)}
        self._environment = cel.NewEnv(variables=variables)
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def compile(self, text: str) -> Any:
        """Return the expression. Raises ValueError: it is none, or does not tell yes from no."""
        found = self._compiled.get(text)
        if found is None:
            try:
                found = self._environment.compile(text)
            except RuntimeError as error:
                raise ValueError(_plain(str(error))) from error
            kind = found.return_type()
            if kind not in (cel.Type.BOOL, cel.Type.DYN):
                raise ValueError(f"gives a value of type {kind.name().lower()}; true or false is needed")
            self._compiled[text] = found
            if len(self._compiled) > REMEMBERED:
                self._compiled.popitem(last=False)
        return found

    def bind(self, values: dict[str, Any]) -> Any:
        """Return the variables."""
        return self._environment.Activation({name: values[name] for name in ("object", "oldObject", "request")})

    def evaluate(self, text: str, activation: Any) -> bool:
        """Return what it says. Raises ValueError: it cannot be evaluated."""
        try:
            result = self.compile(text).eval(activation)
        except RuntimeError as error:
            raise ValueError(_plain(str(error))) from error
        kind = result.type()
        if kind == cel.Type.ERROR:
            raise ValueError(_plain(str(result.value())))
        if kind != cel.Type.BOOL:
            raise ValueError(f"gives a value of type {kind.name().lower()}; true or false is needed")
        return result.value() is True


def _plain(message: str) -> str:
    """Return the library's message without its status words, and without the expression: a line for each fault."""
    for word in ("INVALID_ARGUMENT: ", "NOT_FOUND: ", "UNKNOWN: ", "OUT_OF_RANGE: ", "INTERNAL: ", "CANCELLED: "):
        message = message.removeprefix(word)
    words = message.partition(" [INVALID_ARGUMENT]")[0].partition(" [INTERNAL]")[0].partition(" [CANCELLED]")[0]
    faults = [line.removeprefix("ERROR: ") for line in words.splitlines() if not line.startswith(" | ")]
    return "\n".join(fault[:ERROR_LIMIT] for fault in faults[:FAULTS])


def _limit(cpu_seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: our parent says when it is over
    signal.setitimer(signal.ITIMER_PROF, 0)
    assert cpu_seconds > 0


def serve(cpu_seconds: float) -> None:
    """Answer until nobody asks any more."""
    evaluator = Evaluator()
    _limit(cpu_seconds)
    lines, answers = sys.stdin.buffer, sys.stdout.buffer

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value).encode() + b"\n")
        answers.flush()

    answer({"ready": True})
    for line in lines:
        asked = json.loads(line)
        activation = evaluator.bind(asked) if "rules" in asked else None
        left = cpu_seconds
        for text in asked.get("rules") or asked.get("compile") or ():
            found: dict[str, Any] = {}
            began = time.process_time()
            try:
                signal.setitimer(signal.ITIMER_PROF, COMPILE_SECONDS)
                evaluator.compile(text)
                if activation is not None:
                    signal.setitimer(signal.ITIMER_PROF, max(left, LEAST_SECONDS))
                    before = time.process_time()
                    try:
                        found = {"value": evaluator.evaluate(text, activation)}
                    finally:
                        left -= time.process_time() - before
            except (ValueError, MemoryError, RecursionError, TypeError, OverflowError) as error:
                found = {"error": str(error) or type(error).__name__}
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            answer({**found, "cpu": time.process_time() - began})


if __name__ == "__main__":
    serve(float(sys.argv[1]))
