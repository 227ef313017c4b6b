"""The runtime's Prometheus metrics, in a registry that the program passes in."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0)


class RuntimeMetrics:
    """What all controllers of a program count; the label is the controller's name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, ["controller"], registry=registry, buckets=SECONDS)

        self.queue_depth = Gauge(
            "vcstack_queue_depth", "Keys that wait for a worker.", ["controller"], registry=registry
        )
        self.delayed = Gauge(
            "vcstack_queue_delayed", "Keys that wait for their time.", ["controller"], registry=registry
        )
        self.reconcile_seconds = histogram("vcstack_reconcile_seconds", "Time of one reconcile.")
        self.reconcile_lag_seconds = histogram(
            "vcstack_reconcile_lag_seconds", "Time from a key's first event to the end of its reconcile."
        )
        self.reconciles = Counter(
            "vcstack_reconciles", "Reconciles by outcome.", ["controller", "outcome"], registry=registry
        )
        self.leading = Gauge("vcstack_leading", "1 while this process leads.", ["controller"], registry=registry)
        self.events_dropped = Counter(
            "vcstack_events_dropped", "Events that were not recorded.", ["reason"], registry=registry
        )
