"""The audit trail's own figures for Prometheus."""

from prometheus_client import Counter, Gauge

RECORDS = Counter("vcstack_audit_records", "Records written.")
BATCHES = Counter("vcstack_audit_batches", "Writes to the disk that they took.")
SUPPRESSED = Counter("vcstack_audit_suppressed", "Denials of the same caller that were counted and not recorded.")
FAILED = Gauge("vcstack_audit_failed", "1 while the trail cannot be written.")
SHIPPED = Counter("vcstack_audit_shipped", "Records moved into PostgreSQL.")
ANCHORED = Gauge("vcstack_audit_anchored_seconds", "When the chain's end was last noted elsewhere, Unix time.")
