"""Figures of the limits for Prometheus."""

from collections.abc import Iterable, Mapping
from functools import cache, partial

from prometheus_client import Counter, Gauge

from vcstack.apiserver.limits.levels import Level
from vcstack.apiserver.limits.streams import StreamCount

EXECUTING = Gauge("vcstack_api_level_executing", "Requests that have a seat of the level.", ["level"])
QUEUED = Gauge("vcstack_api_level_queued", "Requests that wait for a seat of the level.", ["level"])
SEATS = Gauge("vcstack_api_level_seats", "Seats of the level.", ["level"])
REJECTED = Counter("vcstack_api_level_rejected", "Requests refused by a limit.", ["level", "reason"])
WAITED = Counter("vcstack_api_level_waited", "Requests that got their seat by way of a queue.", ["level"])
STREAMS = Gauge("vcstack_api_level_streams", "Watches, logs, consoles and transfers open.", ["level"])
WORKERS = Gauge("vcstack_api_workers", "Processes that serve the API, as this one counts them.")


@cache
def rejected_of(level: str, reason: str) -> Counter:
    """Return the counter of such refusals, looked up once."""
    return REJECTED.labels(level, reason)


def show(levels: Iterable[Level], streams: Mapping[str, StreamCount]) -> None:
    """Read the levels' numbers whenever Prometheus asks, so that a request pays nothing for it."""
    for level in levels:
        EXECUTING.labels(level.name).set_function(partial(getattr, level, "executing"))
        QUEUED.labels(level.name).set_function(partial(getattr, level, "queued"))
        SEATS.labels(level.name).set(level.settings.seats)
    for name, count in streams.items():
        STREAMS.labels(name).set_function(partial(getattr, count, "open"))
