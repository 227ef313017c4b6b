"""When certificates end, for Prometheus: of this machine's services, of hosts, of the authority, of tenants."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vcstack.pki.local import Held
from vcstack.specs.columns import find_value, parse_time
from vcstack.specs.kinds.certificate import Certificate
from vcstack.specs.kinds.certificateauthority import CertificateAuthority
from vcstack.specs.kinds.host import Host
from vcstack.specs.registry import definition_of
from vcstack.store.cache import WatchCache

NAME = "vcstack_certificate_expiry_timestamp_seconds"
PATHS = (
    (CertificateAuthority, "status.expiresAt"),
    (Host, "status.certificateExpiresAt"),
    (Certificate, "status.expiresAt"),
)


class ExpiryCollector(Collector):
    """Looks when it is asked; so nothing is shown that is there no more."""

    def __init__(self, cache: WatchCache, held: Callable[[], Iterable[Held]]) -> None:
        self._cache, self._held = cache, held

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the one gauge."""
        gauge = GaugeMetricFamily(NAME, "When the certificate ends.", labels=["kind", "project", "name"])
        for held in self._held():
            gauge.add_metric(["Service", "", held.path.stem], held.expires_at.timestamp())
        for model, path in PATHS:
            for entry in self._cache.table(definition_of(model)).objects.values():
                wire: dict[str, Any] = orjson.loads(entry.json)
                ends = find_value(wire, path)
                if ends:
                    meta = wire["metadata"]
                    gauge.add_metric(
                        [model.KIND, meta.get("project") or "", meta["name"]], parse_time(ends).timestamp()
                    )
        yield gauge

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: it is registered before there is anything to look at."""
        return ()
