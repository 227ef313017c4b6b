"""How far a new master key is, for Prometheus: shown by the manager that puts the store under it."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

NAME = "vcstack_encryption_envelopes_left"


class RewrapCollector(Collector):
    """Looks when it is asked."""

    def __init__(self, left: Callable[[], int | None]) -> None:
        """``left``: how many envelopes need an older master key; None where nobody counts."""
        self._left = left

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the one gauge, where there is something to say."""
        left = self._left()
        if left is not None:
            gauge = GaugeMetricFamily(NAME, "Envelopes in the store that need an older master key, or are damaged.")
            gauge.add_metric([], left)
            yield gauge

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: it is registered before there is anything to look at."""
        return ()
