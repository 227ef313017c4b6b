"""The OpenAPI document and its page: complete, valid, and kept by the server (schemathesis)."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fakes.master_keys import open_store
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import Api, create_samples, serving
from vcstack.apiserver.docs import render_page
from vcstack.apiserver.openapi import build_openapi
from vcstack.apiserver.targets import subresources_of
from vcstack.pki.installation import Installation
from vcstack.specs.registry import Scope, load_kinds

DOCUMENT = build_openapi()
WEBSOCKETS = {"console", "tunnel"}
EXAMPLES = 2
"""Requests an operation: the walk over all of them has to end soon; fuzzing goes deeper elsewhere."""


def test_every_kind_has_all_its_paths() -> None:
    for definition in load_kinds().values():
        prefix = "/api/v1" if definition.scope is not Scope.PROJECT else "/api/v1/projects/{project}"
        base = f"{prefix}/{definition.plural}"
        expected = {base, f"{base}/{{name}}"}
        expected |= {f"{base}/{{name}}/{s}" for s in subresources_of(definition) - WEBSOCKETS}
        assert expected <= set(DOCUMENT["paths"])


def test_every_reference_leads_somewhere() -> None:
    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for child in value.values():
                yield from walk(child)
        elif isinstance(value, list):
            for child in value:
                yield from walk(child)

    for reference in set(walk(DOCUMENT)):
        target: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_every_field_of_a_spec_is_described() -> None:
    for definition in load_kinds().values():
        schema = DOCUMENT["components"]["schemas"][f"{definition.kind}Spec"]
        assert all(p.get("description") or "$ref" in p for p in schema.get("properties", {}).values()), definition.kind


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    page = render_page(DOCUMENT)
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|/openapi\.json)""", page)
    assert all(f'id="{d.plural}"' in page for d in load_kinds().values())


@pytest.fixture(scope="module")
def served(pki_installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API server in a thread with a loop of its own, for schemathesis asks without one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ready: list[Api] = []
    stop = asyncio.Event()

    async def run(folder: Path) -> None:
        etcd = MemoryEtcd()
        async with open_store(etcd) as store, serving(store, etcd, pki_installation, folder) as api:
            await create_samples(api)
            ready.append(api)
            await stop.wait()

    running = asyncio.run_coroutine_threadsafe(run(tmp_path_factory.mktemp("served")), loop)
    while not ready:
        if running.done():
            running.result()
        time.sleep(0.01)
    yield ready[0]
    loop.call_soon_threadsafe(stop.set)
    running.result(timeout=20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


schema = schemathesis.openapi.from_dict(DOCUMENT)


@schema.exclude(path_regex="/(log|certificate)$").parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_the_server_keeps_its_document(case: schemathesis.Case, served: Api) -> None:
    response = case.call(
        base_url=served.url,
        headers={"Authorization": f"Bearer {served.token}"},
        verify=str(served.installation.ca_cert),
    )
    case.validate_response(
        response,
        checks=[
            checks.not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
