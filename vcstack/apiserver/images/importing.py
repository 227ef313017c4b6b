"""Content from where an image's source says, fetched beside everything else: a few at once, none for ever.

What is under way is known to this process only. Killed in the middle, another one begins anew; what came is thrown
away, and a file's lock sees to it that no two write.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from vcstack.apiserver.images.acceptance import GIB, accept_or_refuse
from vcstack.apiserver.images.files import ImageFiles, Upload
from vcstack.apiserver.images.inspection import Refused
from vcstack.clock import Clock
from vcstack.outbound.client import OutboundClient
from vcstack.outbound.errors import BadAnswer, BadUrl, NotReachable
from vcstack.outbound.urls import url_host
from vcstack.runtime.places import Holder, Places
from vcstack.specs.errors import ApiError
from vcstack.specs.kinds.image import Image
from vcstack.specs.settings import IMAGES_MAX_SIZE, SettingReader

AT_ONCE: Final = 8
"""Shared as ``runtime.places`` says: nobody's slow sources keep all places."""
TOTAL_SECONDS: Final = 2 * 3600.0
IDLE_SECONDS: Final = 60.0
REDIRECTS: Final = 5
"""Mirrors and object stores lead on; each step is guarded, and credentials stay with the first."""
FIRST_RETRY_SECONDS: Final = 10.0
LONGEST_RETRY_SECONDS: Final = 600.0
WRITE_BYTES: Final = 1024 * 1024

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Import:
    """What is known of an image's import."""

    task: "asyncio.Task[None] | None" = None
    failure: str = ""
    failures: int = 0
    retry_at: float = 0.0


class ImageImports:
    """Fetches. ``close`` at the end."""

    def __init__(self, files: ImageFiles, outbound: OutboundClient, settings: SettingReader, clock: Clock) -> None:
        self._files, self._outbound, self._settings, self._clock = files, outbound, settings, clock
        self._imports: dict[str, _Import] = {}
        self._places = Places(AT_ONCE)

    def failure_of(self, uid: str) -> str:
        """Return why the last try did not work; empty when it is not known to have failed."""
        known = self._imports.get(uid)
        return known.failure if known is not None else ""

    @property
    def running(self) -> int:
        """Return how many are fetched now."""
        return self._places.taken

    def ensure(self, image: Image, authorization: str, holder: Holder) -> bool:
        """Begin to fetch unless it is under way, is not yet to be tried again, or too many are; return whether it runs.

        Args:
            image: one with a source.
            authorization: the header for its origin; empty: none.
            holder: for whom it is.
        """
        known = self._imports.setdefault(image.uid, _Import())
        if known.task is not None:
            return True
        if self._clock.monotonic() < known.retry_at or not self._places.take(holder):
            return False
        known.task = asyncio.create_task(self._run(image, authorization, known), name=f"import-{image.uid}")
        # Not by the task itself, which may be cancelled before it begins.
        known.task.add_done_callback(lambda _: self._places.give_back(holder))
        return True

    def forget(self, uid: str) -> None:
        """Stop fetching for an image that is gone."""
        known = self._imports.pop(uid, None)
        if known is not None and known.task is not None:
            known.task.cancel()

    async def close(self) -> None:
        """Stop all."""
        tasks = [known.task for known in self._imports.values() if known.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, image: Image, authorization: str, known: _Import) -> None:
        try:
            known.failure = await self._try(image, authorization)
            known.failures = known.failures + 1 if known.failure else 0
            wait = min(FIRST_RETRY_SECONDS * 2 ** min(known.failures, 10), LONGEST_RETRY_SECONDS)
            known.retry_at = self._clock.monotonic() + wait if known.failure else 0.0
        finally:
            known.task = None

    async def _try(self, image: Image, authorization: str) -> str:
        """Return why it did not work; empty when content was accepted or refused, which both is noted."""
        assert image.spec.source is not None
        try:
            with self._files.locked_upload(image.uid) as upload:
                try:
                    total = await self._fetch(image, authorization, upload)
                    wanted = image.spec.size_bytes
                    if wanted is not None and wanted != total:
                        sentence = f"The source has {total} bytes, not {wanted} as declared."
                        await asyncio.to_thread(self._files.refuse, image.uid, sentence)
                        return ""
                    await accept_or_refuse(self._files, self._settings, image, upload, total)
                except BaseException:
                    self._files.forget_upload(image.uid)
                    raise
        except Refused:
            pass
        except NotReachable as error:
            log.info("image.source_unreachable", image=str(image.ref), why=error.detail)
            return str(error)
        except (BadUrl, BadAnswer) as error:
            return str(error)
        except ApiError as error:
            return error.message
        except OSError as error:
            log.warning("image.not_written", image=str(image.ref), why=str(error))
            return "it cannot be written here; whoever runs the cloud finds why in the log"
        return ""

    async def _fetch(self, image: Image, authorization: str, upload: Upload) -> int:
        """Write the content into the upload; return its length. Raises OutboundError."""
        assert image.spec.source is not None
        url = image.spec.source.url
        upload.part.write_bytes(b"")
        waiting, total = bytearray(), 0

        async def take(part: bytes) -> None:
            nonlocal total
            total += len(part)
            waiting.extend(part)
            if len(waiting) >= WRITE_BYTES:
                await asyncio.to_thread(self._files.append, upload, bytes(waiting))
                waiting.clear()

        answer = await self._outbound.download(
            url,
            take,
            headers={"authorization": authorization} if authorization else {},
            limit=self._settings.number(IMAGES_MAX_SIZE, project=image.metadata.project) * GIB,
            redirects=REDIRECTS,
            total_seconds=TOTAL_SECONDS,
            idle_seconds=IDLE_SECONDS,
        )
        if answer.status != 200:
            raise BadAnswer(f"{url_host(answer.url)} answers {answer.status}")
        if total == 0:
            raise BadAnswer(f"{url_host(answer.url)} answers with nothing")
        await asyncio.to_thread(self._files.append, upload, bytes(waiting))
        return total
