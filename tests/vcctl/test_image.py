"""image upload."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.vcctl.harness import Hands, Vcctl
from vcstack.specs.kinds.image import Image
from vcstack.vcctl.errors import ExitCode


def make_disk(file: Path, size: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(file), size], check=True)
    return file


def digest_of(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "disk.qcow2", "16M")


@pytest.fixture
def other_disk(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "other.qcow2", "32M")


async def test_a_file_becomes_an_image(vcctl: Vcctl, hands: Hands, disk: Path) -> None:
    out = await vcctl.ok("image", "upload", "tiny", "--file", str(disk), "--no-wait")
    assert "image/tiny uploaded" in out
    image = await hands.get(Image, "tiny", None)
    assert image.spec.format == "QCOW2"
    assert image.spec.digest == digest_of(disk)
    assert image.status.received_bytes == image.spec.size_bytes


async def test_uploading_the_same_again_changes_nothing(vcctl: Vcctl, hands: Hands, disk: Path) -> None:
    await vcctl.ok("image", "upload", "tiny", "--file", str(disk), "--no-wait")
    await hands.observe_all()
    assert "there already" in await vcctl.ok("image", "upload", "tiny", "--file", str(disk), "--no-wait")


async def test_another_content_under_the_same_name_is_refused(vcctl: Vcctl, disk: Path, other_disk: Path) -> None:
    await vcctl.ok("image", "upload", "tiny", "--file", str(disk), "--no-wait")
    ended = await vcctl("image", "upload", "tiny", "--file", str(other_disk))
    assert ended.code == ExitCode.REFUSED
    assert "another name" in ended.err


async def test_a_content_that_is_not_of_the_format_is_refused(vcctl: Vcctl, disk: Path) -> None:
    ended = await vcctl("image", "upload", "tiny", "--file", str(disk), "--format", "raw")
    assert ended.code == ExitCode.REFUSED


async def test_an_image_of_a_project_is_made_there(vcctl: Vcctl, hands: Hands, disk: Path) -> None:
    await vcctl.ok("apply", "-f", "-", stdin="kind: Project\nmetadata: {name: demo}\nspec: {}\n")
    await vcctl.ok("image", "upload", "mine", "--file", str(disk), "-p", "demo", "--no-wait")
    assert (await hands.get(Image, "mine", "demo")).metadata.project == "demo"
    assert "mine" in await vcctl.ok("get", "images")


async def test_files_and_formats_that_do_not_fit_are_said_so(vcctl: Vcctl, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "x").write_text("x")
    assert "cannot read" in (await vcctl("image", "upload", "x", "--file", "/nowhere")).err
    assert "is empty" in (await vcctl("image", "upload", "x", "--file", str(tmp_path / "empty"))).err
    ended = await vcctl("image", "upload", "x", "--file", str(tmp_path / "x"), "--format", "vmdk")
    assert "qcow2 and raw" in ended.err
