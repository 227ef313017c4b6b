"""Images: what is observed of their stored content, and its removal.

The API server receives, checks and stores content; this controller looks at what is really there and says
so, and has content fetched for images with a source. It never opens content.
"""

import asyncio
import base64
from typing import Any, Protocol

from vcstack.controllers.backends.secrets import SECRETS
from vcstack.runtime.context import BackendKey, ControllerContext
from vcstack.runtime.controller import Controller
from vcstack.runtime.places import Holder, Holders
from vcstack.runtime.reconciler import Result
from vcstack.runtime.status import condition_of, write_status
from vcstack.runtime.users import ensure_unused, watch_users
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.domain import Domain
from vcstack.specs.kinds.flavor import FINALIZER as IN_USE
from vcstack.specs.kinds.image import ACCEPTED, FINALIZER, UPLOADED, Image, secret_of
from vcstack.specs.kinds.project import Project
from vcstack.specs.meta import Condition, ConditionStatus
from vcstack.specs.resource import AnyResource, Ref

FETCHING_SECONDS = 5.0
"""How often it is looked how far a download is."""
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


class Imports(Protocol):
    """Fetches content beside everything else."""

    def failure_of(self, uid: str) -> str:
        """Return why the last try did not work; empty when it is not known to have failed."""

    def ensure(self, image: Image, authorization: str, holder: Holder) -> bool:
        """Begin to fetch unless it is under way or has to wait; return whether it runs."""

    def forget(self, uid: str) -> None:
        """Stop fetching for an image that is gone."""


IMPORTS: BackendKey[Imports] = BackendKey("image-imports")
CONTENTS: BackendKey[Contents] = BackendKey("images")


class _NoCredentials(Exception):
    """The source's Secret is no use; the text is for the image's owner."""


class ImageReconciler:
    """Observes content and writes Uploaded and Accepted; removes the content of deleted images."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._contents = context.backend(CONTENTS)
        self._imports = context.backend(IMPORTS)
        self._secrets = context.backend(SECRETS)
        self._holders = Holders(context)

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
        self._imports.forget(image.uid)
        await asyncio.to_thread(self._contents.delete, image.uid)
        await self._context.client.remove_finalizer(image, FINALIZER, IN_USE)

    async def _observe(self, image: Image) -> Result | None:
        record = await asyncio.to_thread(self._contents.find_record, image.uid)
        there = await asyncio.to_thread(self._contents.has_content, image.uid)
        coming = await self._import(image) if image.spec.source and record is None else None
        received = await asyncio.to_thread(self._contents.get_received_bytes, image.uid)
        fields = {
            "digest": record.digest if record and there else None,
            "sizeBytes": record.size_bytes if record and there else None,
            "virtualSizeBytes": record.virtual_size_bytes if record and there else None,
            "receivedBytes": record.size_bytes if record and there else received,
        }
        conditions = self._conditions(image, record, there, received, coming)
        await write_status(self._context.client, image, fields=fields, conditions=conditions)
        if coming is not None:
            return Result(requeue_after=FETCHING_SECONDS)
        return None if there else Result(requeue_after=LOOK_AGAIN_SECONDS)

    async def _import(self, image: Image) -> tuple[str, str]:
        """Have the content fetched; return how that goes: a reason and a sentence."""
        try:
            authorization = await self._authorization_of(image)
        except _NoCredentials as error:
            return "SecretNotUsable", str(error)
        running = self._imports.ensure(image, authorization, self._holders.find(image.metadata.project))
        failure = self._imports.failure_of(image.uid)
        if running:
            again = f" The last try did not work: {failure}." if failure else ""
            return "Downloading", f"The content is being fetched.{again}"
        return ("DownloadFailed", f"It is tried again: {failure}.") if failure else ("Waiting", "Others are fetched.")

    async def _authorization_of(self, image: Image) -> str:
        """Return the header for the source's origin. It is remembered nowhere."""
        secret = secret_of(image)
        if secret is None:
            return ""
        try:
            values = await self._secrets.read(secret.project or "", secret.name)
        except NotFound as error:
            raise _NoCredentials(f"There is no Secret {secret.name}.") from error
        if "token" in values:
            header = f"Bearer {values['token'].strip()}"
        elif "username" in values and "password" in values:
            pair = f"{values['username']}:{values['password']}".encode()
            header = f"Basic {base64.b64encode(pair).decode()}"
        else:
            raise _NoCredentials(f"The Secret {secret.name} has no token, and no username with a password.")
        if not header.isascii() or not header.isprintable():
            raise _NoCredentials(f"The token in the Secret {secret.name} has characters that cannot be sent.")
        return header

    def _conditions(
        self, image: Image, record: Record | None, there: bool, received: int, fetching: tuple[str, str] | None
    ) -> list[Condition]:
        def condition(type_: str, status: ConditionStatus | bool, reason: str, message: str = "") -> Condition:
            return condition_of(image, type_, status, reason, message, clock=self._context.clock)

        if record is not None and there:
            return [condition(UPLOADED, True, "ContentFound"), condition(ACCEPTED, True, "Inspected")]
        if fetching is not None:
            waits = "Content is inspected when all of it has come."
            return [
                condition(UPLOADED, False, *fetching),
                condition(ACCEPTED, ConditionStatus.UNKNOWN, "NotUploaded", waits),
            ]
        # Without -p it would become a public image of that name.
        where = f" -p {image.metadata.project}" if image.metadata.project else ""
        upload = f"Upload it with 'vcctl image upload {image.metadata.name} --file FILE{where}'."
        if record is not None and record.refusal and not received:
            again = "Make another image." if image.spec.source else upload
            return [
                condition(UPLOADED, False, "Refused", f"The content was refused and removed. {again}"),
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
    # Waited for, so that it is known whose an image is from the first one on; their changes concern none.
    tree: dict[type[AnyResource], Any] = dict.fromkeys((Domain, Project), lambda _: ())
    return context.controller(ImageReconciler(context), Image, watches={**tree, **watch_users(context, Image)})
