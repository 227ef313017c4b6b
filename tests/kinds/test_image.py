"""Images: status says what is stored, content goes with its last image, and images stay while used."""

from pathlib import Path

import pytest

from tests.fakes.world import World
from vcstack.apiserver.images.files import ImageFiles, ImageRecord, hash_file
from vcstack.apiserver.images.importing import ImageImports
from vcstack.controllers import image
from vcstack.controllers.backends.secrets import SECRETS
from vcstack.controllers.image import CONTENTS, IMPORTS
from vcstack.outbound.client import OutboundClient
from vcstack.runtime.users import DELETABLE
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.image import ACCEPTED, UPLOADED, Image, ImageFormat, ImageSpec
from vcstack.store.secretvalues import SecretValues

CONTENT = b"a disk " * 1000


@pytest.fixture
def files(world: World, tmp_path: Path) -> ImageFiles:
    found = ImageFiles(tmp_path / "images")
    found.prepare()
    world.backends[CONTENTS.name] = found
    outbound = OutboundClient()  # asked for nothing: no image here has a source
    world.backends[IMPORTS.name] = ImageImports(found, outbound, world.store.cache.setting_book, world.clock)
    world.backends[SECRETS.name] = SecretValues(world.store)
    return found


def store(files: ImageFiles, uid: str, content: bytes = CONTENT) -> str:
    """Put accepted content there as the API server does and return its digest."""
    with files.locked_upload(uid) as upload:
        files.append(upload, content)
        record = ImageRecord(digest=hash_file(upload.part), size_bytes=len(content), virtual_size_bytes=1 << 20)
        files.accept(uid, upload, record)
    return record.digest


async def create(world: World, name: str = "cirros") -> Image:
    return await world.create(Image.new(name, ImageSpec(format=ImageFormat.RAW)))


async def exists(world: World, name: str) -> bool:
    return name in {i.metadata.name for i in (await world.admin.list(Image)).items}


async def test_without_content_it_says_what_to_do(world: World, files: ImageFiles) -> None:
    await create(world)
    await world.settle(image.build)
    found = await world.admin.get(Image, "cirros")
    uploaded = found.find_condition(UPLOADED)
    assert uploaded is not None
    assert uploaded.reason == "NoContent"
    assert "vcctl image upload cirros --file FILE'" in uploaded.message
    assert not found.is_true("Ready")


async def test_content_for_a_projects_image_is_not_to_become_a_public_one(world: World, files: ImageFiles) -> None:
    await world.create_basics()
    await world.create(Image.new("mine", ImageSpec(format=ImageFormat.RAW), project="demo"))
    await world.settle(image.build)
    uploaded = (await world.admin.get(Image, "mine", "demo")).find_condition(UPLOADED)
    assert uploaded is not None
    assert "vcctl image upload mine --file FILE -p demo'" in uploaded.message


async def test_accepted_content_makes_it_ready(world: World, files: ImageFiles) -> None:
    made = await create(world)
    digest = store(files, made.uid)
    await world.settle(image.build)
    found = await world.admin.get(Image, "cirros")
    assert found.is_true("Ready")
    assert (found.status.digest, found.status.size_bytes) == (digest, len(CONTENT))
    assert found.status.virtual_size_bytes == 1 << 20


async def test_a_second_run_writes_nothing(world: World, files: ImageFiles) -> None:
    made = await create(world)
    store(files, made.uid)
    await world.settle(image.build)
    assert await world.writes_of(image.build) == 0


async def test_an_upload_under_way_shows_how_much_has_come(world: World, files: ImageFiles) -> None:
    made = await create(world)
    with files.locked_upload(made.uid) as upload:
        files.append(upload, b"x" * 100)
    await world.settle(image.build)
    found = await world.admin.get(Image, "cirros")
    uploaded = found.find_condition(UPLOADED)
    assert uploaded is not None
    assert (uploaded.reason, found.status.received_bytes) == ("Uploading", 100)


async def test_a_refused_upload_is_told_with_its_reason(world: World, files: ImageFiles) -> None:
    made = await create(world)
    files.refuse(made.uid, "The image has a backing file.")
    await world.settle(image.build)
    accepted = (await world.admin.get(Image, "cirros")).find_condition(ACCEPTED)
    assert accepted is not None
    assert (accepted.reason, accepted.message) == ("Refused", "The image has a backing file.")


async def test_lost_content_is_reported_and_comes_back(world: World, files: ImageFiles) -> None:
    made = await create(world)
    digest = store(files, made.uid)
    await world.settle(image.build)
    path = files.content_path(digest)
    path.rename(path.with_suffix(".away"))
    await world.settle(image.build)
    lost = await world.admin.get(Image, "cirros")
    assert not lost.is_true(UPLOADED)
    condition = lost.find_condition(UPLOADED)
    assert condition is not None
    assert condition.reason == "ContentLost"
    path.with_suffix(".away").rename(path)
    await world.settle(image.build)
    assert (await world.admin.get(Image, "cirros")).is_true("Ready")


async def test_content_goes_with_its_last_image(world: World, files: ImageFiles) -> None:
    one, two = await create(world, "one"), await create(world, "two")
    digest = store(files, one.uid)
    store(files, two.uid)
    await world.settle(image.build)
    await world.delete(one)
    await world.settle(image.build)
    assert not await exists(world, "one")
    assert files.content_path(digest).exists()
    await world.delete(two)
    await world.settle(image.build)
    assert not await exists(world, "two")
    assert not files.content_path(digest).exists()


async def test_finalizing_twice_succeeds(world: World, files: ImageFiles) -> None:
    made = await create(world)
    store(files, made.uid)
    files.delete(made.uid)
    await world.delete(made)
    await world.settle(image.build)
    assert not await exists(world, "cirros")


async def test_a_used_image_stays_and_names_its_users(world: World, files: ImageFiles) -> None:
    await world.create_basics()
    await world.create_instance("web-1")
    used = await world.admin.get(Image, "tiny")
    await world.delete(used)
    await world.settle(image.build)
    held = (await world.admin.get(Image, "tiny")).find_condition(DELETABLE)
    assert held is not None
    assert "Instance demo/web-1" in held.message


async def test_its_format_cannot_be_changed(world: World, files: ImageFiles) -> None:
    made = await create(world)
    made.spec.format = ImageFormat.QCOW2
    with pytest.raises(Invalid) as refused:
        await world.admin.update(made)
    assert refused.value.causes[0].field == "spec.format"
