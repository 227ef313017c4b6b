"""Trails on a disk: how they are set, and what is in them. Light, for a process of a test's own imports it."""

from pathlib import Path
from typing import Any

import orjson

from vcstack.apiserver.audit.segments import list_segments
from vcstack.apiserver.audit.settings import AuditSettings
from vcstack.specs.audit import VerificationReport, Verifier


def audit_settings(folder: Path, **changes: Any) -> AuditSettings:
    """Settings of a trail below a folder."""
    values: dict[str, Any] = {"folder": folder / "audit", "anchor_file": folder / "anchors.jsonl", "reserve_mib": 0}
    return AuditSettings(**{**values, **changes})


def lines_of(folder: Path) -> list[bytes]:
    """All lines of all chains below the trail's folder."""
    chains = sorted(p for p in folder.iterdir() if p.is_dir())
    return [line for chain in chains for s in list_segments(chain) for line in s.path.read_bytes().splitlines()]


def records_of(folder: Path) -> list[dict[str, Any]]:
    """What they say."""
    return [orjson.loads(line) for line in lines_of(folder)]


def verified(lines: list[bytes], anchors: Any = ()) -> VerificationReport:
    """What the verifier says of lines."""
    verifier = Verifier(anchors)
    for line in lines:
        verifier.add(line)
    return verifier.finish()
