"""image upload: an image from a file, resumable, its digest checked on both sides."""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vcstack.apiclient.content import ImageContent
from vcstack.apiclient.content import Progress as ProgressReport
from vcstack.specs.columns import find_value, format_bytes
from vcstack.specs.errors import NotFound
from vcstack.specs.kinds.image import UPLOADED, Image, ImageFormat, ImageSpec
from vcstack.specs.registry import get_kind
from vcstack.vcctl.application import app, command
from vcstack.vcctl.arguments import INSTANCES, Timeout, Wait
from vcstack.vcctl.errors import CommandError, ExitCode
from vcstack.vcctl.reading import Wire
from vcstack.vcctl.session import MANAGER, Session
from vcstack.vcctl.waiting import Awaited, parse_duration, ready, wait_for

if TYPE_CHECKING:
    from rich.progress import Progress

QCOW2_MAGIC = b"QFI\xfb"
"""docs/interop/qcow2.txt of QEMU: the first four bytes."""
READ_BYTES = 4 * 1024 * 1024
UPLOADING = "uploading"
STEP_PERCENT = 25
"""Where there is no bar, a line is printed that often."""

image = typer.Typer(help="Upload images.", no_args_is_help=True)
app.add_typer(image, name="image", rich_help_panel=INSTANCES)


@command(
    "upload",
    panel=INSTANCES,
    within=image,
    examples="""
    vcctl image upload debian-12 --file debian-12-genericcloud-amd64.qcow2
    vcctl image upload mine --file disk.raw --format raw -p demo
    """,
)
async def upload(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The image's name.", show_default=False)],
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The content.", show_default=False)],
    format_: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="qcow2 or raw; default by the content.")
    ] = None,
    description: Annotated[str, typer.Option("--description", help="What it is.")] = "",
    min_memory_mib: Annotated[int, typer.Option("--min-memory-mib", min=0, help="The least an instance needs.")] = 0,
    wait: Wait = True,
    timeout: Timeout = "5m",
) -> None:
    """Make an image of a file: public, or with -p of a project.

    Interrupted, the same command goes on where it stopped. An image that is there already with the
    same content is left as it is.
    """
    seconds = parse_duration(timeout)
    meter = _Meter(session)
    size, head = await asyncio.to_thread(_look_at, file)
    kind = _parse_format(format_, head)
    if format_ is None and kind is ImageFormat.RAW:
        session.err.print(
            f"{escape(str(file))} is no qcow2, so it is taken as the raw bytes of a disk.", soft_wrap=True
        )
    digest = await asyncio.to_thread(_digest, file, size, meter)
    project = session.options.project
    wire = await _ensure_image(session, name, project, kind, digest, size, (description, min_memory_mib))
    if find_value(wire, f"status.conditions[{UPLOADED}].status") == "True":
        session.out.print(f"image/{escape(name)} is there already ({digest})", soft_wrap=True)
    else:
        with meter.measure(UPLOADING) as report:
            await ImageContent(session.client.connection).upload(name, file, project=project, progress=report)
        session.out.print(f"image/{escape(name)} uploaded ({format_bytes(size)}, {digest})", soft_wrap=True)
    if wait:
        awaited = Awaited(Image.KIND, project, name)
        await wait_for(session, [awaited], ready, timeout_seconds=seconds)
        session.out.print(f"image/{escape(name)} is Ready", soft_wrap=True)


def _look_at(file: Path) -> tuple[int, bytes]:
    """Return the file's size and its first bytes."""
    try:
        with file.open("rb") as source:
            size, head = file.stat().st_size, source.read(len(QCOW2_MAGIC))
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}", code=ExitCode.LOCAL) from error
    if not size:
        raise CommandError(f"{file} is empty", code=ExitCode.LOCAL)
    return size, head


def _parse_format(text: str | None, head: bytes) -> ImageFormat:
    if text is None:
        return ImageFormat.QCOW2 if head == QCOW2_MAGIC else ImageFormat.RAW
    found = next((f for f in ImageFormat if f.value.lower() == text.lower()), None)
    if found is None:
        raise CommandError(f"--format {text} is not known", hint="There are qcow2 and raw.")
    return found


def _digest(file: Path, size: int, meter: "_Meter") -> str:
    hasher, done = hashlib.sha256(), 0
    with file.open("rb") as source, meter.measure("hashing") as report:
        while block := source.read(READ_BYTES):
            hasher.update(block)
            done += len(block)
            report(done, size)
    return f"sha256:{hasher.hexdigest()}"


async def _ensure_image(
    session: Session,
    name: str,
    project: str | None,
    kind: ImageFormat,
    digest: str,
    size: int,
    more: tuple[str, int],
) -> Wire:
    """Return the Image object, made if there is none.

    Raises:
        CommandError: if there is one of another content.
    """
    definition = get_kind(Image.KIND)
    try:
        found = await session.client.get_wire(definition, name, project)
    except NotFound:
        extra = {k: v for k, v in zip(("description", "min_memory_mib"), more, strict=True) if v}
        spec = ImageSpec.model_validate({"format": kind, "digest": digest, "size_bytes": size, **extra})
        wire = Image.new(name, spec, project=project).to_wire()
        wire.pop("status")
        return await session.client.apply_wire(definition, wire, manager=MANAGER)
    declared = found["spec"].get("digest") or find_value(found, "status.digest")
    if declared not in (None, digest) or found["spec"].get("format") != kind:
        raise CommandError(
            f"image {name} exists with another content or format ({declared}); an image's content never changes",
            hint="Upload it under another name, or delete the image first.",
            code=ExitCode.REFUSED,
        )
    return found


class _Meter:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @contextlib.contextmanager
    def measure(self, what: str) -> Iterator[ProgressReport]:
        """Yield the function to report (bytes done, bytes in all) to."""
        if not self._session.err.is_terminal:
            yield self._tell_by_lines(what)
            return
        with _build_bar(self._session.err) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def _tell_by_lines(self, what: str) -> ProgressReport:
        told = -1

        def report(done: int, total: int) -> None:
            nonlocal told
            step = done * 100 // max(total, 1) // STEP_PERCENT
            if step > told and what == UPLOADING:
                told = step
                self._session.err.print(f"{what} {format_bytes(done)} of {format_bytes(total)}", soft_wrap=True)

        return report


def _build_bar(console: Console) -> "Progress":
    # Imported when needed: it takes a tenth of a second, which every start of vcctl would feel.
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
    )
