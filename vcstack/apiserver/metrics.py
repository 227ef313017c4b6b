"""The API server's own figures for Prometheus, in the process's default registry."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("vcstack_api_requests", "Requests answered.", ["verb", "kind", "code"])
SECONDS = Histogram(
    "vcstack_api_request_seconds",
    "Time to answer; streams are not counted.",
    ["verb", "kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
WATCHES = Gauge("vcstack_api_watches", "Watch streams open.")
TUNNELS = Gauge("vcstack_api_tunnels", "Tunnels of hosts connected to this replica.")
