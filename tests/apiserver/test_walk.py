"""Each kind, verb and caller: every combination gives the answer that the rules say, derived from the registry."""

import json
from collections.abc import Iterator

import pytest

from tests.fixtures.api import Api, bind, create_samples, snapshot
from tests.fixtures.samples import sample
from vcstack.apiserver.targets import subresources_of
from vcstack.specs.registry import KindDefinition, Scope, load_kinds

KINDS = sorted(load_kinds().values(), key=lambda d: d.kind)
JSON = {"content-type": "application/json"}
MERGE = {"content-type": "application/merge-patch+json"}
APPLY = {"content-type": "application/apply-patch+json"}
OWN = {"Host"}
BOUND = {"Instance", "Port", "Task"}
REFERRED = {"Flavor", "Image", "SSHKey", "Network", "SecurityGroup"}


def collection_of(definition: KindDefinition) -> str:
    in_project = "project" in sample(definition.kind)["metadata"]
    return f"/api/v1/projects/demo/{definition.plural}" if in_project else f"/api/v1/{definition.plural}"


def requests_of(definition: KindDefinition) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """Yield (method, path, headers, body) of all that one can try on a kind; dry runs where something is written."""
    wire, base = sample(definition.kind), collection_of(definition)
    path, body = f"{base}/{wire['metadata']['name']}", json.dumps(wire).encode()
    yield "GET", base, {}, b""
    yield "GET", base + "?watch=true&resourceVersion=999999", {}, b""
    yield "GET", path, {}, b""
    yield "POST", base + "?dryRun=All", JSON, body
    yield "PUT", path + "?dryRun=All", JSON, body
    yield "PATCH", path + "?dryRun=All", MERGE, b'{"metadata":{"labels":{"a":"b"}}}'
    yield "PATCH", path + "?dryRun=All&fieldManager=me", APPLY, body
    yield "DELETE", path + "?dryRun=All", {}, b""
    yield "GET", path + "/status", {}, b""
    yield "PATCH", path + "/status?dryRun=All", MERGE, b'{"status":{}}'
    yield "PUT", path + "/status?dryRun=All", JSON, b'{"status":{}}'
    yield "POST", path + "/finalize", JSON, b'{"remove":["nothing"]}'
    yield "GET", path + "/history", {}, b""


async def prepare(api: Api) -> None:
    await create_samples(api)
    for kind, name in (("Instance", "web-1"), ("Port", "p1"), ("Task", "reboot-1")):
        await bind(api, kind, name, "h9")


@pytest.mark.parametrize("definition", KINDS, ids=lambda d: d.kind)
async def test_anonymous_gets_401_everywhere(api: Api, definition: KindDefinition) -> None:
    await prepare(api)
    before = await snapshot(api)
    async with api.raw(api.settings(token=None)) as raw:
        for method, path, headers, body in requests_of(definition):
            assert (await raw.request(method, path, headers=headers, content=body)).status_code == 401, (method, path)
    assert await snapshot(api) == before


@pytest.mark.parametrize("definition", KINDS, ids=lambda d: d.kind)
async def test_the_administrator_may_what_is_a_users_business(api: Api, definition: KindDefinition) -> None:
    await prepare(api)
    async with api.raw() as raw:
        for method, path, headers, body in requests_of(definition):
            answer = await raw.request(method, path, headers=headers, content=body)
            systems = any(s in path for s in ("/status", "/finalize")) and method != "GET"
            writes = definition.system_only and method != "GET" and not (definition.revocable and method == "DELETE")
            expected = 403 if systems or writes else 404 if path.endswith("/history") else 200
            if expected == 200:
                expected = 409 if method == "POST" else 410 if "watch" in path else 200
            if method == "DELETE" and expected == 200 and not definition.finalizers:
                expected = 204
            assert answer.status_code == expected, (method, path, answer.text)


@pytest.mark.parametrize("definition", KINDS, ids=lambda d: d.kind)
async def test_a_host_with_nothing_gets_403_everywhere(api: Api, definition: KindDefinition) -> None:
    await prepare(api)
    settings = await api.register("h2")
    before = await snapshot(api)
    async with api.raw(settings) as raw:
        for method, path, headers, body in requests_of(definition):
            answer = await raw.request(method, path, headers=headers, content=body)
            assert answer.status_code == 403, (method, path, answer.text)
    assert await snapshot(api) == before


@pytest.mark.parametrize("definition", KINDS, ids=lambda d: d.kind)
async def test_a_host_may_just_what_its_objects_need(api: Api, definition: KindDefinition) -> None:
    await prepare(api)
    kind = definition.kind
    async with api.raw(api.host_settings("h9")) as raw:
        for method, path, headers, body in requests_of(definition):
            answer = await raw.request(method, path, headers=headers, content=body)
            place = path.partition("?")[0]
            named = place != collection_of(definition)
            plain = named and not any(place.endswith(f"/{s}") for s in subresources_of(definition))
            mine = kind in OWN | BOUND
            may = (method == "GET" and plain and (mine or kind in REFERRED | {"Event"})) or (
                mine and place.endswith("/status")
            )
            may = may or (kind == "Event" and (not named or plain) and method in ("POST", "PUT", "PATCH"))
            if may:
                assert answer.status_code in (200, 409, 422), (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)


def test_every_kind_has_a_sample_and_a_scope() -> None:
    for definition in KINDS:
        in_project = "project" in sample(definition.kind)["metadata"]
        assert in_project or definition.scope is not Scope.PROJECT
