"""Our own small etcd client: TLS, one event loop, a watch that comes back, leases, election (ADR 0003)."""
