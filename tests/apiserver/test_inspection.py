# ruff: noqa: ASYNC240 (blocking file access is fine here)
"""Content is what it is declared to be and harmless, or it is refused, before any tool opens it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures import images
from vcstack.apiserver.images.inspection import Refused, inspect
from vcstack.apiserver.images.sandbox import build_command, run_confined
from vcstack.specs.kinds.image import ImageFormat

GIB = 1 << 30
LIMIT = 100 * GIB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that nobody may enter from above but may read in, as the image directory is."""
    tmp_path.chmod(0o755)
    return tmp_path


async def check(path: Path, declared: ImageFormat = ImageFormat.QCOW2, limit: int = LIMIT) -> int:
    path.chmod(0o644)
    return (await inspect(path, declared, max_virtual_size_bytes=limit)).virtual_size_bytes


async def test_a_good_qcow2_is_accepted_with_its_virtual_size(folder: Path) -> None:
    assert await check(images.make_qcow2(folder)) == 8 << 20


@pytest.mark.parametrize(
    "content", [b"\0" * 4096, b"x", b"plain text " * 1000, b"\xeb" * 510 + b"\x55\xaa" + b"\0" * 4096]
)
async def test_any_bytes_are_a_raw_image(folder: Path, content: bytes) -> None:
    path = folder / "disk.raw"
    path.write_bytes(content)
    assert await check(path, ImageFormat.RAW) == len(content)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (images.make_with_backing_file, "backing"),
        (images.make_with_data_file, "data"),
        (images.make_with_unknown_feature, "feature"),
        (images.make_encrypted, "encrypted"),
        (images.make_vmdk, "vmdk"),
        (images.make_truncated, "cut off"),
        (images.make_huge, "smaller"),
    ],
)
async def test_a_dangerous_image_is_refused_with_a_sentence(
    folder: Path, make: Callable[[Path], Path], says: str
) -> None:
    with pytest.raises(Refused) as refused:
        await check(make(folder))
    assert says in str(refused.value)
    assert str(folder) not in str(refused.value)


@pytest.mark.parametrize("make", [images.make_qcow2, images.make_vmdk, images.make_with_backing_file])
async def test_what_has_a_format_is_no_raw_image(folder: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(Refused, match="declared as Raw"):
        await check(make(folder), ImageFormat.RAW)


@pytest.mark.parametrize("content", [b"", b"QFI\xfb", b"QFI\xfb\0\0\0\x03", b"QFI\xfb" + b"\xff" * 600, b"hello"])
async def test_the_beginning_of_a_qcow2_is_none(folder: Path, content: bytes) -> None:
    path = folder / "disk.qcow2"
    path.write_bytes(content)
    with pytest.raises(Refused):
        await check(path)


async def test_a_backing_file_is_refused_before_qemu_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = images.make_with_backing_file(folder)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Refused, match="backing"):
        await check(path)


async def test_a_confined_tool_has_no_network_and_no_rights(folder: Path) -> None:
    outcome = await run_confined("sh", "-c", "cat /proc/net/dev; id -u; grep CapEff /proc/self/status", folder=folder)
    assert outcome.code == 0, outcome.errors
    text = outcome.output.decode()
    assert [line.split(":")[0].strip() for line in text.splitlines() if ":" in line and "|" not in line][:1] == ["lo"]
    assert "eth0" not in text
    if os.geteuid() == 0:
        assert "65534" in text
        assert "CapEff:\t0000000000000000" in text


async def test_a_confined_tool_writes_nothing(folder: Path) -> None:
    folder.chmod(0o777)
    outcome = await run_confined("sh", "-c", "echo stolen > here", folder=folder)
    assert outcome.code != 0
    assert not (folder / "here").exists() or not (folder / "here").read_bytes()


async def test_a_confined_tool_that_talks_too_much_is_read_to_its_end(folder: Path) -> None:
    outcome = await run_confined("sh", "-c", "head -c 5000000 /dev/zero", folder=folder)
    assert outcome.code == 0
    assert len(outcome.output) == 1 << 20


async def test_a_confined_tool_cannot_take_all_memory(folder: Path) -> None:
    outcome = await run_confined("python3", "-c", "x = bytearray(3 << 30)", folder=folder)
    assert outcome.code != 0


def test_the_limits_stand_on_the_command_line() -> None:
    assert {"--fsize=0", "--core=0"} <= set(build_command("true"))
