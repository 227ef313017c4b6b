"""/healthz, /readyz and /metrics, for probes and Prometheus."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client import Counter as Counted
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vcstack.operator.statuses import State

Answer = Callable[[], bool]


class OperatorMetrics(Collector):
    """What the operator counts."""

    def __init__(
        self, states: Callable[[], Iterable[tuple[str, State]]], gauges: dict[str, Callable[[], float]]
    ) -> None:
        self.registry = CollectorRegistry()
        self.attempts = Counted(
            "vcstack_operator_reconciles", "Attempts by kind and outcome.", ["kind", "outcome"], registry=self.registry
        )
        self._states = states
        self._gauges = gauges
        self.registry.register(self)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield what is measured when it is asked for."""
        objects = GaugeMetricFamily(
            "vcstack_operator_objects", "Custom resources by kind and how far they came.", labels=["kind", "state"]
        )
        for (kind, state), count in Counter(self._states()).items():
            objects.add_metric([kind, state.value], count)
        yield objects
        for name, read in self._gauges.items():
            yield GaugeMetricFamily(f"vcstack_operator_{name}", name.replace("_", " "), value=read())


class Health:
    """The server."""

    def __init__(self, address: str, metrics: OperatorMetrics, *, alive: Answer, ready: Answer) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._metrics = metrics
        application = web.Application()
        application.router.add_get("/healthz", _answer(alive))
        application.router.add_get("/readyz", _answer(ready))
        application.router.add_get("/metrics", self._show)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self) -> None:
        """Serve. Raises OSError when the address is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host.strip("[]"), self._port).start()

    async def aclose(self) -> None:
        """Serve no more."""
        await self._runner.cleanup()

    async def _show(self, request: web.Request) -> web.Response:
        headers = {"content-type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(self._metrics.registry), headers=headers)


def _answer(ask: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ask() else web.Response(status=503, text="not yet\n")

    return answer
