"""The audit trail's records and how a chain of them is proven. Pure.

A record is one line: ``{"hash":"<64 hex digits>",`` and then its payload's own text, a JSON object, without its
first brace. The hash is the SHA-256 of the payload as it stands, so a line is checked without
writing its JSON anew. The payload has the chain's name, its number in it (from 1) and the hash of the record
before it: what is changed, taken out, put in or moved shows. What is cut off at the end shows by the anchors:
copies of (chain, number, hash) kept elsewhere. What retention removes at the beginning is told by a record of
its own, with the verb ``expire``.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from vcstack.specs.model import Model

GENESIS: Final = "0" * 64
"""Stands for the record before the first one."""
EXPIRE: Final = "expire"
"""The verb of a record that tells what retention has removed."""
_HEAD: Final = b'{"hash":"'
_PAYLOAD_AT: Final = len(_HEAD) + 64 + 2
MOST_FINDINGS: Final = 1000
"""Of one report: a trail of which more is wrong is wrong as a whole."""


def seal(record: Mapping[str, Any], chain: str, seq: int, previous: str) -> tuple[bytes, str]:
    """Return the record's line, with its line feed, and its hash."""
    payload = orjson.dumps({**record, "chain": chain, "seq": seq, "previous": previous})
    digest = hashlib.sha256(payload).hexdigest()
    return b'%b%b",%b\n' % (_HEAD, digest.encode(), payload[1:]), digest


def format_instant(time: datetime) -> str:
    """Return RFC 3339 in UTC, always with microseconds: sorted as text it is sorted by time."""
    in_utc = time if time.tzinfo is UTC else time.astimezone(UTC)
    return in_utc.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


class Damaged(ValueError):
    """A line is not what was written."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record whose own hash is right."""

    chain: str
    seq: int
    previous: str
    hash: str
    payload: Mapping[str, Any]


def read_line(line: bytes) -> Sealed:
    """Return the record of a line. Raises Damaged when its text is not what its hash was made of."""
    line = line.rstrip(b"\n")
    digest = line[len(_HEAD) : len(_HEAD) + 64]
    if not line.startswith(_HEAD) or line[_PAYLOAD_AT - 2 : _PAYLOAD_AT] != b'",':
        raise Damaged("it is no record")
    payload = b"{" + line[_PAYLOAD_AT:]
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise Damaged("its text is not what its hash was made of")
    try:
        value = orjson.loads(payload)
        return Sealed(value["chain"], int(value["seq"]), value["previous"], digest.decode(), value)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Damaged("it is no record") from error


class Anchor(Model):
    """The end of a chain at a time, kept where nobody who changes the trail gets at it."""

    chain: str
    """The chain's name."""
    seq: int
    """The number of its last record."""
    hash: str
    """That record's hash."""
    time: str = ""
    """When it was the last one."""


class Problem(StrEnum):
    """What is wrong."""

    CHANGED = "Changed"
    REMOVED = "Removed"
    REORDERED = "Reordered"
    TRUNCATED = "Truncated"
    BROKEN = "Broken"


class Finding(Model):
    """One thing that is wrong."""

    problem: Problem
    """Changed, Removed, Reordered, Truncated or Broken."""
    chain: str
    """The chain."""
    seq: int
    """The record, or the first of those that are gone."""
    message: str
    """A sentence."""


class ChainSummary(Model):
    """What of a chain was looked at."""

    chain: str
    """Its name."""
    first: int
    """The number of the first record that is there; those before it are beyond retention."""
    last: int
    """The number of the last one."""
    hash: str
    """Its hash."""
    anchored: int = 0
    """Up to which number anchors vouch for it; 0: no anchor of it is known here."""


class VerificationReport(Model):
    """What came of it."""

    intact: bool
    """Whether nothing is wrong."""
    records: int
    """How many records were read."""
    chains: list[ChainSummary]
    """The chains."""
    findings: list[Finding]
    """What is wrong, a thousand things at most."""


@dataclass(slots=True)
class _Chain:
    first: Sealed | None = None
    seq: int = 0
    hash: str = GENESIS
    anchors: dict[int, str] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    """Of the numbers that anchors name."""


class Verifier:
    """Takes lines, each chain's in order, and finds what is wrong with them."""

    def __init__(self, anchors: Iterable[Anchor] = (), *, partial: bool = False) -> None:
        """``partial``: chains may begin anywhere, as in files of which older ones are gone already."""
        self._partial = partial
        self._chains: dict[str, _Chain] = {}
        self._findings: list[Finding] = []
        self._cuts: dict[str, dict[int, str]] = {}
        self._records = 0
        self._current = ""
        for anchor in anchors:
            known = self._chains.setdefault(anchor.chain, _Chain()).anchors
            if known.setdefault(anchor.seq, anchor.hash) != anchor.hash:
                self._find(Problem.CHANGED, anchor.chain, anchor.seq, "two anchors say that it is another one")

    def add(self, line: bytes) -> None:
        """Look at the next line."""
        self._records += 1
        try:
            record = read_line(line)
        except Damaged as error:
            state = self._chains.get(self._current)
            at = state.seq + 1 if state else 1
            self._find(Problem.CHANGED, self._current, at, f"line {self._records} is damaged: {error}")
            if state is not None:  # it stands for one record: what follows is judged by itself
                state.seq, state.hash = at, ""
                state.seen.add(at)
            return
        self._current = record.chain
        state = self._chains.setdefault(record.chain, _Chain())
        if state.first is None and not state.seq:
            state.first = record
        else:
            self._compare(state, record)
        self._look_at_anchor(state, record)
        state.seq, state.hash = record.seq, record.hash
        if record.payload.get("verb") == EXPIRE:
            self._note_cuts(record)

    def finish(self) -> VerificationReport:
        """Return what was found."""
        for name, state in self._chains.items():
            self._check_beginning(name, state)
            self._check_end(name, state)
        chains = [
            ChainSummary(
                chain=name,
                first=state.first.seq if state.first else 0,
                last=state.seq,
                hash=state.hash,
                anchored=max(state.seen & set(state.anchors), default=0),
            )
            for name, state in sorted(self._chains.items())
            if state.seq
        ]
        return VerificationReport(
            intact=not self._findings, records=self._records, chains=chains, findings=self._findings
        )

    def _compare(self, state: _Chain, record: Sealed) -> None:
        """Compare a record with the one before it."""
        chain, seq = record.chain, record.seq
        if seq > state.seq + 1:
            gone = (
                f"record {state.seq + 1} is gone" if seq == state.seq + 2 else f"{state.seq + 1} to {seq - 1} are gone"
            )
            self._find(Problem.REMOVED, chain, state.seq + 1, f"{gone}: {seq} follows {state.seq}")
        elif seq <= state.seq:
            self._find(Problem.REORDERED, chain, seq, f"{seq} stands after {state.seq}")
        elif state.hash and record.previous != state.hash:
            self._find(Problem.CHANGED, chain, state.seq, f"it is not the record that {seq} was written after")

    def _look_at_anchor(self, state: _Chain, record: Sealed) -> None:
        wanted = state.anchors.get(record.seq)
        if wanted is None:
            return
        state.seen.add(record.seq)
        if wanted != record.hash:
            self._find(Problem.CHANGED, record.chain, record.seq, "its anchor has another hash")

    def _note_cuts(self, record: Sealed) -> None:
        for cut in record.payload.get("cuts") or ():
            if isinstance(cut, Mapping):
                self._cuts.setdefault(str(cut.get("chain")), {})[int(cut.get("seq") or 0)] = str(cut.get("hash"))

    def _check_beginning(self, name: str, state: _Chain) -> None:
        first, cuts = state.first, self._cuts.get(name, {})
        if first is None or first.seq == 1:
            if first is not None and first.previous != GENESIS:
                self._find(Problem.BROKEN, name, 1, "the first record claims that there is one before it")
            return
        if not self._partial and cuts.get(first.seq - 1) != first.previous:
            message = f"1 to {first.seq - 1} are gone and no record of retention tells of that"
            self._find(Problem.REMOVED, name, 1, message)

    def _check_end(self, name: str, state: _Chain) -> None:
        last = max(state.anchors, default=0)
        if not state.seq and max(self._cuts.get(name, {}), default=0) >= last > 0:
            return  # all of it is beyond retention
        if last > state.seq:
            message = f"its anchor knows {last} records, the last one here is {state.seq}"
            self._find(Problem.TRUNCATED, name, state.seq + 1, message)

    def _find(self, problem: Problem, chain: str, seq: int, message: str) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(Finding(problem=problem, chain=chain, seq=seq, message=message))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which records are asked for; empty: any."""

    subject: str = ""
    kind: str = ""
    project: str = ""
    name: str = ""
    verb: str = ""
    outcome: str = ""
    """Allowed, Denied or Failed."""
    request_id: str = ""
    chain: str = ""
    since: str = ""
    """As ``format_instant``, inclusive."""
    until: str = ""
    """Exclusive."""
    domain: str = ""
    """Of what is outside projects."""
    projects: tuple[tuple[str, str], ...] | None = None
    """Only what was done in these projects, of each from a time on; not what looked missing to who did it."""
    domains: tuple[tuple[str, str], ...] = ()
    """With ``projects``: likewise what was done in these domains, outside projects."""
