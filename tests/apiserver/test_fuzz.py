"""Whatever is sent, the answer is one of ours, never 500, and what was refused changes nothing."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.api import Api, create_samples, error_of, snapshot
from tests.fixtures.samples import SAMPLES, sample
from vcstack.apiserver.bodies import decode
from vcstack.apiserver.queries import Query
from vcstack.apiserver.targets import parse_target
from vcstack.specs.errors import ApiError
from vcstack.specs.registry import get_kind

TEXT = st.one_of(
    st.text(max_size=20), st.sampled_from(["", "a/b", "..", "$(id)", "<x/>", "'; --", "\0", "\u202e", "é"])
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
MEDIA_TYPES = [
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/apply-patch+json",
    "application/apply-patch+yaml",
]
RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A sample of some kind with one value anywhere replaced by any other."""
    kind = draw(st.sampled_from(sorted(SAMPLES)))
    wire = sample(kind, name="fuzz")
    target: Any = wire
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = draw(st.sampled_from([*keys, "extra"] if isinstance(target, dict) else keys))
        value = target[key] if not isinstance(target, dict) or key in target else None
        if isinstance(value, dict | list) and value and draw(st.booleans()):
            target = value
            continue
        target[key] = draw(VALUES)
        return kind, wire


@pytest.fixture
async def raw(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    await create_samples(api)
    async with api.raw() as found:
        yield found


@RELAXED
@given(case=spoiled(), method=st.sampled_from(["POST", "PUT", "PATCH"]), media_type=st.sampled_from(MEDIA_TYPES))
async def test_a_spoiled_object_is_taken_or_refused_but_never_a_fault(
    api: Api, raw: httpx2.AsyncClient, case: tuple[str, dict[str, Any]], method: str, media_type: str
) -> None:
    kind, wire = case
    plural = get_kind(kind).plural
    path = f"/api/v1/projects/demo/{plural}" if "project" in SAMPLES[kind]["metadata"] else f"/api/v1/{plural}"
    path += "" if method == "POST" else "/fuzz"
    before = await snapshot(api)
    answer = await raw.request(
        method,
        path + ("?fieldManager=fuzz" if "apply" in media_type else ""),
        content=json.dumps(wire).encode(),
        headers={"content-type": media_type},
    )
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error_of(answer)
        assert await snapshot(api) == before
    else:
        assert answer.json()["metadata"]["uid"]


@RELAXED
@given(body=st.binary(max_size=300), media_type=st.sampled_from(MEDIA_TYPES))
async def test_any_bytes_are_refused(api: Api, raw: httpx2.AsyncClient, body: bytes, media_type: str) -> None:
    path = "/api/v1/flavors" + ("/x?fieldManager=a" if "patch" in media_type else "")
    method = "PATCH" if "patch" in media_type else "POST"
    answer = await raw.request(method, path, content=body, headers={"content-type": media_type})
    assert 400 <= answer.status_code < 500, answer.text
    error_of(answer)


@given(body=st.one_of(st.binary(), VALUES.map(lambda v: json.dumps(v).encode())), is_yaml=st.booleans())
def test_decoding_raises_errors_of_ours_only(body: bytes, is_yaml: bool) -> None:
    with contextlib.suppress(ApiError):
        assert isinstance(decode(body, is_yaml=is_yaml), dict)


@given(path=st.one_of(TEXT, st.lists(TEXT, max_size=6).map("/".join)))
def test_any_path_is_found_or_refused(path: str) -> None:
    with contextlib.suppress(ApiError):
        assert parse_target(path).definition


@given(raw_query=st.binary(max_size=100))
def test_any_query_is_read_or_refused(raw_query: bytes) -> None:
    with contextlib.suppress(ApiError):
        Query.parse(raw_query).only(frozenset({"a"})).count("a")
