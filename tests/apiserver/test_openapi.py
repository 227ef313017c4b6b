"""The OpenAPI document and its page: complete, valid, and kept by the server (schemathesis)."""

import asyncio
import dataclasses
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.apiserver.test_accounts import put
from tests.apiserver.test_tenancy import put_roles
from tests.fakes.master_keys import open_store
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, Api, create_samples, serving
from vcstack.apiserver.auth.tokens import Bearer
from vcstack.apiserver.openapi import build_openapi
from vcstack.apiserver.targets import subresources_of
from vcstack.pki.installation import Installation
from vcstack.specs.registry import Scope, get_kind, load_kinds

DOCUMENT = build_openapi()
WEBSOCKETS = {"console", "shell", "tunnel", "vnc"}
CHECKS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
ROLES = ("reader", "auditor", "member", "project-admin", "admin")
SETTINGS = settings(
    max_examples=2,  # the walk over all operations has to end soon; fuzzing goes deeper elsewhere
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)


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


@dataclasses.dataclass(frozen=True)
class Served:
    """An API server, and a connection for each role."""

    api: Api
    callers: dict[str, requests.Session]
    schema: Any
    """The document as schemathesis reads it."""


@pytest.fixture(scope="module")
def served(pki_installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An API server in a thread with a loop of its own, for schemathesis asks without one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ready: list[tuple[Api, dict[str, str]]] = []
    stop = asyncio.Event()

    async def run(folder: Path) -> None:
        etcd = MemoryEtcd()
        async with open_store(etcd) as store, serving(store, etcd, pki_installation, folder) as api:
            await create_samples(api)
            await put_roles(api)
            tokens = {role: await token_of(api, role) for role in ROLES}
            ready.append((api, {"nobody": "", **tokens, "break-glass": api.token}))
            await stop.wait()

    running = asyncio.run_coroutine_threadsafe(run(tmp_path_factory.mktemp("served")), loop)
    while not ready:
        if running.done():
            running.result()
        time.sleep(0.01)
    api, tokens = ready[0]
    callers = {role: connect(api, token) for role, token in tokens.items()}
    found = Served(api, callers, schemathesis.openapi.from_dict(DOCUMENT))
    yield found
    for each in found.callers.values():
        each.close()
    loop.call_soon_threadsafe(stop.set)
    running.result(timeout=60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def connect(api: Api, token: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.verify = str(api.installation.ca_cert)
    if token:
        session.headers["authorization"] = f"Bearer {token}"
    return session


async def token_of(api: Api, role: str) -> str:
    """Return an access token of a new user who has that role: auditors and admins everywhere, others in a project."""
    name = f"schema-{role}"
    user = await put(api, "User", name, {})
    project = None if role in ("admin", "auditor") else "demo"
    await put(api, "RoleBinding", name, {"subject": {"kind": "User", "name": name}, "role": role}, project)
    now = datetime.now(UTC).replace(microsecond=0)
    session = {
        "metadata": {"name": name},
        "spec": {
            "subject": {"kind": "User", "name": name},
            "createdAt": now.isoformat(),
            "expiresAt": (now + timedelta(hours=1)).isoformat(),
        },
    }
    await api.store.create(get_kind("Session"), session, actor=SYSTEM)
    return api.auth.tokens.issue(Bearer(subject=f"user:{name}", uid=user["metadata"]["uid"], session=name))[0]


def operations() -> list[str]:
    """Return what the document has but streams, and what only a host of this cloud may ask."""
    return [
        f"{method.upper()} {path}"
        for path, found in DOCUMENT["paths"].items()
        for method in found
        if method != "parameters" and not path.endswith(("/log", "/certificate"))
    ]


@pytest.mark.parametrize("label", operations())
def test_the_server_keeps_its_document(label: str, served: Served) -> None:
    """Each operation is asked by everybody, by those who may most at last, then once more with other words by two.

    schemathesis' own parametrization gives all operations one name, and xdist runs what has one name once.
    """
    method, _, path = label.partition(" ")
    asked: list[str] = []
    others = [role for role in served.callers if role != "break-glass"]
    second = {others[zlib.crc32(label.encode()) % len(others)], "break-glass"}

    @SETTINGS
    @given(case=served.schema[path][method].as_strategy())
    def ask(case: schemathesis.Case) -> None:
        roles = second if asked else served.callers
        for role, session in served.callers.items():
            if role not in roles:
                continue
            asked.append(role)
            response = case.call(base_url=served.api.url, session=session, verify=session.verify, timeout=60)
            try:
                case.validate_response(response, checks=CHECKS)
            except Exception as error:
                raise AssertionError(f"as {role}") from error

    ask()
    assert set(asked) == set(served.callers)
