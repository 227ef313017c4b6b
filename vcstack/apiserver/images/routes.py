"""The subresource /content of images: HEAD tells how far an upload is, PUT goes on with it, GET sends it."""

import asyncio
import re

from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response

from vcstack.apiserver import queries
from vcstack.apiserver.authz import Action, Authorizer, Verb
from vcstack.apiserver.context import Call
from vcstack.apiserver.images.acceptance import GIB, accept_or_refuse
from vcstack.apiserver.images.files import ImageFiles, Upload
from vcstack.apiserver.images.inspection import Refused
from vcstack.apiserver.parts import ApiParts
from vcstack.apiserver.replies import json_reply
from vcstack.specs.errors import BadRequest, Cause, Conflict, Invalid, MethodNotAllowed, NotFound, TooLarge
from vcstack.specs.kinds.image import Image
from vcstack.specs.registry import definition_of
from vcstack.specs.settings import IMAGES_MAX_SIZE, SettingReader
from vcstack.store.actor import Actor

CHUNK_LIMIT = 64 * 1024 * 1024
"""Longest body of one PUT."""
WRITE_BYTES = 1024 * 1024
"""Bytes handed to the disk at once."""
OFFSET_HEADER = "upload-offset"
OCTETS = "application/octet-stream"
_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19})")
SYSTEM = Actor("system:controller:image", "apiserver")


class ContentRoutes:
    """Answers requests for /content."""

    def __init__(self, parts: ApiParts, authorizer: Authorizer) -> None:
        self._store = parts.store
        self._settings: SettingReader = parts.store.cache.setting_book
        self._authorizer = authorizer
        self._files = ImageFiles(parts.settings.image_dir)
        self._files.prepare()

    async def answer(self, call: Call) -> Response:
        """Return the answer."""
        call.query.only(queries.NONE)
        match call.method:
            case "HEAD":
                await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
                return await self.offset(call)
            case "GET":
                await self._authorizer.authorize(call.identity, Action(Verb.GET, call.target))
                return await self.download(call)
            case "PUT":
                await self._authorizer.authorize(call.identity, Action(Verb.UPDATE, call.target))
                return await self.upload(call)
        raise MethodNotAllowed(f"{call.method} is not possible here; there is GET, HEAD, PUT")

    async def offset(self, call: Call) -> Response:
        """Return in a header how much of the upload, or of the accepted content, is there."""
        image = await self._find_image(call)
        received = await asyncio.to_thread(self._files.get_received_bytes, image.uid)
        record = await asyncio.to_thread(self._files.find_record, image.uid)
        headers = {OFFSET_HEADER: str(received)}
        if record is not None and record.digest:
            headers = {OFFSET_HEADER: str(record.size_bytes), "upload-complete": record.digest}
        return Response(status_code=204, headers=headers)

    async def download(self, call: Call) -> Response:
        """Send the accepted content; ranges are possible."""
        image = await self._find_image(call)
        record = await asyncio.to_thread(self._files.find_record, image.uid)
        path = await asyncio.to_thread(self._files.find_content, record) if record else None
        if record is None or path is None:
            raise NotFound(f"{image.ref} has no accepted content yet; upload it with 'vcctl image upload'")
        return FileResponse(path, media_type=OCTETS, headers={"etag": f'"{record.digest}"'})

    async def upload(self, call: Call) -> Response:
        """Take the next chunk; with the last one the content is checked and accepted or refused."""
        given = call.request.headers.get("content-type", OCTETS)
        if given.split(";")[0].strip() != OCTETS:
            raise BadRequest(f"content is sent as {OCTETS}, not as {given[:80]!r}")
        image = await self._find_image(call)
        record = await asyncio.to_thread(self._files.find_record, image.uid)
        if record is not None and record.digest:
            raise Conflict(f"{image.ref} has its content already; content never changes: make another image")
        if image.deleting:
            raise Conflict(f"{image.ref} is being deleted")
        if image.spec.source is not None:
            raise Conflict(
                f"{image.ref} gets its content from {image.spec.source.url}; make another image to upload one"
            )
        start, length, total = _parse_range(call)
        self._check_total(image, total)
        with self._files.locked_upload(image.uid) as upload:
            self._check_offset(upload, start, total)
            if upload.total is None:
                await asyncio.to_thread(self._files.announce, image.uid, total)
            received = upload.received + await self._receive(call, upload, length)
            if received < total:
                return Response(status_code=202, headers={OFFSET_HEADER: str(received)})
            await self._finish(image, upload, total)
        return json_reply((await self._store.get(definition_of(Image), call.target.project, call.target.name)).json)

    async def _find_image(self, call: Call) -> Image:
        stored = await self._store.get(definition_of(Image), call.target.project, call.target.name)
        return Image.from_wire(stored.json)

    def _check_total(self, image: Image, total: int) -> None:
        wanted = image.spec.size_bytes
        if wanted is not None and wanted != total:
            raise _invalid("spec.sizeBytes", f"the image is declared with {wanted} bytes, the content has {total}")
        most = self._settings.number(IMAGES_MAX_SIZE, project=image.metadata.project) * GIB
        if total > most:
            raise TooLarge(f"the content has {total} bytes; at most {most} are accepted")
        if total == 0:
            raise _invalid("content", "the content is empty")

    def _check_offset(self, upload: Upload, start: int | None, total: int) -> None:
        if upload.total not in (None, total):
            raise Conflict(f"this upload began with {upload.total} bytes in all, not {total}; it goes on with that")
        if start is not None and start != upload.received:
            cause = Cause(field="header.content-range", reason="OffsetMismatch", message=str(upload.received))
            raise Conflict(f"{upload.received} bytes have come; go on from there", causes=[cause])

    async def _receive(self, call: Call, upload: Upload, length: int) -> int:
        """Append the body to the partial file, as far as it comes, and return how much came."""
        waiting, received = bytearray(), 0
        try:
            async for data in call.request.stream():
                received += len(data)
                if received > length:
                    raise BadRequest(f"the body is longer than the {length} bytes that content-range announces")
                waiting += data
                if len(waiting) >= WRITE_BYTES:
                    await asyncio.to_thread(self._files.append, upload, bytes(waiting))
                    waiting.clear()
        except ClientDisconnect as error:
            raise BadRequest("the connection ended before the chunk did; go on from what has come") from error
        finally:
            if waiting:
                self._files.append(upload, bytes(waiting))
        if received != length:
            raise BadRequest(f"the body has {received} bytes, content-range announces {length}")
        return received

    async def _finish(self, image: Image, upload: Upload, total: int) -> None:
        try:
            await accept_or_refuse(self._files, self._settings, image, upload, total)
        except Refused as error:
            await self._wake(image, 0)
            raise _invalid("content", str(error)) from error
        await self._wake(image, total)

    async def _wake(self, image: Image, received: int) -> None:
        """Say in status how much has come: the image's controller sees it and observes the stored file."""
        await self._store.patch_status(
            definition_of(Image),
            image.metadata.project,
            image.metadata.name,
            {"receivedBytes": received},
            uid=image.uid,
            actor=SYSTEM,
        )


def _parse_range(call: Call) -> tuple[int | None, int, int]:
    """Return (start, length, total) of a chunk; start None: nothing but the question whether all is there."""
    header = call.request.headers.get("content-range")
    declared = call.request.headers.get("content-length", "")
    if header is None:
        if not declared.isdigit():
            raise BadRequest("send content-length, or content-range: bytes START-END/TOTAL")
        return _limited(0, int(declared), int(declared))
    match = _RANGE.fullmatch(header)
    if match is None:
        raise BadRequest(f"content-range {header[:80]!r} cannot be read; write bytes START-END/TOTAL")
    total = int(match[3])
    if match[1] is None:
        return None, 0, total
    start, end = int(match[1]), int(match[2])
    if not start <= end < total:
        raise BadRequest(f"content-range {header[:80]!r} contradicts itself")
    return _limited(start, end - start + 1, total)


def _limited(start: int, length: int, total: int) -> tuple[int, int, int]:
    if length > CHUNK_LIMIT:
        raise TooLarge(f"a chunk has at most {CHUNK_LIMIT} bytes; send the content in several")
    return start, length, total


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", causes=[Cause(field=field, reason="FieldValueInvalid", message=message)])
