"""What an operator may turn in the program's settings; rates are turned by RateLimitPolicies."""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from vcstack.apiserver.limits.defaults import LEVELS, STREAMS, LevelSettings, StreamSettings
from vcstack.apiserver.limits.shared import SharedTable
from vcstack.apiserver.limits.unread import UnreadSettings


def name_worker(shared: SharedTable | None = None) -> str:
    """Return a name for this process that no other has; it ends with that of those who share its buckets."""
    group = secrets.token_hex(8) if shared is None else shared.group
    return f"{socket.gethostname()}-{os.getpid()}.{group}"


def group_of(worker: str) -> str:
    """Return what the names of all have in common who share buckets."""
    return worker.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How one worker limits."""

    worker: str = field(default_factory=name_worker)
    """Its name among the live workers."""
    levels: Mapping[str, LevelSettings] = field(default_factory=lambda: LEVELS)
    """Seats and queues by level."""
    streams: Mapping[str, StreamSettings] = field(default_factory=lambda: STREAMS)
    """Open streams by level; heartbeats' level has none of its own."""
    shared: SharedTable | None = None
    """Where what it shares with the other processes of its manager lies; None: it is the only one."""
    process: int = 0
    """Its number among these."""
    unread: UnreadSettings = field(default_factory=UnreadSettings)
    """How much of large answers may wait for its readers."""
