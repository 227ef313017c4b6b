"""What the audit trail costs creates: the same load with and without it, turn by turn."""

import contextlib
import os
import statistics
from collections.abc import Iterator

from bench import api
from bench.daemons import Daemons
from bench.load import Load, in_own_process, percentile
from bench.table import Row

SECTION = "Audit trail"
ROUNDS = 12
SWITCH = "VCSTACK_MANAGEMENT_AUDIT__ENABLED"
LEAST = 0.9
"""Share of the creates without it that are left with it."""


def measure() -> list[Row]:
    """Run and return the rows."""
    without: list[tuple[Load, float]] = []
    with_it: list[tuple[Load, float]] = []
    with Daemons() as daemons:
        arguments = (daemons.api_port, daemons.pki.ca_cert, daemons.pki.admin_token.read_text().strip())
        with daemons.management(roles="api"):
            in_own_process(api._prepare, *arguments)
        for number in range(ROUNDS):
            # Each goes first as often as the other: what was written before slows the second.
            for on in (True, False) if number % 2 else (False, True):
                with _switched(on), daemons.management(roles="api") as pids:
                    load = in_own_process(api._create, *arguments, f"audit-{number}-{on}".lower(), pids)
                cpu = sum(load.served_cpu_seconds.values()) / load.calls * 1e6
                (with_it if on else without).append((load, cpu))
    rates = [[load.rate for load, _ in loads] for loads in (with_it, without)]
    costs = [statistics.median(cpu for _, cpu in loads) for loads in (with_it, without)]
    waits = [[percentile(load.latencies_ms, 50) for load, _ in loads] for loads in (with_it, without)]
    ratio = statistics.median(on / off for on, off in zip(*rates, strict=True))
    with_rate, rate = (statistics.median(r) for r in rates)
    wait_with, wait = (statistics.median(w) for w in waits)
    return [
        Row(
            SECTION, f"create, 1 worker, {api.CALLERS} callers", f"{with_rate:,.0f}/s (p50 {wait_with:.0f} ms)",
            f"without it {rate:,.0f}/s (p50 {wait:.0f} ms)", ratio, f"≥ {LEAST}", ratio >= LEAST,
        ),
        Row(SECTION, "CPU of a create", f"{costs[0]:,.0f} µs", f"without it {costs[1]:,.0f} µs", costs[0] / costs[1]),
    ]  # fmt: skip


@contextlib.contextmanager
def _switched(on: bool) -> Iterator[None]:
    os.environ[SWITCH] = str(on).lower()
    try:
        yield
    finally:
        del os.environ[SWITCH]
