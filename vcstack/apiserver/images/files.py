"""Image content on disk: partial uploads, content by digest, and what is known of each image.

    DIR/uploads/UID.part        what has come of an upload; its length is the offset to go on from
    DIR/uploads/UID.json        the length that was announced
    DIR/sha256/ab/HEX           accepted content, by digest, never changed
    DIR/images/UID.json         which content an image has, or why its upload was refused

DIR is closed to other users (0700); content is world-readable below it, so that the sandboxed inspection can
read it as nobody. All of it may be shared by several processes: an upload is locked by its file.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from vcstack.specs.errors import Conflict, InternalError
from vcstack.specs.model import Model

M = TypeVar("M", bound=Model)


class ImageRecord(Model):
    """What is known of an image's content."""

    digest: str = ""
    """sha256:HEX of the accepted content; empty when it was refused."""
    size_bytes: int = 0
    """Its length in bytes."""
    virtual_size_bytes: int = 0
    """Size of the disk that it describes, in bytes."""
    refusal: str = ""
    """Why the upload was refused; a sentence."""


class _Announced(Model):
    total: int


@dataclass(frozen=True, slots=True)
class Upload:
    """An unfinished upload, locked while it is held."""

    part: Path
    received: int
    total: int | None
    """As announced with its first chunk; None: nothing came yet."""


class ImageFiles:
    """The image directory. All methods block: call them in a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the folders. Idempotent."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)
        for name in ("uploads", "sha256", "images"):
            (self.root / name).mkdir(exist_ok=True, mode=0o755)
            (self.root / name).chmod(0o755)

    def get_received_bytes(self, uid: str) -> int:
        """Return how much of an upload has come; 0 without one."""
        try:
            return self._part(uid).stat().st_size
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def locked_upload(self, uid: str) -> Iterator[Upload]:
        """Yield the upload, begun if there is none, while nobody else touches it.

        Raises:
            Conflict: another request is sending it.
        """
        descriptor = os.open(self._part(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("another upload of this image is going on; wait for its end") from None
            yield Upload(self._part(uid), os.fstat(descriptor).st_size, self._read_total(uid))
        finally:
            os.close(descriptor)

    def announce(self, uid: str, total: int) -> None:
        """Keep the length of the upload."""
        _write(self._announced(uid), _Announced(total=total).to_json())

    def append(self, upload: Upload, data: bytes) -> None:
        """Add to a locked upload."""
        with upload.part.open("ab") as out:
            out.write(data)

    def accept(self, uid: str, upload: Upload, record: ImageRecord) -> None:
        """Turn the upload into content, atomically, and note it for the image."""
        target = self.content_path(record.digest)
        target.parent.mkdir(exist_ok=True, mode=0o755)
        with upload.part.open("rb") as source:
            os.fsync(source.fileno())
        upload.part.chmod(0o444)
        with self._exclusively():
            os.replace(upload.part, target)
            _sync_folder(target.parent)
            _write(self._record(uid), record.to_json())
        self._announced(uid).unlink(missing_ok=True)

    def refuse(self, uid: str, sentence: str) -> None:
        """Remove the upload and note why."""
        self.forget_upload(uid)
        with self._exclusively():
            _write(self._record(uid), ImageRecord(refusal=sentence).to_json())

    def forget_upload(self, uid: str) -> None:
        """Remove what has come of an upload. Absent is success."""
        self._part(uid).unlink(missing_ok=True)
        self._announced(uid).unlink(missing_ok=True)

    def find_record(self, uid: str) -> ImageRecord | None:
        """Return what is known of the image's content, None when nothing was uploaded."""
        return _read(self._record(uid), ImageRecord)

    def find_content(self, record: ImageRecord) -> Path | None:
        """Return the accepted content if it is there in full length."""
        path = self.content_path(record.digest) if record.digest else None
        if path is None or not path.exists() or path.stat().st_size != record.size_bytes:
            return None
        return path

    def has_content(self, uid: str) -> bool:
        """Return whether the image's accepted content is there in full length."""
        record = self.find_record(uid)
        return record is not None and self.find_content(record) is not None

    def delete(self, uid: str) -> None:
        """Remove the image's content unless another image has the same. Absent is success."""
        with self._exclusively():
            record = self.find_record(uid)
            self.forget_upload(uid)
            self._record(uid).unlink(missing_ok=True)
            if record is not None and record.digest and not self._is_used(record.digest):
                self.content_path(record.digest).unlink(missing_ok=True)

    def content_path(self, digest: str) -> Path:
        """Return where content of that digest lies."""
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or not value.isalnum():
            raise InternalError(f"{digest!r} is no digest")
        return self.root / "sha256" / value[:2] / value

    def _is_used(self, digest: str) -> bool:
        records = (_read(path, ImageRecord) for path in (self.root / "images").glob("*.json"))
        return any(r is not None and r.digest == digest for r in records)

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        descriptor = os.open(self.root / "images", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read_total(self, uid: str) -> int | None:
        announced = _read(self._announced(uid), _Announced)
        return announced.total if announced else None

    def _part(self, uid: str) -> Path:
        return self.root / "uploads" / f"{uid}.part"

    def _announced(self, uid: str) -> Path:
        return self.root / "uploads" / f"{uid}.json"

    def _record(self, uid: str) -> Path:
        return self.root / "images" / f"{uid}.json"


def hash_file(path: Path) -> str:
    """Return sha256:HEX of the file."""
    with path.open("rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"


def _read(path: Path, model: type[M]) -> M | None:
    try:
        return model.from_wire(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    os.replace(fresh, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
