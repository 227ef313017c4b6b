"""/api/v1/kinds: what programs learn of the kinds at run time."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.fixtures.api import Api, error_of
from vcstack.apiserver.kindroutes import describe_fully
from vcstack.specs.columns import find_value
from vcstack.specs.registry import KindDefinition, load_kinds

ALL = sorted(load_kinds().values(), key=lambda d: d.plural)


def walk(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from walk(child)
    elif isinstance(value, list):
        for child in value:
            yield from walk(child)


async def test_all_kinds_are_listed_with_columns_and_what_can_be_done(api: Api) -> None:
    async with api.raw() as client:
        found = {k["plural"]: k for k in (await client.get("/api/v1/kinds")).json()["items"]}
    assert set(found) == {d.plural for d in ALL}
    instances, events, sessions = found["instances"], found["events"], found["sessions"]
    assert instances["columns"][0] == {"name": "NAME", "jsonPath": "metadata.name", "type": "string", "priority": 0}
    assert "vm" in instances["shortNames"]
    assert instances["verbs"] == ["get", "list", "watch", "create", "update", "delete"]
    assert events["verbs"] == ["get", "list", "watch"]
    assert sessions["verbs"] == ["get", "list", "watch", "delete"]
    assert {"history", "log", "console"} <= set(instances["subresources"])


async def test_a_kind_says_what_its_fields_mean_take_and_refer_to(api: Api) -> None:
    async with api.raw() as client:
        found = (await client.get("/api/v1/kinds/instances")).json()
    spec = found["schema"]["$defs"]["InstanceSpec"]["properties"]
    assert (spec["flavor"]["x-vcstack-takes"], spec["flavor"]["x-vcstack-refers-to"]) == ("Reboot", "Flavor")
    assert spec["image"]["x-vcstack-takes"] == "Recreate"
    assert spec["flavor"]["description"] == "Its size."
    assert found["example"]["kind"] == "Instance"


@pytest.mark.parametrize("definition", ALL, ids=lambda d: d.kind)
def test_every_kind_can_be_described(definition: KindDefinition) -> None:
    found = describe_fully(definition)
    parts = list(walk(found["schema"]))
    for reference in (p["$ref"] for p in parts if isinstance(p.get("$ref"), str)):
        assert reference.removeprefix("#/$defs/") in found["schema"]["$defs"]
    assert {p["x-vcstack-refers-to"] for p in parts if "x-vcstack-refers-to" in p} <= set(load_kinds())
    takes = {p["x-vcstack-takes"] for p in parts if "x-vcstack-takes" in p}
    assert takes <= {"Live", "Reboot", "Recreate", "Immutable"}
    definition.model.from_wire(found["example"])
    assert found["doc"]
    for column in found["columns"]:
        find_value(found["example"], column["jsonPath"])


async def test_secrets_are_marked(api: Api) -> None:
    marked = {d.kind for d in ALL if any(p.get("x-vcstack-sensitive") for p in walk(describe_fully(d)["schema"]))}
    assert {"Secret", "IdentityProvider"} <= marked


async def test_what_is_no_kind_is_not_found_and_nobody_unknown_asks(api: Api) -> None:
    async with api.raw() as client, api.raw(api.settings(token=None)) as nobody:
        missing = error_of(await client.get("/api/v1/kinds/instance"))
        assert (missing["code"], "did you mean 'instances'?" in missing["message"]) == (404, True)
        assert error_of(await client.get("/api/v1/kinds/instances/status"))["code"] == 404
        assert error_of(await client.get("/api/v1/kindsfolk"))["code"] == 404
        assert error_of(await client.post("/api/v1/kinds"))["code"] == 405
        assert error_of(await client.get("/api/v1/kinds?limit=1"))["code"] == 400
        assert error_of(await nobody.get("/api/v1/kinds"))["code"] == 401
