"""Kind, verb, subresource, role, own or other project: what each request is answered, against a table of its own.

The requests come from the OpenAPI document, so a route that is added is walked, and fails here until the table says
what it needs. What a role allows is worked out once more, as plainly as possible: rule by rule, without indexes,
places and memory.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.apiserver.test_accounts import as_, key_token, put
from tests.apiserver.test_tenancy import put_roles
from tests.fixtures.api import SYSTEM, Api, create_samples
from tests.fixtures.samples import SAMPLES, sample
from vcstack.apiserver.auth.tokens import Bearer
from vcstack.apiserver.openapi import build_openapi
from vcstack.apiserver.targets import subresources_of
from vcstack.specs.permissions import BUILT_IN_NAMES, built_in_roles
from vcstack.specs.registry import KindDefinition, Scope, get_kind, load_kinds

VERBS = {
    ("POST", ""): "create",
    ("GET", ""): "get",
    ("PUT", ""): "update",
    ("PATCH", ""): "update",
    ("DELETE", ""): "delete",
    ("GET", "status"): "get",
    ("PUT", "status"): "update",
    ("PATCH", "status"): "update",
    ("POST", "finalize"): "update",
    ("GET", "history"): "get",
    ("GET", "timeline"): "get",
    ("GET", "sshauthority"): "get",
    ("GET", "recordings"): "get",
    ("GET", "why"): "get",
    ("GET", "related"): "get",
    ("GET", "log"): "get",
    ("GET", "screenshot"): "get",
    ("GET", "metrics"): "get",
    ("POST", "tickets"): "update",
    ("GET", "content"): "get",
    ("HEAD", "content"): "get",
    ("PUT", "content"): "update",
    ("GET", "value"): "get",
    ("GET", "usage"): "get",
    ("GET", "audit"): "get",
    ("POST", "heartbeat"): "update",
    ("POST", "certificate"): "update",
    ("POST", "jointoken"): "update",
    ("POST", "initialsecret"): "update",
    ("DELETE", "mfa"): "update",
    ("POST", "secret"): "update",
    ("GET", "console"): "update",
    ("GET", "vnc"): "update",
    ("GET", "shell"): "update",
    ("GET", "tunnel"): "get",
}
"""What each method on each subresource asks for; the last four are websockets."""
VERBS |= {("POST", name): "update" for name in ("encrypt", "decrypt", "reencrypt", "datakey", "sign", "verify")}
WEBSOCKETS = frozenset({"console", "shell", "tunnel", "vnc"})
FOR_SYSTEMS = frozenset({"status", "finalize", "heartbeat", "certificate"})
READS = frozenset({"get", "list", "watch"})
MERGE = {"content-type": "application/merge-patch+json"}
JSON = {"content-type": "application/json"}
DOCUMENT = build_openapi()
KINDS = {d.plural: d for d in load_kinds().values()}
ME = "walker"
SCOPES = ("own project", "other project", "domain", "cloud")
IN_THE_DOMAIN = frozenset({"User", "Group", "Session"})
"""Kinds whose samples lie in the domain acme; the domain itself is seen from within, and changed from above."""


@dataclass(frozen=True)
class Step:
    """One request."""

    definition: KindDefinition
    method: str
    path: str
    verb: str
    subresource: str
    named: bool
    project: str | None
    by_body: bool = False
    """Whether the object that is posted names the project, not the path."""

    @property
    def shared_outside(self) -> bool:
        """Return whether everybody sees it who may read its kind anywhere."""
        return self.definition.shared and self.project is None


def steps() -> Iterator[Step]:
    """Yield all requests that the document knows for the samples' places, and the websockets."""
    for path, item in DOCUMENT["paths"].items():
        parts = path.removeprefix("/api/v1/").replace("projects/{project}/", "").split("/")
        definition = KINDS.get(parts[0])
        if definition is None:
            continue
        wire = sample(definition.kind)
        in_project, named = "{project}" in path, "{name}" in path
        if named and in_project != ("project" in wire["metadata"]):
            continue
        subresource = parts[2] if len(parts) > 2 else ""
        filled = path.replace("{project}", "demo").replace("{name}", wire["metadata"]["name"]).replace("{id}", "rec-1")
        for method in item.keys() - {"parameters"}:
            verb = VERBS[method.upper(), subresource]
            by_body = method == "post" and not named and not in_project and definition.scope is Scope.PROJECT
            project = "demo" if in_project or by_body else None
            if not named and method == "get":
                yield Step(definition, "GET", filled, "list", "", False, project)
                yield Step(
                    definition, "GET", filled + "?watch=true&resourceVersion=999999", "watch", "", False, project
                )
            else:
                yield Step(definition, method.upper(), filled, verb, subresource, named, project, by_body)
    for definition in KINDS.values():
        metadata = sample(definition.kind)["metadata"]
        prefix = "/api/v1/projects/demo" if "project" in metadata else "/api/v1"
        for name in sorted(WEBSOCKETS & subresources_of(definition)):
            path = f"{prefix}/{definition.plural}/{metadata['name']}/{name}"
            yield Step(definition, "WEBSOCKET", path, VERBS["GET", name], name, True, metadata.get("project"))


STEPS = tuple(sorted(steps(), key=lambda step: step.subresource in ("initialsecret", "mfa")))
"""Last what ends the sessions of the sample's user."""


def role_gives(role: str, verb: str, kind: str, subresource: str) -> bool:
    """Work out anew whether some rule of the role says it."""
    for rule in built_in_roles()[role].rules if role else ():
        wire = rule.to_wire()
        named = wire.get("subresources")
        about = (not subresource) if named is None else bool(subresource and {subresource, "*"} & set(named))
        if about and {verb, "*"} & set(wire["verbs"]) and {kind, "*"} & set(wire["kinds"]):
            return True
    return False


def expect(step: Step, role: str, scope: str) -> str:
    """Return what the answer has to be: let in, Forbidden, or as if nothing were there."""
    definition, verb, sub = step.definition, step.verb, step.subresource
    if sub == "tunnel" or (verb not in READS and sub in FOR_SYSTEMS):
        return "forbidden"
    if verb not in READS and definition.system_only and not (definition.revocable and verb == "delete"):
        return "forbidden"
    if step.by_body and not role_gives(role, verb, definition.kind, ""):
        return "forbidden"
    if not step.named and step.project is None:
        anywhere = role_gives(role, verb, definition.kind, "")
        return "in" if anywhere or (verb in READS and definition.owner_path) else "forbidden"
    if reaches(step, verb, scope) and role_gives(role, verb, definition.kind, sub):
        return "in"
    lies_there = lies_in(step, verb, scope)
    sees = bool(role) and (scope == "cloud" or lies_there)
    reads = step.named and reaches(step, "get", scope) and role_gives(role, "get", definition.kind, "")
    return "forbidden" if sees or reads else "hidden"


def reaches(step: Step, verb: str, scope: str) -> bool:
    """Return whether a role bound there counts for the object."""
    return scope == "cloud" or lies_in(step, verb, scope) or (step.shared_outside and verb in READS)


def lies_in(step: Step, verb: str, scope: str) -> bool:
    """Return whether the object is in the scope's project or domain."""
    kind = step.definition.kind
    if scope == "domain":
        return kind in IN_THE_DOMAIN or (kind == "Domain" and verb in READS)
    inside = step.project is not None or (kind == "Project" and verb not in ("create", "delete"))
    return inside and scope == "own project"


def body_of(step: Step) -> tuple[bytes, dict[str, str], str]:
    wire = sample(step.definition.kind)
    if step.subresource:
        return b"{}", MERGE if step.method == "PATCH" else JSON, ""
    match step.method:
        case "POST" | "PUT":
            return json.dumps(wire).encode(), JSON, "?dryRun=All"
        case "PATCH":
            return b'{"metadata":{"labels":{"a":"b"}}}', MERGE, "?dryRun=All"
        case "DELETE":
            return b"", {}, "?dryRun=All"
    return b"", {}, ""


async def answer_of(api: Api, client: httpx2.AsyncClient, step: Step) -> tuple[int, Any]:
    if step.method == "WEBSOCKET":
        return await handshake(api, client.headers["authorization"], step.path)
    body, headers, query = body_of(step)
    if step.method in ("GET", "HEAD"):
        body, headers = b"", {}
    answer = await client.request(step.method, step.path + query, content=body, headers=headers)
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer.status_code, json.loads(answer.content) if is_json and answer.content else {}


async def handshake(api: Api, bearer: str, path: str) -> tuple[int, Any]:
    """Ask for a websocket; return how the handshake was refused."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", bearer.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "wss",
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    await api.application(scope, receive, send)
    start = next(m for m in sent if m["type"] == "websocket.http.response.start")
    body = b"".join(m.get("body", b"") for m in sent if m["type"] == "websocket.http.response.body")
    return start["status"], json.loads(body)


def outcome(status: int, body: Any, step: Step) -> str:
    message = body.get("message", "") if isinstance(body, dict) and body.get("kind") == "Error" else ""
    if status == 401:
        return "nobody"
    if status == 403:
        # What is given is looked at once the writing itself is allowed.
        return "in" if message.startswith("nobody grants") else "forbidden"
    if status == 404 and (message.startswith(("there is no Project ", f"there is no {step.definition.kind} "))):
        return "hidden"
    if status == 404 and step.method == "HEAD":
        return "hidden"
    return "in"


@pytest.fixture
async def cloud(api: Api) -> Api:
    await create_samples(api)
    await put_roles(api)
    await put(api, "Project", "elsewhere", {})
    return api


async def walk(api: Api, token: str, role: str, scope: str) -> None:
    wrong = []
    transport = httpx2.ASGITransport(api.application, client=("127.0.0.1", 5))
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(transport=transport, base_url="https://cloud", headers=headers) as client:
        for step in STEPS:
            status, body = await answer_of(api, client, step)
            found, expected = outcome(status, body, step), expect(step, role, scope)
            if found != expected:
                wrong.append(f"{step.method} {step.path}: {found}, not {expected} ({status} {str(body)[:150]})")
    assert not wrong, "\n".join(wrong)


async def token_of(api: Api) -> str:
    """Return an access token of a new user, without the steps of a login."""
    user = await put(api, "User", ME, {})
    now = datetime.now(UTC).replace(microsecond=0)
    session = {
        "metadata": {"name": "walk"},
        "spec": {
            "subject": {"kind": "User", "name": ME},
            "createdAt": now.isoformat(),
            "expiresAt": (now + timedelta(hours=1)).isoformat(),
        },
    }
    await api.store.create(get_kind("Session"), session, actor=SYSTEM)
    bearer = Bearer(subject=f"user:{ME}", uid=user["metadata"]["uid"], session="walk")
    return api.auth.tokens.issue(bearer)[0]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("role", sorted(BUILT_IN_NAMES))
async def test_a_role_gives_just_what_it_says_where_it_is_bound(cloud: Api, role: str, scope: str) -> None:
    token = await token_of(cloud)
    project = {"own project": "demo", "other project": "elsewhere"}.get(scope)
    domain = {"domain": "acme"} if scope == "domain" else {}
    await put(cloud, "RoleBinding", "walk", {"subject": {"kind": "User", "name": ME}, "role": role, **domain}, project)
    await walk(cloud, token, role, scope)


async def test_who_was_given_nothing_sees_nothing(cloud: Api) -> None:
    await walk(cloud, await token_of(cloud), "", "own project")


async def test_a_restricted_key_gives_no_more_than_it_says(cloud: Api) -> None:
    """A key for reading networks, of an account that administers the project."""
    rules = [{"verbs": ["get", "list"], "kinds": ["Network"]}]
    subject = {"kind": "ServiceAccount", "name": "ci", "project": "demo"}
    await put(cloud, "RoleBinding", "ci-admin", {"subject": subject, "role": "project-admin"}, "demo")
    await put(cloud, "APIKey", "narrow", {"serviceAccount": "ci", "rules": rules}, "demo")
    token = await key_token(cloud, "/api/v1/projects/demo/apikeys/narrow")
    transport = httpx2.ASGITransport(cloud.application, client=("127.0.0.1", 5))
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(transport=transport, base_url="https://cloud", headers=headers) as client:
        for step in STEPS:
            may = step.definition.kind == "Network" and step.verb in ("get", "list") and not step.subresource
            status, body = await answer_of(cloud, client, step)
            own_lists = not step.named and step.verb in READS and step.project is None and step.definition.owner_path
            if not own_lists:
                assert (outcome(status, body, step) == "in") is may, (step.method, step.path, status, body)


async def test_lists_of_everything_hold_nothing_of_others(cloud: Api) -> None:
    """For each kind: who is a member elsewhere finds no object of project demo in the list over all projects."""
    token = await token_of(cloud)
    await put(cloud, "RoleBinding", "walk", {"subject": {"kind": "User", "name": ME}, "role": "member"}, "elsewhere")
    async with as_(cloud, token) as client:
        for definition in KINDS.values():
            answer = await client.get(f"/api/v1/{definition.plural}")
            if answer.status_code == 403:
                continue
            for item in answer.json()["items"]:
                metadata = item["metadata"]
                own = definition.shared or metadata["name"] in ("walk", ME, "elsewhere")
                assert metadata.get("project") in (None, "elsewhere"), (definition.kind, metadata)
                assert own, (definition.kind, metadata)


def test_every_route_of_every_kind_is_walked() -> None:
    walked = {(s.definition.kind, s.subresource) for s in STEPS}
    assert walked >= {(d.kind, s) for d in KINDS.values() for s in subresources_of(d)}
    assert {s.definition.kind for s in STEPS if s.verb == "list"} == {d.kind for d in KINDS.values()}
    creatable = {d.kind for d in KINDS.values() if not d.system_only}
    assert {s.definition.kind for s in STEPS if s.verb == "create"} == creatable
    assert set(SAMPLES) == {d.kind for d in KINDS.values()}
    assert all(d.scope is not Scope.PROJECT for d in KINDS.values() if "project" not in sample(d.kind)["metadata"])
