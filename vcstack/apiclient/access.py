"""The typed client of ``/api/v1/me`` and ``/api/v1/access/...``: who one is, and who may what."""

from collections.abc import Mapping, Sequence
from typing import Any

from vcstack.apiclient.accessmessages import (
    PlanChange,
    PlanReply,
    PlanRequest,
    ReviewReply,
    ReviewRequest,
    RightsReply,
    RightsRequest,
)
from vcstack.apiclient.connection import Connection, decode
from vcstack.apiclient.paths import API_ROOT
from vcstack.specs.model import Model


class AccessClient:
    """Asks. All methods raise ``vcstack.specs.errors``: Forbidden or NotFound for what one may not ask."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def me(self) -> dict[str, Any]:
        """Return who the caller is, its groups and what was given to it."""
        return decode(await self.connection.request("GET", f"{API_ROOT}/me"))

    async def review(self, question: ReviewRequest) -> ReviewReply:
        """Return whether somebody may do something."""
        return ReviewReply.from_wire(await self._ask("review", question))

    async def rights(self, *, subject: str | None = None, project: str | None = None) -> RightsReply:
        """Return what somebody may do; default the caller, everywhere."""
        return RightsReply.from_wire(await self._ask("rights", RightsRequest(subject=subject, project=project)))

    async def plan(self, objects: Sequence[Mapping[str, Any]]) -> list[PlanChange]:
        """Return what writing the objects would grant and take away. Nothing is written."""
        body = PlanRequest(objects=[dict(o) for o in objects])
        return PlanReply.from_wire(await self._ask("plan", body)).changes

    async def _ask(self, name: str, body: Model) -> bytes:
        return (await self.connection.request("POST", f"{API_ROOT}/access/{name}", content=body.to_json())).content
