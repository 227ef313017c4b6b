"""The examples and the manifests in the documentation are accepted as they stand."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.applying.manifests import Manifest, recognize
from vcstack.applying.sets import in_waves
from vcstack.specs.kinds.image import ImageFormat, ImageSpec
from vcstack.specs.manifest import load_documents
from vcstack.specs.registry import Scope, get_kind
from vcstack.store.actor import Actor
from vcstack.store.store import Store

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
ADMIN = Actor("admin", "vcctl")


def manifests() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        yield str(path.relative_to(ROOT)), path.read_text()
    for page in sorted(PAGES):
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            yield f"{page.relative_to(ROOT)}#{number}", block


async def apply(store: Store, document: dict[str, Any]) -> None:
    definition = get_kind(document["kind"])
    wire = dict(recognize(document, "", lambda _: "demo").wire)
    meta = wire["metadata"]
    project = None if definition.scope is Scope.GLOBAL else meta.get("project")
    await store.apply(definition, project, meta["name"], wire, actor=ADMIN)


async def test_all_examples_apply_and_applying_them_again_writes_nothing(
    memory_store: Store, memory_etcd: MemoryEtcd
) -> None:
    image = get_kind("Image").model.new("tiny", ImageSpec(format=ImageFormat.QCOW2))
    await memory_store.create(get_kind("Image"), image.to_wire(), actor=ADMIN)
    found = [d for source, text in manifests() for d in load_documents(text, source=source)]
    assert len(found) > 10
    for wave in in_waves([Manifest(get_kind(document["kind"]), document, "") for document in found]):
        for manifest in wave:
            await apply(memory_store, dict(manifest.wire))
    before = await memory_etcd.current_revision()
    for document in found:
        await apply(memory_store, document)
    assert await memory_etcd.current_revision() == before


@pytest.mark.parametrize(("source", "text"), list(manifests()), ids=lambda v: v if len(v) < 80 else "")
def test_examples_carry_the_api_version(source: str, text: str) -> None:
    assert all(d.get("apiVersion") == "vcstack.io/v1" for d in load_documents(text, source=source))
