"""Images with a source: fetched, checked like uploads, with credentials that go to the named origin only."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.world import PROJECT, World
from tests.kinds.identities import make_domain, make_project
from tests.outbound.server import Server, client_of, ok, redirect, running
from vcstack.apiserver.images.files import ImageFiles
from vcstack.apiserver.images.importing import AT_ONCE, FIRST_RETRY_SECONDS, ImageImports
from vcstack.controllers import image
from vcstack.controllers.backends.secrets import SECRETS
from vcstack.controllers.image import CONTENTS, FETCHING_SECONDS, IMPORTS
from vcstack.runtime.places import Holder
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.image import UPLOADED, Image, ImageSpec
from vcstack.specs.kinds.secret import Secret, SecretSpec, SecretType
from vcstack.specs.kinds.setting import Setting, SettingSpec
from vcstack.specs.resource import Ref
from vcstack.store.secretvalues import SecretValues

CONTENT = bytes(512) * 2048
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
PATIENCE = 60


class Cloud:
    """A project, a source, and what fetches from it."""

    def __init__(self, world: World, source: Server, files: ImageFiles, imports: ImageImports) -> None:
        self.world, self.source, self.files, self.imports = world, source, files, imports

    async def make(self, name: str = "disk", project: str | None = PROJECT, **spec: Any) -> Image:
        source = {"url": self.source.url(path="/disk.raw"), **spec.pop("source", {})}
        wire = {"format": "Raw", "source": source, **spec}
        return await self.world.admin.create(Image.new(name, ImageSpec.from_wire(wire), project=project))

    async def secret(self, type_: SecretType = SecretType.OPAQUE, **data: str) -> None:
        await self.world.admin.create(Secret.new("registry", SecretSpec(type=type_, data=data), project=PROJECT))

    async def settle(self) -> None:
        """Let everything that can be fetched be fetched, and be looked at."""
        for _ in range(3):
            await self.world.settle(image.build)
            async with asyncio.timeout(PATIENCE):
                while self.imports.running:
                    await asyncio.sleep(0.01)
            self.world.clock.skip(FETCHING_SECONDS)

    async def find(self, name: str = "disk", project: str | None = PROJECT) -> Image:
        return await self.world.admin.get(Image, name, project)

    async def state(self, name: str = "disk", project: str | None = PROJECT) -> tuple[str, str]:
        condition = (await self.find(name, project)).find_condition(UPLOADED)
        assert condition is not None
        return condition.reason, condition.message

    def header(self, n: int, name: str) -> str | None:
        """Return what the n-th request said."""
        for line in self.source.requests[n].decode().split("\r\n"):
            found, _, value = line.partition(": ")
            if found.lower() == name:
                return value
        return None


@pytest.fixture
async def cloud(world: World, tmp_path: Path) -> AsyncIterator[Cloud]:
    files = ImageFiles(tmp_path / "images")
    files.prepare()
    async with running(tmp_path) as source:
        source.answer = lambda request: ok(CONTENT)
        outbound = client_of(source, tmp_path)
        imports = ImageImports(files, outbound, world.store.cache.setting_book, world.clock)
        world.backends |= {CONTENTS.name: files, IMPORTS.name: imports, SECRETS.name: SecretValues(world.store)}
        await make_project(world)
        yield Cloud(world, source, files, imports)
        await imports.close()
        outbound.close()


async def test_content_is_fetched_once_checked_and_kept(cloud: Cloud) -> None:
    made = await cloud.make(digest=DIGEST, sizeBytes=len(CONTENT))
    await cloud.settle()
    found = await cloud.find()
    assert found.is_true("Ready"), found.status
    assert (found.status.digest, found.status.size_bytes) == (DIGEST, len(CONTENT))
    assert cloud.files.has_content(made.uid)
    assert cloud.header(0, "authorization") is None
    await cloud.settle()
    assert len(cloud.source.requests) == 1


@pytest.mark.parametrize(
    ("type_", "data", "header"),
    [
        (SecretType.OPAQUE, {"token": "t0ken\n"}, "Bearer t0ken"),
        (
            SecretType.BASIC_AUTH,
            {"username": "us", "password": "pässword"},
            "Basic " + base64.b64encode("us:pässword".encode()).decode(),
        ),
    ],
)
async def test_credentials_are_those_of_the_secret_and_stand_nowhere_else(
    cloud: Cloud, type_: SecretType, data: dict[str, str], header: str, caplog: pytest.LogCaptureFixture
) -> None:
    await cloud.secret(type_, **data)
    await cloud.make(source={"secret": {"name": "registry"}})
    await cloud.settle()
    found = await cloud.find()
    assert found.is_true("Ready"), found.status
    assert cloud.header(0, "authorization") == header
    secret = next(reversed(data.values())).strip()
    assert secret not in found.to_json().decode()
    assert all(secret.encode() not in value for value in cloud.world.etcd.snapshot().values())


async def test_credentials_never_follow_a_redirect_to_another_origin(cloud: Cloud) -> None:
    await cloud.secret(token="t0ken")

    def answer(request: bytes) -> bytes:
        if b"/disk.raw" in request:
            return redirect("/moved")
        return redirect(cloud.source.url("other.example", "/there")) if b"/moved" in request else ok(CONTENT)

    cloud.source.answer = answer
    await cloud.make(source={"secret": {"name": "registry"}})
    await cloud.settle()
    assert (await cloud.find()).is_true("Ready")
    paths = [request.split(b" ")[1].decode() for request in cloud.source.requests]
    assert paths == ["/disk.raw", "/moved", "/there"]
    assert [cloud.header(n, "authorization") for n in range(3)] == ["Bearer t0ken", "Bearer t0ken", None]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"digest": "sha256:" + "0" * 64}, f"digest is {DIGEST}"),
        ({"sizeBytes": 5}, "not 5 as declared"),
        ({"format": "QCOW2"}, "QCOW2"),
    ],
)
async def test_what_is_not_as_declared_is_refused_and_not_fetched_again(
    cloud: Cloud, wanted: dict[str, Any], text: str
) -> None:
    made = await cloud.make(**wanted)
    await cloud.settle()
    reason, message = await cloud.state()
    assert (reason, message) == ("Refused", "The content was refused and removed. Make another image.")
    accepted = (await cloud.find()).find_condition("Accepted")
    assert accepted is not None
    assert text.lower() in accepted.message.lower()
    assert not cloud.files.has_content(made.uid)
    cloud.world.clock.skip(3600)
    await cloud.settle()
    assert len(cloud.source.requests) == 1


async def test_a_source_that_does_not_work_is_told_and_tried_again_later(cloud: Cloud) -> None:
    cloud.source.answer = lambda request: b"HTTP/1.1 403 No\r\nContent-Length: 8\r\n\r\ninternal"
    made = await cloud.make()
    await cloud.settle()
    assert await cloud.state() == ("DownloadFailed", "It is tried again: provider.example answers 403.")
    tried = len(cloud.source.requests)
    await cloud.world.settle(image.build)
    assert len(cloud.source.requests) == tried
    # Cut off in the middle: nothing of it stays.
    cloud.source.answer = lambda request: ok(CONTENT)[:-100]
    cloud.world.clock.skip(16 * FIRST_RETRY_SECONDS)
    await cloud.settle()
    assert len(cloud.source.requests) > tried
    assert cloud.files.get_received_bytes(made.uid) == 0
    cloud.source.answer = lambda request: ok(CONTENT)
    cloud.world.clock.skip(64 * FIRST_RETRY_SECONDS)
    await cloud.settle()
    assert (await cloud.find()).is_true("Ready")


async def test_more_than_an_image_may_have_is_cut_off(cloud: Cloud) -> None:
    setting = SettingSpec(setting="images.maxSizeGiB", value=1)
    await cloud.world.admin.create(Setting.new("small", setting, project=PROJECT))
    cloud.source.answer = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 1073741825\r\n\r\n" + CONTENT
    await cloud.make()
    await cloud.settle()
    assert "larger than 1073741824 bytes" in (await cloud.state())[1]


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/x", "https://169.254.169.254/latest", "https://[::1]/", "https://2130706433/"]
)
async def test_an_address_inside_is_not_reached(cloud: Cloud, url: str) -> None:
    await cloud.make(source={"url": url})
    await cloud.settle()
    reason, message = await cloud.state()
    assert reason == "DownloadFailed"
    assert "private" not in message


async def test_a_redirect_inside_is_not_followed(cloud: Cloud) -> None:
    cloud.source.answer = lambda request: redirect("https://10.0.0.1/x")
    await cloud.make()
    await cloud.settle()
    assert (await cloud.state())[0] == "DownloadFailed"


async def test_a_secret_that_is_no_use_is_told(cloud: Cloud) -> None:
    await cloud.secret(other="x")
    await cloud.make(source={"secret": {"name": "registry"}})
    await cloud.settle()
    assert await cloud.state() == (
        "SecretNotUsable",
        "The Secret registry has no token, and no username with a password.",
    )
    assert cloud.source.requests == []


async def test_killed_in_the_middle_it_begins_anew(cloud: Cloud) -> None:
    made = await cloud.make()
    with cloud.files.locked_upload(made.uid) as upload:
        cloud.files.append(upload, b"what came before")
    await cloud.settle()
    found = await cloud.find()
    assert found.is_true("Ready"), found.status
    assert found.status.digest == DIGEST


async def test_one_project_fetches_a_few_at_once_and_others_go_on(cloud: Cloud) -> None:
    cloud.source.silent = True
    for n in range(3):
        await cloud.make(f"slow-{n}")
    await cloud.world.settle(image.build)
    reasons = [(await cloud.state(f"slow-{n}"))[0] for n in range(3)]
    assert sorted(reasons) == ["Downloading", "Downloading", "Waiting"]
    await cloud.make("public", None)
    await cloud.world.settle(image.build)
    assert (await cloud.state("public", None))[0] == "Downloading"


async def test_a_domain_with_many_projects_leaves_places_to_others(cloud: Cloud) -> None:
    cloud.source.silent = True
    await make_domain(cloud.world, "acme")
    await make_domain(cloud.world, "acme-shops", "acme")
    projects = [f"acme-{n}" for n in range(AT_ONCE)]
    for n, project in enumerate(projects):
        await make_project(cloud.world, project, domain="acme-shops" if n % 2 else "acme")
        await cloud.make("slow", project)
    await cloud.world.settle(image.build)
    reasons = [(await cloud.state("slow", project))[0] for project in projects]
    assert sorted(reasons) == ["Downloading"] * (AT_ONCE // 2) + ["Waiting"] * (AT_ONCE // 2)
    await cloud.make("mine")
    await cloud.world.settle(image.build)
    assert (await cloud.state("mine"))[0] == "Downloading"


async def test_an_image_that_goes_before_its_download_began_gives_its_place_back(cloud: Cloud) -> None:
    made = await cloud.make()
    assert cloud.imports.ensure(made, "", Holder(("project", PROJECT), PROJECT))
    cloud.imports.forget(made.uid)
    async with asyncio.timeout(PATIENCE):
        while cloud.imports.running:
            await asyncio.sleep(0.01)
    assert cloud.source.requests == []


async def test_an_image_that_goes_stops_its_download(cloud: Cloud) -> None:
    cloud.source.silent = True
    made = await cloud.make()
    await cloud.world.settle(image.build)
    await cloud.world.admin.delete(Ref(Image.KIND, PROJECT, "disk"))
    await cloud.world.settle(image.build)
    async with asyncio.timeout(PATIENCE):
        while cloud.imports.running:
            await asyncio.sleep(0.01)
    assert cloud.files.get_received_bytes(made.uid) == 0
    assert made.uid not in {i.uid for i in (await cloud.world.admin.list(Image)).items}


@pytest.mark.parametrize(
    ("project", "spec", "field"),
    [
        (PROJECT, {"source": {"url": "http://a.example/x"}}, "spec.digest"),
        (PROJECT, {"source": {"url": "http://a.example/x", "secret": {"name": "registry"}}}, "spec.source.secret"),
        (PROJECT, {"source": {"secret": {"name": "nowhere"}}}, "spec.source.secret.name"),
        (PROJECT, {"source": {"secret": {"project": "other", "name": "registry"}}}, "spec.source.secret.project"),
        (None, {"source": {"secret": {"name": "registry"}}}, "spec.source.secret.project"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    cloud: Cloud, project: str | None, spec: dict[str, Any], field: str
) -> None:
    await cloud.secret(token="x")
    with pytest.raises(Invalid) as error:
        await cloud.make(project=project, **spec)
    assert field in [c.field for c in error.value.causes]
