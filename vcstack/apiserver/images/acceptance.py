"""The last step of every way that content comes by: checked against what was declared, inspected, kept or refused."""

import asyncio
from pathlib import Path

from vcstack.apiserver.images.files import ImageFiles, ImageRecord, Upload, hash_file
from vcstack.apiserver.images.inspection import Refused, inspect
from vcstack.specs.kinds.image import Image
from vcstack.specs.settings import IMAGES_MAX_VIRTUAL_SIZE, SettingReader

GIB = 1024**3


async def accept_or_refuse(
    files: ImageFiles, settings: SettingReader, image: Image, upload: Upload, total: int
) -> None:
    """Turn an upload that has come whole into the image's content.

    Raises:
        Refused: it is not what was declared, or not harmless. It has been removed, and it is noted why.
        Unavailable: it could not be inspected.
    """
    try:
        digest = await _check_digest(image, upload.part)
        most = settings.number(IMAGES_MAX_VIRTUAL_SIZE, project=image.metadata.project) * GIB
        inspected = await inspect(upload.part, image.spec.format, max_virtual_size_bytes=most)
    except Refused as error:
        await asyncio.to_thread(files.refuse, image.uid, str(error))
        raise
    record = ImageRecord(digest=digest, size_bytes=total, virtual_size_bytes=inspected.virtual_size_bytes)
    await asyncio.to_thread(files.accept, image.uid, upload, record)


async def _check_digest(image: Image, part: Path) -> str:
    digest = await asyncio.to_thread(hash_file, part)
    if image.spec.digest is not None and image.spec.digest != digest:
        raise Refused(f"The content's digest is {digest}, not {image.spec.digest} as declared; upload it again.")
    return digest
