"""Images: what is observed of their stored content, and its removal.

The API server receives, checks and stores content; this controller looks at what is really there and says
so. It never opens content.
"""

import asyncio
from typing import Protocol

from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import ensure_unused, watch_users
from vcstack.specs.kinds.flavor import FINALIZER as IN_USE
from vcstack.specs.kinds.image import ACCEPTED, FINALIZER, UPLOADED, Image
from vcstack.specs.meta import Condition, ConditionStatus
from vcstack.specs.resource import Ref

LOOK_AGAIN_SECONDS = 30.0
"""While content is missing: an upload may end on another replica, which wakes us by receivedBytes; this is
for the wake-up that was lost."""


class Record(Protocol):
    """What is known of an image's content."""

    @property
    def digest(self) -> str:
        """Return sha256:HEX, empty when the upload was refused."""

    @property
    def size_bytes(self) -> int:
        """Return the content's length."""

    @property
    def virtual_size_bytes(self) -> int:
        """Return the size of the disk that it describes."""

    @property
    def refusal(self) -> str:
        """Return why the upload was refused."""


class Contents(Protocol):
    """The stored content of images, by their uid. All methods block and are called in a thread."""

    def find_record(self, uid: str) -> Record | None:
        """Return what is known, None when nothing was uploaded."""

    def has_content(self, uid: str) -> bool:
        """Return whether the accepted content is there in full length."""

    def get_received_bytes(self, uid: str) -> int:
        """Return how much of an unfinished upload has come."""

    def delete(self, uid: str) -> None:
        """Remove record, upload and content unless another image has the same. Absent is success."""


CONTENTS: BackendKey[Contents] = BackendKey("images")


class ImageReconciler:
    """Observes content and writes Uploaded and Accepted; removes the content of deleted images."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._contents = context.backend(CONTENTS)

    async def reconcile(self, image: Image | None, ref: Ref) -> Result | None:
        """Make it so, once."""
        if image is None:
            return None
        if image.deleting:
            await self._finalize(image)
            return None
        return await self._observe(image)

    async def _finalize(self, image: Image) -> None:
        await ensure_unused(self._context, image)
        await asyncio.to_thread(self._contents.delete, image.uid)
        await self._context.client.remove_finalizer(image, FINALIZER, IN_USE)

    async def _observe(self, image: Image) -> Result | None:
        record = await asyncio.to_thread(self._contents.find_record, image.uid)
        there = await asyncio.to_thread(self._contents.has_content, image.uid)
        received = await asyncio.to_thread(self._contents.get_received_bytes, image.uid)
        fields = {
            "digest": record.digest if record and there else None,
            "sizeBytes": record.size_bytes if record and there else None,
            "virtualSizeBytes": record.virtual_size_bytes if record and there else None,
            "receivedBytes": record.size_bytes if record and there else received,
        }
        conditions = self._conditions(image, record, there, received)
        await write_status(self._context.client, image, fields=fields, conditions=conditions)
        return None if there else Result(requeue_after=LOOK_AGAIN_SECONDS)

    def _conditions(self, image: Image, record: Record | None, there: bool, received: int) -> list[Condition]:
        def condition(type_: str, status: ConditionStatus | bool, reason: str, message: str = "") -> Condition:
            return condition_of(image, type_, status, reason, message, clock=self._context.clock)

        if record is not None and there:
            return [condition(UPLOADED, True, "ContentFound"), condition(ACCEPTED, True, "Inspected")]
        upload = f"Upload it with 'vcctl image upload {image.metadata.name} --file FILE'."
        if record is not None and record.refusal and not received:
            return [
                condition(UPLOADED, False, "Refused", f"The upload was refused and removed. {upload}"),
                condition(ACCEPTED, False, "Refused", record.refusal),
            ]
        if record is not None and record.digest:
            lost = f"The accepted content {record.digest} is gone from the image directory; restore it from a backup."
            return [condition(UPLOADED, False, "ContentLost", lost), condition(ACCEPTED, False, "ContentLost", lost)]
        coming = (
            f"{received} bytes have come; the upload is not finished." if received else f"Nothing has come. {upload}"
        )
        reason = "Uploading" if received else "NoContent"
        waits = "Content is inspected when all of it has come."
        return [
            condition(UPLOADED, False, reason, coming),
            condition(ACCEPTED, ConditionStatus.UNKNOWN, "NotUploaded", waits),
        ]


def build(context: ControllerContext) -> Controller:
    """Return the controller of images."""
    return context.controller(ImageReconciler(context), Image, watches=watch_users(context, Image))
