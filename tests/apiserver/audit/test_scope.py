"""Who may read which records: the cloud's auditors all of them, a domain's its projects', a project's its own."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from tests.apiserver.audit.conftest import Audited, Open
from tests.apiserver.test_accounts import ADMIN, as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fixtures.api import SYSTEM
from vcstack.specs.registry import get_kind
from vcstack.store.mirror.audit import AuditArchive

pytestmark = pytest.mark.daemons
Clients = dict[str, httpx2.AsyncClient]
ROLES = {
    "auditor": ("auditor", None, None),
    "domain-auditor": ("auditor", None, "acme"),
    "domain-admin": ("domain-admin", None, "acme"),
    "project-admin": ("project-admin", "inner", None),
    "member": ("member", "inner", None),
}


@pytest.fixture
async def cloud(open_audited: Open, archive: AuditArchive) -> AsyncIterator[tuple[Audited, Clients]]:
    """A project in the domain acme, one outside of it, and somebody of each role; each project has a network."""
    async with AsyncExitStack() as stack:
        audited = await stack.enter_async_context(open_audited(archive))
        api = audited.api
        await put_roles(api)
        await put(api, "Domain", "acme", {})
        await put(api, "Project", "inner", {"domain": "acme"})
        await put(api, "Project", "outer", {})
        clients = {}
        for name, (role, project, domain) in ROLES.items():
            await put(api, "User", name, {})
            await bind(api, name, name, role, project, **({"domain": domain} if domain else {}))
            clients[name] = await stack.enter_async_context(as_(api, await log_in(api, name)))
        async with api.raw() as admin:
            for project in ("inner", "outer"):
                body = {"metadata": {"name": f"net-{project}"}, "spec": {}}
                assert (await admin.post(f"/api/v1/projects/{project}/networks", json=body)).status_code == 201
        await audited.trail.flush()
        await audited.trail.shipper.ship()
        yield audited, clients


async def found(client: httpx2.AsyncClient, path: str = "/api/v1/audit", **params: Any) -> list[dict[str, Any]]:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    records: list[dict[str, Any]] = answer.json()["items"]
    return records


def names(records: list[dict[str, Any]]) -> set[str]:
    return {r["name"] for r in records if r.get("kind") == "Network"}


async def test_everybody_sees_the_records_of_what_they_audit_and_no_others(cloud: tuple[Audited, Clients]) -> None:
    _, clients = cloud
    everything = await found(clients["auditor"])
    assert names(everything) == {"net-inner", "net-outer"}
    assert {"login", "start"} <= {r["verb"] for r in everything}
    for name in ("domain-auditor", "domain-admin", "project-admin"):
        seen = await found(clients[name])
        assert names(seen) == {"net-inner"}, name
        assert {r.get("project") for r in seen} == {"inner"}, name
        assert await found(clients[name], project="outer") == []


async def test_who_audits_a_domain_sees_its_grants_users_and_logins(cloud: tuple[Audited, Clients]) -> None:
    audited, clients = cloud
    api = audited.api
    async with api.raw() as admin:

        async def make(kind: str, name: str, spec: dict[str, Any]) -> None:
            body = {"metadata": {"name": name}, "spec": spec}
            answer = await admin.post(f"/api/v1/{get_kind(kind).plural}", json=body)
            assert answer.status_code == 201, answer.text

        await make("Domain", "lab", {"parent": "acme"})
        await make("Domain", "rival", {})
        for domain, user in (("acme", "ann"), ("lab", "lea"), ("rival", "rob")):
            await make("User", user, {"domain": domain})
            subject = {"kind": "User", "name": user}
            await make("RoleBinding", f"grant-{user}", {"subject": subject, "role": "reader", "domain": domain})
            assert (await admin.delete(f"/api/v1/rolebindings/grant-{user}")).status_code == 204
            await make("Project", f"project-{user}", {"domain": domain})
            assert (await admin.delete(f"/api/v1/projects/project-{user}")).status_code == 200
        answer = await admin.patch(
            "/api/v1/domains/acme",
            json={"spec": {"description": "new"}},
            headers={"content-type": "application/merge-patch+json"},
        )
        assert answer.status_code == 200, answer.text
    for user in ("ann", "lea", "rob"):
        async with api.raw(api.settings(token="")) as nobody:
            await nobody.post("/api/v1/auth/login", json={"user": user, "password": "wrong and long enough"})
    async with as_(api, await log_in(api, "lea")) as lea:
        assert (await lea.post("/api/v1/users", json={"metadata": {"name": "x"}, "spec": {}})).status_code == 403
    await audited.trail.flush()
    await audited.trail.shipper.ship()

    def told(records: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
        """Return verb, kind and whom or what it is about, of what lies in no project."""
        return {(r["verb"], r.get("kind", ""), r.get("name") or r.get("user", "")) for r in records if "domain" in r}

    for name in ("domain-auditor", "domain-admin"):
        seen = told(await found(clients[name], limit=500))
        for user in ("ann", "lea"):
            for verb in ("create", "delete"):
                assert {(verb, "RoleBinding", f"grant-{user}"), (verb, "Project", f"project-{user}")} <= seen, name
            assert {("create", "User", user), ("login", "", user)} <= seen, name
        assert {("create", "Domain", "lab"), ("update", "Domain", "acme")} <= seen, name
        assert not [r for r in seen if r[2].endswith("rob") or r[2] == "rival"], name
    everything = await found(clients["auditor"], limit=500)
    assert ("create", "RoleBinding", "grant-rob") in told(everything)
    assert told(await found(clients["auditor"], domain="rival", limit=500)) >= {("create", "User", "rob")}
    assert await found(clients["domain-auditor"], domain="rival") == []
    assert not told(await found(clients["project-admin"], limit=500))


async def test_an_export_holds_no_more_than_the_list(cloud: tuple[Audited, Clients]) -> None:
    _, clients = cloud
    assert b"net-outer" in (await clients["auditor"].get("/api/v1/audit/export")).content
    part = await clients["project-admin"].get("/api/v1/audit/export")
    assert part.status_code == 200
    assert b"net-inner" in part.content
    assert b"net-outer" not in part.content


async def test_who_audits_nothing_is_refused(cloud: tuple[Audited, Clients]) -> None:
    _, clients = cloud
    for path in ("/api/v1/audit", "/api/v1/audit/export", "/api/v1/projects/inner/audit"):
        assert (await clients["member"].get(path)).status_code == 403, path
    assert (await clients["member"].get("/api/v1/projects/outer/audit")).status_code == 404


async def test_only_who_audits_the_whole_cloud_verifies_it(cloud: tuple[Audited, Clients]) -> None:
    _, clients = cloud
    for path in ("verify", "anchors"):
        assert (await clients["auditor"].get(f"/api/v1/audit/{path}")).status_code == 200
        assert (await clients["domain-auditor"].get(f"/api/v1/audit/{path}")).status_code == 403


async def test_a_project_has_its_own_trail(cloud: tuple[Audited, Clients]) -> None:
    _, clients = cloud
    for name in ("auditor", "domain-admin", "project-admin"):
        assert names(await found(clients[name], "/api/v1/projects/inner/audit", limit=50)) == {"net-inner"}
    assert (await clients["project-admin"].get("/api/v1/projects/outer/audit")).status_code == 404
    answer = await clients["project-admin"].get("/api/v1/projects/inner/audit", params={"project": "outer"})
    assert answer.status_code == 400


async def test_what_was_done_in_an_older_project_of_the_name_is_not_the_new_ones(
    cloud: tuple[Audited, Clients],
) -> None:
    audited, clients = cloud
    store, definition = audited.api.store, get_kind("Project")
    (net,) = (await store.list(get_kind("Network"), "inner")).items
    assert net
    await store.delete(get_kind("Network"), "inner", "net-inner", actor=ADMIN)
    await store.finalize(get_kind("Network"), "inner", "net-inner", list(get_kind("Network").finalizers), actor=SYSTEM)
    for name in ("project-admin", "member"):
        await store.delete(get_kind("RoleBinding"), "inner", name, actor=ADMIN)
    await store.delete(definition, None, "inner", actor=ADMIN)
    await store.finalize(definition, None, "inner", list(definition.finalizers), actor=SYSTEM)
    await put(audited.api, "Project", "inner", {"domain": "acme"})
    assert names(await found(clients["domain-admin"])) == set()
    assert names(await found(clients["auditor"], project="inner")) == {"net-inner"}


async def test_who_probes_a_project_from_outside_is_seen_by_the_clouds_auditors_only(
    cloud: tuple[Audited, Clients],
) -> None:
    audited, clients = cloud
    api = audited.api
    await put(api, "User", "mallory", {})
    async with as_(api, await log_in(api, "mallory")) as mallory:
        assert (await mallory.get("/api/v1/projects/inner/networks/net-inner")).status_code == 404
    assert (await clients["member"].get("/api/v1/projects/inner/audit")).status_code == 403
    await audited.trail.flush()
    await audited.trail.shipper.ship()
    denied = [(r["subject"], r["status"]) for r in await found(clients["auditor"], outcome="Denied", project="inner")]
    assert denied == [("user:mallory", 404)]
    own = [(r["subject"], r["status"]) for r in await found(clients["project-admin"], outcome="Denied")]
    assert own == [("user:member", 403)]
