# ruff: noqa: ASYNC240 (blocking file access is fine here)
"""Uploads: chunked, resumed, checked; downloads: whole or in parts."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.api import SYSTEM, Api, create_samples, error_of
from tests.fixtures.etcd import eventually
from tests.fixtures.samples import sample
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.content import DigestMismatch, ImageContent
from vcstack.apiserver.images.files import ImageFiles
from vcstack.specs.errors import Conflict, Invalid, NotFound
from vcstack.specs.registry import get_kind

CONTENT = "/api/v1/images/tiny/content"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return images.make_qcow2(tmp_path)


@pytest.fixture
def content(admin: ApiClient) -> ImageContent:
    return ImageContent(admin.connection)


async def create(admin: ApiClient, **spec: object) -> str:
    wire = sample("Image")
    wire["spec"] |= spec
    uid: str = (await admin.create_wire(get_kind("Image"), wire))["metadata"]["uid"]
    return uid


async def test_an_upload_is_accepted_and_downloads_the_same(
    api: Api, admin: ApiClient, content: ImageContent, disk: Path, tmp_path: Path
) -> None:
    uid = await create(admin)
    seen: list[tuple[int, int]] = []
    await content.upload("tiny", disk, progress=lambda done, total: seen.append((done, total)))
    size = disk.stat().st_size
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    record = ImageFiles(api.image_dir).find_record(uid)
    assert record is not None
    assert record.digest == digest_of(disk.read_bytes())
    assert record.virtual_size_bytes == 8 << 20
    target = tmp_path / "copy"
    await content.download("tiny", target, digest=record.digest)
    assert target.read_bytes() == disk.read_bytes()


async def test_an_upload_goes_on_where_it_stopped(
    api: Api, admin: ApiClient, content: ImageContent, disk: Path
) -> None:
    await create(admin)
    data = disk.read_bytes()
    async with api.raw() as raw:
        half = await raw.put(CONTENT, content=data[:1000], headers={"content-range": f"bytes 0-999/{len(data)}"})
        assert half.status_code == 202
        assert half.headers["upload-offset"] == "1000"
    assert await content.get_received_bytes("tiny") == 1000
    seen: list[int] = []
    await content.upload("tiny", disk, progress=lambda done, total: seen.append(done))
    assert seen[0] == 1000


@pytest.mark.parametrize(
    ("range_", "code"),
    [
        ("bytes 5-9/100", 409),
        ("bytes 0-9/5", 400),
        ("bytes 9-0/100", 400),
        ("bytes x-y/z", 400),
        ("bytes 0-8/100", 400),
        ("bytes 0-10/100", 400),
        ("bytes 0-9/99999999999999", 413),
        ("bytes 0-99999999999/999999999999", 413),
        ("bytes */0", 422),
    ],
)
async def test_a_range_that_does_not_fit_is_refused(api: Api, admin: ApiClient, range_: str, code: int) -> None:
    await create(admin)
    async with api.raw() as raw:
        answer = await raw.put(CONTENT, content=b"0123456789", headers={"content-range": range_})
    assert answer.status_code == code, answer.text
    error_of(answer)


async def test_a_digest_that_differs_is_refused_and_nothing_is_kept(
    api: Api, admin: ApiClient, content: ImageContent, disk: Path
) -> None:
    uid = await create(admin, digest="sha256:" + "0" * 64)
    with pytest.raises(Invalid, match="digest"):
        await content.upload("tiny", disk)
    await assert_nothing_kept(api, uid)


async def test_a_size_that_differs_is_refused_with_the_first_chunk(
    api: Api, admin: ApiClient, content: ImageContent, disk: Path
) -> None:
    uid = await create(admin, sizeBytes=7)
    with pytest.raises(Invalid) as refused:
        await content.upload("tiny", disk)
    assert refused.value.causes[0].field == "spec.sizeBytes"
    await assert_nothing_kept(api, uid)


@pytest.mark.parametrize(
    "make",
    [
        images.make_with_backing_file,
        images.make_with_data_file,
        images.make_with_unknown_feature,
        images.make_truncated,
        images.make_vmdk,
        images.make_huge,
    ],
)
async def test_a_dangerous_upload_is_refused_and_nothing_is_kept(
    api: Api, admin: ApiClient, content: ImageContent, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    uid = await create(admin)
    with pytest.raises(Invalid) as refused:
        await content.upload("tiny", make(tmp_path))
    assert refused.value.causes[0].field == "content"
    await assert_nothing_kept(api, uid)
    with pytest.raises(NotFound):
        await content.download("tiny", tmp_path / "copy", digest="sha256:" + "0" * 64)


async def test_after_a_refusal_a_good_upload_is_accepted(
    api: Api, admin: ApiClient, content: ImageContent, tmp_path: Path, disk: Path
) -> None:
    uid = await create(admin)
    with pytest.raises(Invalid):
        await content.upload("tiny", images.make_huge(tmp_path))
    await content.upload("tiny", disk)
    assert ImageFiles(api.image_dir).has_content(uid)


async def test_content_never_changes(admin: ApiClient, content: ImageContent, disk: Path, tmp_path: Path) -> None:
    await create(admin)
    await content.upload("tiny", disk)
    await content.upload("tiny", disk)  # the same again is nothing
    with pytest.raises(Conflict, match="other content"):
        await content.upload("tiny", images.make_qcow2(tmp_path, "other.qcow2", data=b"other"))


async def test_nothing_is_uploaded_to_an_image_with_a_source(
    admin: ApiClient, content: ImageContent, disk: Path
) -> None:
    await create(admin, source={"url": "https://images.example.com/x"})
    with pytest.raises(Conflict, match=r"from https://images\.example\.com/x"):
        await content.upload("tiny", disk)


async def test_the_same_content_is_kept_once_and_until_its_last_image_goes(
    api: Api, admin: ApiClient, content: ImageContent, disk: Path
) -> None:
    first = await create(admin)
    second = (await admin.create_wire(get_kind("Image"), sample("Image", name="twin")))["metadata"]["uid"]
    for name in ("tiny", "twin"):
        await content.upload(name, disk)
    files = ImageFiles(api.image_dir)
    assert len(stored_files(api)) == 1
    files.delete(first)
    assert files.has_content(second)
    files.delete(second)
    assert stored_files(api) == []


async def test_a_download_resumes_and_checks_the_whole(
    admin: ApiClient, content: ImageContent, disk: Path, tmp_path: Path
) -> None:
    await create(admin)
    await content.upload("tiny", disk)
    data, target = disk.read_bytes(), tmp_path / "copy"
    partial = tmp_path / "copy.part"
    partial.write_bytes(data[:777])
    await content.download("tiny", target, digest=digest_of(data))
    assert target.read_bytes() == data
    partial.write_bytes(b"something else")
    with pytest.raises(DigestMismatch):
        await content.download("tiny", tmp_path / "copy", digest=digest_of(data))
    assert not partial.exists()


async def test_two_uploads_of_one_image_do_not_mix(api: Api, admin: ApiClient) -> None:
    uid = await create(admin)
    files = ImageFiles(api.image_dir)
    with files.locked_upload(uid):
        async with api.raw() as raw:
            answer = await raw.put(CONTENT, content=b"x", headers={"content-range": "bytes 0-0/9"})
    assert answer.status_code == 409


async def test_an_image_of_a_project_has_its_own_content(
    api: Api, admin: ApiClient, content: ImageContent, disk: Path
) -> None:
    await create_samples(api, "Project")
    await admin.create_wire(get_kind("Image"), sample("Image", project="demo"))
    await content.upload("tiny", disk, project="demo")
    assert await content.find_digest("tiny", project="demo") is not None
    with pytest.raises(NotFound):
        await content.find_digest("tiny")


async def test_a_host_downloads_what_its_instances_need_and_uploads_nothing(
    api: Api, admin: ApiClient, content: ImageContent, disk: Path, tmp_path: Path
) -> None:
    await create_samples(api)
    await content.upload("tiny", disk)
    digest = digest_of(disk.read_bytes())
    async with Connection(api.host_settings("h9")) as connection:
        mine = ImageContent(connection)
        with pytest.raises(Exception, match="may not"):
            await mine.download("tiny", tmp_path / "copy", digest=digest)
        await api.store.patch_status(get_kind("Instance"), "demo", "web-1", {"host": "h9"}, actor=SYSTEM)
        await mine.download("tiny", tmp_path / "copy", digest=digest)
        with pytest.raises(Exception, match="may not"):
            await connection.request("PUT", CONTENT, content=b"x", content_type="application/octet-stream")


async def test_an_upload_cut_in_the_middle_of_a_chunk_keeps_what_came(
    api: Api, admin: ApiClient, content: ImageContent, tmp_path: Path
) -> None:
    uid = await create(admin, format="Raw")
    disk, files = tmp_path / "disk.raw", ImageFiles(api.image_dir)
    disk.write_bytes(b"x" * (4 << 20))
    context = ssl.create_default_context(cafile=str(api.installation.ca_cert))
    _, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rsplit(":", 1)[1]), ssl=context)
    head = f"PUT {CONTENT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
    head += f"Content-Range: bytes 0-{(4 << 20) - 1}/{4 << 20}\r\nContent-Length: {4 << 20}\r\n\r\n"
    writer.write(head.encode() + b"x" * (3 << 20))
    await writer.drain()
    await eventually(lambda: files.get_received_bytes(uid) >= 1 << 20)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    await content.upload("tiny", disk)
    assert files.has_content(uid)


def stored_files(api: Api) -> list[Path]:
    return [p for p in (api.image_dir / "sha256").rglob("*") if p.is_file()]


async def assert_nothing_kept(api: Api, uid: str) -> None:
    assert stored_files(api) == []
    assert ImageFiles(api.image_dir).get_received_bytes(uid) == 0
