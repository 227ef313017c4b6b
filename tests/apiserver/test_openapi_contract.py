"""The server's routes are those of the document, no more and no less.

Every method is tried on every path that the document has, and on those that it might have: all subresources of all
kinds, inside and outside of projects.
"""

from collections.abc import Iterator

import httpx2
import pytest

from tests.apiserver.test_openapi_examples import filled_path
from tests.fixtures.api import Api, create_samples, error_of
from vcstack.apiserver import docs
from vcstack.apiserver.application import NO_RESOURCES, PUBLIC
from vcstack.apiserver.auth.routes import PREFIX
from vcstack.apiserver.openapi import build_openapi
from vcstack.apiserver.targets import COMMON_SUBRESOURCES, KIND_SUBRESOURCES
from vcstack.specs.registry import load_kinds

DOCUMENT = build_openapi()
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
DOCUMENTED = {(m.upper(), path) for path, item in DOCUMENT["paths"].items() for m in item.keys() - {"parameters"}}
WEBSOCKETS = ("/console", "/tunnel", "/vnc")
FOR_THE_CLOUD = tuple(f"/{d.plural}{rest}" for d in load_kinds().values() if d.system_only for rest in ("", "/{name}"))
"""What nobody writes but the cloud itself and its hosts: everybody else is refused."""
ALSO = docs.PATHS - {docs.PAGE}
"""The page's own files, and where it was once."""


def possible_paths() -> Iterator[str]:
    """Yield all paths that resources could have."""
    names = sorted(COMMON_SUBRESOURCES.union(*KIND_SUBRESOURCES.values()))
    for plural in (d.plural for d in load_kinds().values()):
        for base in (f"/api/v1/{plural}", f"/api/v1/projects/{{project}}/{plural}"):
            yield base
            yield f"{base}/{{name}}"
            yield from (f"{base}/{{name}}/{name}" for name in names)


def fill(path: str) -> str:
    if path in DOCUMENT["paths"]:
        return filled_path(path)
    return path.replace("{project}", "demo").replace("{name}", "some")


async def is_routed(client: httpx2.AsyncClient, method: str, path: str) -> bool:
    """Ask with a body that nothing accepts, so that nothing is changed."""
    body = {} if method in ("GET", "DELETE") else {"content": b"{", "headers": {"content-type": "application/json"}}
    dry = "?dryRun=All" if method == "DELETE" and path.endswith("{name}") else ""
    answer = await client.request(method, fill(path) + dry, **body)
    if answer.status_code == 405:
        return False
    if answer.status_code != 404:
        return True
    message = error_of(answer)["message"]
    return not any(
        words in message for words in ("no route", "no subresource", "no kind", "are global", "live in projects")
    )


@pytest.fixture
async def client(api: Api) -> httpx2.AsyncClient:
    await create_samples(api)
    transport = httpx2.ASGITransport(api.application, client=("127.0.0.1", 5))
    headers = {"authorization": f"Bearer {api.token}"}
    return httpx2.AsyncClient(transport=transport, base_url="https://cloud", headers=headers)


async def test_what_the_document_has_is_there_and_nothing_else(client: httpx2.AsyncClient) -> None:
    known = {path for _, path in DOCUMENTED} | {*possible_paths()} | PUBLIC | NO_RESOURCES
    found = set()
    async with client:
        for path in sorted(p for p in known if not p.endswith(WEBSOCKETS)):
            for method in METHODS:
                if await is_routed(client, method, path):
                    found.add((method, path))
    found -= {("GET", path) for path in ALSO}
    found -= {(m, p) for m, p in found if m != "GET" and p.endswith(FOR_THE_CLOUD)}
    documented = {(m, p) for m, p in DOCUMENTED if m != "HEAD" and (m == "GET" or not p.endswith(FOR_THE_CLOUD))}
    missing, surplus = ["\n".join(map(str, sorted(each))) for each in (documented - found, found - documented)]
    assert not missing, f"in the document, but not there:\n{missing}"
    assert not surplus, f"there, but not in the document:\n{surplus}"


def test_every_step_of_logging_in_is_in_the_document(api: Api) -> None:
    routes = api.auth.routes
    served = {("POST", PREFIX + path) for path in routes.posts} | {("GET", PREFIX + path) for path in routes.gets}
    assert served == {(method, path) for method, path in DOCUMENTED if path.startswith(PREFIX)}
