"""Where the ends of chains are noted: a file that only grows, and a URL of the operator's."""

import os
from collections.abc import Sequence
from pathlib import Path

import orjson
import structlog

from vcstack.apiserver.audit.segments import fsync_folder
from vcstack.outbound.client import OutboundClient
from vcstack.outbound.errors import OutboundError
from vcstack.pki.files import PRIVATE
from vcstack.specs.audit import Anchor

logger = structlog.get_logger(__name__)


class AnchorFile:
    """The file; several processes may share it. Its methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, anchor: Anchor) -> None:
        """Add an anchor and wait until it is on the disk. Raises OSError."""
        fresh = not self.path.exists()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE)
        try:
            os.write(descriptor, anchor.to_json() + b"\n")  # one write: lines of several processes do not mix
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            fsync_folder(self.path.parent)

    def read(self) -> list[Anchor]:
        """Return all anchors; a half written line at the end is none."""
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(Anchor.from_wire(line))
            except ValueError:
                logger.error("an anchor of the audit trail cannot be read", file=str(self.path), line=number)
        return found

    def read_heads(self) -> dict[str, int]:
        """Return the highest number of each chain."""
        heads: dict[str, int] = {}
        for anchor in self.read():
            heads[anchor.chain] = max(anchor.seq, heads.get(anchor.chain, 0))
        return heads


async def post_anchors(client: OutboundClient, url: str, anchors: Sequence[Anchor]) -> bool:
    """Send anchors to the operator's URL, through the guard of requests to the outside; whether they have arrived."""
    body = orjson.dumps({"kind": "AuditAnchors", "anchors": [a.to_wire() for a in anchors]})
    try:
        answer = await client.fetch("POST", url, headers={"content-type": "application/json"}, content=body)
    except OutboundError as error:
        logger.warning("the audit trail's anchor did not arrive", why=str(error))
        return False
    if answer.status >= 300:
        logger.warning("the audit trail's anchor was refused", status=answer.status)
    return answer.status < 300
