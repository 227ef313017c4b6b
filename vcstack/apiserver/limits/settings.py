"""What an operator may turn in the program's settings; rates are turned by RateLimitPolicies."""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from vcstack.apiserver.limits.defaults import LEVELS, STREAMS, LevelSettings, StreamSettings
from vcstack.apiserver.limits.unread import UnreadSettings


def name_worker() -> str:
    """Return a name for this process that no other has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How one worker limits."""

    worker: str = field(default_factory=name_worker)
    """Its name among the live workers."""
    levels: Mapping[str, LevelSettings] = field(default_factory=lambda: LEVELS)
    """Seats and queues by level."""
    streams: Mapping[str, StreamSettings] = field(default_factory=lambda: STREAMS)
    """Open streams by level; heartbeats' level has none of its own."""
    unread: UnreadSettings = field(default_factory=UnreadSettings)
    """How much of large answers may wait for its readers."""
