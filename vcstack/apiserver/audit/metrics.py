"""The audit trail's own figures for Prometheus."""

from prometheus_client import Counter, Gauge

RECORDS = Counter("vcstack_audit_records", "Records that are on the disk.")
SYNCS = Counter("vcstack_audit_syncs", "Waits for the disk to have what is written.")
SUPPRESSED = Counter("vcstack_audit_suppressed", "Denials of the same caller that were counted and not recorded.")
FAILED = Gauge("vcstack_audit_failed", "1 while the trail cannot be written.")
SHIPPED = Counter("vcstack_audit_shipped", "Records moved into PostgreSQL.")
ANCHORED = Gauge("vcstack_audit_anchored_seconds", "When the chain's end was last noted elsewhere, Unix time.")
