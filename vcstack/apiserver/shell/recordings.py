"""Recordings of shells: begun where the settings say so, listed, read, and removed when their days are over."""

import base64
import binascii
import random
import secrets
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
import structlog
from starlette.responses import Response

from vcstack.apiclient.shellmessages import Recording, RecordingList, RecordingListMetadata
from vcstack.apiserver import queries
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.queries import Query, refuse
from vcstack.apiserver.replies import model_reply
from vcstack.apiserver.shell.client import Size
from vcstack.apiserver.shell.recorder import Recorder, beginning, read_part
from vcstack.apiserver.streams import Receive, Send
from vcstack.apiserver.targets import Target
from vcstack.crypto.chunks import ChunkCipher
from vcstack.crypto.errors import Tampered
from vcstack.specs.errors import ApiError, InternalError, MethodNotAllowed, NotFound, QuotaExceeded, Unavailable
from vcstack.specs.kinds.project import Project
from vcstack.specs.registry import definition_of
from vcstack.specs.settings import RECORDED, SHELL_RECORDING, SHELL_RECORDING_DAYS, SHELL_RECORDING_MIB
from vcstack.specs.shellrecordings import RecordingPlace, ShellRecording
from vcstack.store.draft import not_found
from vcstack.store.keys import row_of
from vcstack.store.shellkeys import ShellKeyRecords, ShellKeys

MEDIA_TYPE: Final = "application/x-asciicast"
PARAMETERS: Final = frozenset({"limit", "continue"})
MOST: Final = 500
PAGE: Final = 100
SILENT: Final = timedelta(seconds=60)
"""A recording that nobody has written to for so long, and that did not end, broke off."""
LOOK_SECONDS: Final = 3600.0
"""How often it is looked for what is to be removed."""
NEW: Final = timedelta(hours=1)
WHAT: Final = "shell recording"

logger = structlog.get_logger(__name__)


class Recordings:
    """Begins recordings, and answers requests for them."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer, keys: ShellKeyRecords) -> None:
        self._archive = parts.recordings
        self._store = parts.store
        self._settings = parts.store.cache.setting_book
        self._clock = parts.clock
        self._keys = keys
        self._authorizer = authorizer

    def are_demanded(self, project: str) -> bool:
        """Return whether shells in the project are recorded now."""
        return self._settings.text(SHELL_RECORDING, project=project) == RECORDED

    async def begin(
        self, target: Target, instance_uid: str, subject: str, login: str, size: Size, keys: ShellKeys
    ) -> Recorder | None:
        """Return what records a shell; None: it is not to be.

        Raises:
            Unavailable: it is to be recorded and cannot.
            QuotaExceeded: the project's recordings take all that they may.
        """
        project = target.project or ""
        if not self.are_demanded(project):
            return None
        if self._archive is None:
            raise Unavailable("shells are recorded here, and no PostgreSQL is configured that could keep recordings")
        most = self._settings.number(SHELL_RECORDING_MIB)
        async with beginning():
            used = await self._archive.measure(keys.project)
        if used >= most * 2**20:
            raise QuotaExceeded(
                f"shells are recorded here, and recordings of project {project} fill the {most} MiB that they may "
                f"(setting {SHELL_RECORDING_MIB}); older ones go when their {SHELL_RECORDING_DAYS} are over"
            )
        now = self._clock.now()
        days = self._settings.number(SHELL_RECORDING_DAYS, project=project)
        recording = ShellRecording(
            id=f"rec-{secrets.token_hex(10)}",
            project=keys.project,
            instance=target.name,
            instance_uid=instance_uid,
            subject=subject,
            login=login,
            started_at=now,
            written_at=now,
            expires_at=now + timedelta(days=days),
        )
        cipher = ChunkCipher(keys.recordings, WHAT, recording.id)
        recorder = Recorder(self._archive, cipher, recording, self._clock)
        await recorder.begin(size)
        return recorder

    async def answer(self, call: Call) -> Response:
        """Return the recordings of an instance or a project, or one of them."""
        if call.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{call.method} is not possible here; there is GET")
        query = call.query.only(queries.NONE if call.target.item else PARAMETERS)
        await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
        project, instance = await self._find_uids(call.target)
        if self._archive is None:
            raise NotFound("no recordings are kept here: no PostgreSQL is configured")
        if call.target.item:
            return await self._read(call.target, project, instance)
        limit = query.count("limit", least=1, most=MOST) or PAGE
        found = await self._archive.select(project, instance=instance, limit=limit + 1, before=_read_place(query))
        now = self._clock.now()
        metadata = RecordingListMetadata(continue_=_write_place(found[limit - 1]) if len(found) > limit else None)
        return model_reply(RecordingList(metadata=metadata, items=[_describe(each, now) for each in found[:limit]]))

    async def run(self) -> None:
        """Remove recordings whose days are over or whose project is gone, until cancelled."""
        if self._archive is None:
            return
        while True:
            await self._clock.sleep(LOOK_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311 (replicas take turns)
            try:
                removed = await self.remove_expired()
            except ApiError as error:
                logger.warning("old recordings of shells could not be removed", error=error.message)
                continue
            if removed:
                logger.info("old recordings of shells were removed", recordings=removed)

    async def remove_expired(self) -> int:
        """Remove them; return how many. Raises Unavailable."""
        assert self._archive is not None
        await self._store.cache.fresh()
        table = self._store.cache.table(definition_of(Project))
        uids = [orjson.loads(entry.json)["metadata"]["uid"] for entry in table.objects.values()]
        now = self._clock.now()
        return await self._archive.remove(before=now, projects=uids, begun_before=now - NEW)

    async def _find_uids(self, target: Target) -> tuple[str, str | None]:
        """Return the uids of the project, and of the instance if one is named. Raises NotFound."""
        found = await self._store.get(target.definition, target.project, target.name)
        uid: str = found.wire["metadata"]["uid"]
        if target.definition.kind == Project.KIND:
            return uid, None
        definition = definition_of(Project)
        entry = self._store.cache.find(definition, row_of(None, target.project or ""))
        if entry is None:
            raise not_found(definition, None, target.project or "")
        return orjson.loads(entry.json)["metadata"]["uid"], uid

    async def _read(self, target: Target, project: str, instance: str | None) -> Response:
        assert self._archive is not None
        found = await self._archive.find(project, target.item)
        keys = await self._keys.find(project)
        if found is None or keys is None or instance not in (None, found.instance_uid):
            raise NotFound(f"there is no recording {target.item} of {target.definition.kind} {target.name}")
        cipher = ChunkCipher(keys.recordings, WHAT, found.id)
        parts = self._archive.read(found.id, found.chunks)
        return RecordingResponse(parts, cipher, found)


class RecordingResponse(Response):
    """Streams a recording, part by part as it was written."""

    media_type = MEDIA_TYPE

    def __init__(self, parts: AsyncIterator[tuple[int, bytes]], cipher: ChunkCipher, recording: ShellRecording) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._parts = parts
        self._cipher = cipher
        self._recording = recording

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Send it; an error before its beginning is raised, one in it breaks the answer off."""
        expected, begun = 0, False
        async for number, sealed in self._parts:
            if number != expected:
                break
            part = self._open(number, sealed)
            if not begun:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                begun = True
            if scope["method"] == "HEAD":
                expected = self._recording.chunks
                break
            await send({"type": "http.response.body", "body": part, "more_body": True})
            expected += 1
        if expected != self._recording.chunks or not begun:
            raise self._damaged(f"part {expected} is missing")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _open(self, number: int, sealed: bytes) -> bytes:
        try:
            return read_part(self._cipher, number, sealed)
        except Tampered as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> InternalError:
        logger.error("a recording of a shell is damaged", recording=self._recording.id, why=why)
        return InternalError(f"the recording is damaged: {why}")


def _describe(found: ShellRecording, now: datetime) -> Recording:
    broken = found.ended_at is None and now - found.written_at > SILENT
    return Recording(
        id=found.id,
        instance=found.instance,
        instance_uid=found.instance_uid,
        user=found.subject,
        login=found.login,
        started_at=found.started_at,
        seconds=found.seconds,
        bytes=found.size,
        ended=broken or found.ended_at is not None,
        broken_off=broken,
        expires_at=found.expires_at,
    )


def _write_place(found: ShellRecording) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([found.started_at.isoformat(), found.id])).decode()


def _read_place(query: Query) -> RecordingPlace | None:
    token = query.text("continue")
    if token is None:
        return None
    try:
        time, id_ = orjson.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        at = datetime.fromisoformat(time)
        if not isinstance(id_, str) or "\0" in id_ or at.tzinfo is None:
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise refuse("continue", "is no token of an earlier page") from error
    return at, id_
