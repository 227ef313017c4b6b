"""Webhooks of Git servers: somebody pushed, so a GitSource is to look at once.

The caller has no account; what it has is the source's secret, with which it signs the body (HMAC with SHA-256), as
GitHub, Gitea, Forgejo and Gogs do. The body itself is not believed and not read further: all it can do is to have the
repository looked at, once in some seconds. Whether there is such a source nobody learns without the secret.
"""

import hashlib
import hmac
import re
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from vcstack.apiserver.audit.entry import note_caller, note_object
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import NONE, Query
from vcstack.specs.errors import ApiError, MethodNotAllowed, NotFound, TooLarge, Unauthorized
from vcstack.specs.kinds.gitsource import REQUESTED, GitSource
from vcstack.specs.kinds.secret import Secret
from vcstack.specs.meta import format_time
from vcstack.specs.registry import definition_of
from vcstack.store.actor import Actor

PREFIX: Final = "/api/v1/webhooks/git/"
BODY_LIMIT: Final = 1024 * 1024
SPACING_SECONDS: Final = 5.0
"""A source is asked to look no more often. A push that comes sooner has its turn after them, and stands for those that
come until then."""
REMEMBERED: Final = 10_000
WRONG: Final = "there is no such webhook, or the signature is wrong"
_PATH: Final = re.compile(re.escape(PREFIX) + r"([a-z0-9-]{1,63})/([a-z0-9-]{1,63})")
_SIGNATURES: Final = ("x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature", "x-gogs-signature")


def is_webhook(path: str) -> bool:
    """Return whether the path is one of these."""
    return path.startswith(PREFIX)


class WebhookRoutes:
    """Answers them."""

    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._asked: dict[str, float] = {}
        """When a source was asked last, or is going to be."""

    async def answer(self, request: Request) -> Response:
        """Have the source look, and answer 202. Raises ApiError."""
        found = _PATH.fullmatch(request.scope["path"])
        if found is None:
            raise NotFound("there is no such webhook; it is POST /api/v1/webhooks/git/PROJECT/NAME")
        if request.method != "POST":
            raise MethodNotAllowed(f"{request.method} is not possible here; there is POST")
        Query.parse(request.scope["query_string"]).only(NONE)
        project, name = found.groups()
        note_object(project, name)
        body = await _read(request)
        source = await self._verify(project, name, request, body)
        note_caller(f"webhook:{project}/{name}")
        await self._ask_in_turn(source)
        return Response(status_code=202)

    async def _verify(self, project: str, name: str, request: Request, body: bytes) -> GitSource:
        """Return the source whose secret signed the body; a wrong one costs as much as none. Raises Unauthorized."""
        secret, source = b"", None
        try:
            stored = await self._store.get(definition_of(GitSource), project, name)
            source = GitSource.from_wire(stored.json)
            if source.spec.webhook is not None:
                revealed = await self._store.reveal(definition_of(Secret), project, source.spec.webhook.name)
                secret = str((revealed["spec"].get("data") or {}).get(source.spec.webhook.key, "")).encode()
        except NotFound:
            secret = b""
        wanted = hmac.new(secret or b"-", body, hashlib.sha256).hexdigest()
        given = [request.headers[n].removeprefix("sha256=") for n in _SIGNATURES if n in request.headers]
        good = [hmac.compare_digest(wanted.encode(), each.lower().encode("utf-8", "replace")) for each in given]
        if source is None or not secret or not any(good):
            raise Unauthorized(WRONG)
        return source

    async def _ask_in_turn(self, source: GitSource) -> None:
        """Have the source look now, or once those seconds are over: nothing pushed is left for the next interval."""
        now, last = self._clock.monotonic(), self._asked.get(source.uid)
        if last is not None and last > now:
            return  # that look is still to come
        turn = now if last is None else max(now, last + SPACING_SECONDS)
        if len(self._asked) >= REMEMBERED:
            self._asked.clear()
        self._asked[source.uid] = turn
        await self._ask(source, turn - now)

    async def _ask(self, source: GitSource, after: float) -> None:
        meta, at = source.metadata, self._clock.now() + timedelta(seconds=after)
        patch = {"metadata": {"uid": meta.uid, "annotations": {REQUESTED: format_time(at)}}}
        actor = Actor(f"webhook:{meta.project}/{meta.name}", "webhook")
        try:
            await self._store.merge_patch(definition_of(GitSource), meta.project, meta.name, patch, actor=actor)
        except ApiError:
            self._asked.pop(source.uid, None)
            raise


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise TooLarge(f"the body is larger than {BODY_LIMIT} bytes")
    return bytes(body)
