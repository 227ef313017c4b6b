"""The API server's own figures for Prometheus, in the process's default registry."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("vcstack_api_requests", "Requests answered.", ["verb", "kind", "code"])
SECONDS = Histogram(
    "vcstack_api_request_seconds",
    "Time to answer; streams are not counted.",
    ["verb", "kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
WATCHES = Gauge("vcstack_api_watches", "Watch streams open.")
CONNECTIONS = Gauge("vcstack_api_connections", "Connections open, those in their handshake included.")
CONNECTIONS_REFUSED = Counter("vcstack_api_connections_refused", "Connections that came to nothing.", ["reason"])
ANSWERS_ENDED = Counter("vcstack_api_unread_answers", "Answers given up because nobody read them.", ["reason"])
TUNNELS = Gauge("vcstack_api_tunnels", "Tunnels of hosts connected to this replica.")


@cache
def requests_of(verb: str, kind: str, code: int) -> Counter:
    """Return the counter of such requests; looked up once, for the library's own way takes longer than counting."""
    return REQUESTS.labels(verb, kind, str(code))


@cache
def seconds_of(verb: str, kind: str) -> Histogram:
    """Return the histogram of such requests, looked up once."""
    return SECONDS.labels(verb, kind)
