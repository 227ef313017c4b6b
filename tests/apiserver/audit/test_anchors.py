"""Anchors that are sent elsewhere: to where the operator says, through the guard of requests to the outside."""

import asyncio
from pathlib import Path

import orjson

from tests.apiserver.audit.trails import audit_settings
from tests.outbound.server import Server, client_of, running
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.outbound.client import OutboundClient

PATIENCE = 60


async def arrived(server: Server) -> list[dict[str, object]]:
    """The anchors of all requests, once there is one."""
    async with asyncio.timeout(PATIENCE):
        while not server.requests:
            await asyncio.sleep(0.01)
    bodies = [orjson.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests]
    return [anchor for body in bodies for anchor in body["anchors"]]


async def test_the_chains_end_is_sent_to_the_operators_url(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        settings = audit_settings(tmp_path, webhook_url=server.url(path="/anchors"), anchor_seconds=1)
        async with Trail(settings, SystemClock(), outbound=client_of(server, tmp_path)) as trail:
            sent = await arrived(server)
            noted = [anchor.to_wire() for anchor in trail.anchors.read()]
    assert server.requests[0].startswith(b"POST /anchors HTTP/1.1")
    assert sent[0] == noted[0]
    assert (sent[0]["chain"], sent[0]["seq"]) == (trail.chain.name, 1)


async def test_the_guard_keeps_anchors_from_where_they_must_not_go(tmp_path: Path) -> None:
    """The loopback is allowed to nobody by default; the file has the anchor all the same, and the server works."""
    async with running(tmp_path) as server:
        url = server.url("127.0.0.1")
        refusing = OutboundClient()
        settings = audit_settings(tmp_path, webhook_url=url, anchor_seconds=1)
        async with Trail(settings, SystemClock(), outbound=refusing) as trail:
            await trail.anchor()
            assert [anchor.seq for anchor in trail.anchors.read()][:1] == [1]
        refusing.close()
    assert server.requests == []
