"""A host's lists, which are asked for at every request of an agent, do not decode all objects of the cloud."""

import pytest

from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.specs.kinds.host import Host, HostSpec
from vcstack.specs.kinds.instance import Instance
from vcstack.specs.registry import definition_of
from vcstack.store.actor import Actor
from vcstack.store.selection import parse_selection
from vcstack.store.store import Store

ADMIN = Actor("admin", "tests")


@pytest.mark.parametrize(
    ("fields", "needle"),
    [
        ("status.host=h1", b"h1"),
        ("status.host!=h1", b""),
        ("status.host=", b""),
        ("", b""),
        ("spec.powerState=Running", b""),
        ("spec.flavor=true", b""),
        ("spec.flavor=tiny,status.host=h1", b"tiny"),
    ],
)
def test_only_a_plain_value_that_must_be_there_is_looked_for_as_text(fields: str, needle: bytes) -> None:
    assert parse_selection(definition_of(Instance), None, "", fields).needle == needle


async def test_text_that_merely_contains_the_value_does_not_match() -> None:
    async with Store(MemoryEtcd()) as store:
        client = store.bound(ADMIN)
        for name, zone in (("one", "east"), ("two", "northeast"), ("east", None), ("three", None)):
            await client.create(Host.new(name, HostSpec(zone=zone)))
        found = await client.list(Host, fields="spec.zone=east")
        assert [h.metadata.name for h in found.items] == ["one"]
        others = await client.list(Host, fields="spec.zone!=east")
        assert sorted(h.metadata.name for h in others.items) == ["east", "three", "two"]
        pages = await store.list(definition_of(Host), field_selector="spec.zone=northeast", limit=1)
        assert len(pages.items) == 1
