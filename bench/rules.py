"""What quotas and policies cost a create, and whether the time of a 404 tells a tenant what others have."""

import contextlib
import itertools
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from bench import access
from bench.daemons import Daemons
from bench.load import Http, Load, drive, in_own_process
from bench.table import Row

SECTION = "Quotas, policies, what a 404 tells"
CALLERS = 16
ROUNDS = 5
ROUND_SECONDS = 1.5
WARM_UP_SECONDS = 0.3
RULES: dict[str, Sequence[tuple[str, Any]]] = {
    "plain": (),
    "quota": (("quotas", {"limits": {"networks": access.HIGH, "ports": access.HIGH}}),),
    "labels": (
        ("policies", {"matches": {"kinds": ["Network"]}, "requireLabels": [{"key": "cost"}], "action": "Deny"}),
    ),
    "expression": (
        (
            "policies",
            {
                "matches": {"kinds": ["Network"]},
                "rules": [
                    {
                        "name": "mtu",
                        "expression": "object.spec.mtuBytes >= 1280",
                        "message": "too small",
                    }
                ],
                "action": "Deny",
            },
        ),
    ),
}
"""By the project: what holds there."""
NAMES = {
    "quota": "a quota of its kind",
    "labels": "a policy that demands a label",
    "expression": "one with an expression",
}
HIDDEN = {
    "another tenant's": "/api/v1/projects/theirs/networks/one",
    "missing there": "/api/v1/projects/theirs/networks/two",
    "missing with its project": "/api/v1/projects/nobodys/networks/one",
}
ASKED = 4000
"""Of each, in no order."""
ALIKE = 0.02
"""So much of the time may two be apart."""


def measure() -> list[Row]:
    """Run and return the rows."""
    with Daemons() as daemons:
        arguments = (daemons.api_port, daemons.pki.ca_cert, daemons.pki.admin_token.read_text().strip())
        with daemons.management(roles="api") as pids:
            token = in_own_process(access._prepare, *arguments)
            in_own_process(_prepare, *arguments)
            loads = in_own_process(_create, *arguments, pids)
            times = in_own_process(_ask, *arguments[:2], token)
    return [*_create_rows(loads), _hidden_row(times)]


def _create_rows(loads: dict[str, list[Load]]) -> list[Row]:
    def cpu(load: Load) -> float:
        return sum(load.served_cpu_seconds.values()) / load.calls * 1e6

    plain = loads["plain"]
    rows = []
    for project, name in NAMES.items():
        pairs = list(zip(loads[project], plain, strict=True))
        ours, beside = (statistics.median(cpu(load) for load in of) for of in (loads[project], plain))
        more = statistics.median(cpu(a) - cpu(b) for a, b in pairs)
        ratio = statistics.median(a.rate / b.rate for a, b in pairs)
        told = f"{more:+,.0f} µs of CPU ({ours:,.0f}), {statistics.median(a.rate for a, _ in pairs):,.0f}/s"
        without = f"without {beside:,.0f} µs, {statistics.median(b.rate for b in plain):,.0f}/s"
        rows.append(Row(SECTION, f"create under {name}", told, without, ratio))
    return rows


def _hidden_row(times: dict[str, list[float]]) -> Row:
    medians = {name: statistics.median(found) for name, found in times.items()}
    there = medians.pop("another tenant's")
    worst = max(medians.values(), key=lambda m: abs(m - there))
    apart = max(_distance(times["another tenant's"], times[name]) for name in medians)
    beside = ", ".join(f"{median:.3f} ms ({name})" for name, median in medians.items())
    name = f"404 for another tenant's object, p50 (farthest apart by Kolmogorov and Smirnov: {apart:.3f})"
    holds = abs(there - worst) <= ALIKE * worst
    return Row(SECTION, name, f"{there:.3f} ms", beside, there / worst, f"1 ± {ALIKE}", holds)


def _distance(some: list[float], others: list[float]) -> float:
    """Return how far apart the two distributions are at most: 0 alike, 1 nothing in common."""
    points, at = sorted(some + others), [sorted(some), sorted(others)]
    counted, apart = [0, 0], 0.0
    for point in points:
        for i, values in enumerate(at):
            while counted[i] < len(values) and values[counted[i]] <= point:
                counted[i] += 1
        apart = max(apart, abs(counted[0] / len(some) - counted[1] / len(others)))
    return apart


async def _prepare(port: int, ca: Path, token: str) -> None:
    http = await Http.connect(port, ca, token)

    async def post(path: str, name: str, spec: Any) -> None:
        await http.request("POST", f"/api/v1/{path}", orjson.dumps({"metadata": {"name": name}, "spec": spec}))

    for project, rules in RULES.items():
        await post("projects", project, {})
        for plural, spec in rules:
            await post(f"projects/{project}/{plural}", "bench", spec)
    await post("projects", "theirs", {})
    await post("projects/theirs/networks", "one", {})


async def _create(port: int, ca: Path, token: str, pids: tuple[int, ...]) -> dict[str, list[Load]]:
    connections = [await Http.connect(port, ca, token) for _ in range(CALLERS)]
    names = itertools.count()

    def body() -> bytes:
        metadata = {"name": f"n{next(names)}", "labels": {"cost": "bench"}}
        return orjson.dumps({"metadata": metadata, "spec": {"mtuBytes": 1400}})

    found: dict[str, list[Load]] = {project: [] for project in RULES}
    for number in range(ROUNDS):
        # Each goes first in turn: what was written before slows the next.
        order = list(RULES)[number % len(RULES) :] + list(RULES)[: number % len(RULES)]
        for project in order:
            path = f"/api/v1/projects/{project}/networks"
            callers = [lambda c=c, path=path: c.request("POST", path, body()) for c in connections]
            load = await drive(callers, ROUND_SECONDS, warm_up_seconds=WARM_UP_SECONDS, pids=pids)  # type: ignore[arg-type]
            found[project].append(load)
    return found


async def _ask(port: int, ca: Path, token: str) -> dict[str, list[float]]:
    """Ask for what is hidden and what is missing, in no order, over one connection; return milliseconds."""
    http = await Http.connect(port, ca, token)
    found: dict[str, list[float]] = {name: [] for name in HIDDEN}
    order = [name for name in HIDDEN for _ in range(ASKED)]
    random.Random(17).shuffle(order)
    for name in order:
        begin = time.perf_counter()
        with contextlib.suppress(RuntimeError):  # 404, as it should be
            await http.request("GET", HIDDEN[name])
            raise AssertionError(f"{HIDDEN[name]} was answered")
        found[name].append((time.perf_counter() - begin) * 1000)
    return found
