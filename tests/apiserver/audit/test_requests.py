"""What of requests stands in the trail, through the real server: who, what, from where, with which outcome."""

import asyncio
import dataclasses
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.apiserver.audit.conftest import Audited, Open
from tests.apiserver.audit.trails import lines_of, verified
from tests.fixtures.api import create_samples
from vcstack.apiserver.audit.settings import KindLevels, Level
from vcstack.pki.keys import generate_key_and_csr
from vcstack.specs.registry import get_kind

NETWORKS = "/api/v1/projects/demo/networks"


def network(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def demo(audited: Audited) -> Audited:
    await create_samples(audited.api, "Project")
    return audited


async def test_a_create_is_recorded_before_it_is_answered(demo: Audited) -> None:
    async with demo.api.raw() as http:
        answer = await http.post(NETWORKS, json=network(), headers={"user-agent": "tests/1"})
        (record,) = demo.records
    assert answer.status_code == 201
    assert record["requestId"] == answer.headers["x-request-id"]
    keys = ("subject", "verb", "kind", "project", "name", "status", "outcome", "peer", "program")
    found = {k: record[k] for k in keys}
    assert found == {
        "subject": "admin", "verb": "create", "kind": "Network", "project": "demo", "name": "web", "status": 201,
        "outcome": "Allowed", "peer": "127.0.0.1", "program": "tests/1",
    }  # fmt: skip
    assert (record["before"], record["after"]) == ("0", answer.json()["metadata"]["resourceVersion"])
    assert "body" not in record


async def test_an_apply_that_makes_the_object_is_recorded_as_a_create(demo: Audited) -> None:
    headers = {"content-type": "application/apply-patch+json"}
    wire = {"apiVersion": "vcstack.io/v1", "kind": "Network", "metadata": {"project": "demo", "name": "web"}}
    async with demo.api.raw() as http:
        for spec in ({}, {"mtuBytes": 1400}):
            body = json.dumps({**wire, "spec": spec})
            answer = await http.patch(f"{NETWORKS}/web?fieldManager=tests", content=body, headers=headers)
            assert answer.is_success, answer.text
    assert [r["verb"] for r in demo.records] == ["create", "update"]


async def test_a_change_has_the_versions_before_and_after(demo: Audited) -> None:
    async with demo.api.raw() as http:
        made = (await http.post(NETWORKS, json=network())).json()["metadata"]["resourceVersion"]
        patch = {"metadata": {"labels": {"a": "b"}}}
        headers = {"content-type": "application/merge-patch+json"}
        changed = await http.patch(f"{NETWORKS}/web", content=json.dumps(patch), headers=headers)
        await http.delete(f"{NETWORKS}/web")
    _, update, delete = demo.records
    assert (update["verb"], update["before"], update["after"]) == (
        "update", made, changed.json()["metadata"]["resourceVersion"],
    )  # fmt: skip
    assert (delete["verb"], delete["before"]) == ("delete", update["after"])


async def test_reads_and_dry_runs_are_not_recorded(demo: Audited) -> None:
    async with demo.api.raw() as http:
        await http.get(NETWORKS)
        await http.get(f"{NETWORKS}/nothing")
        await http.post(NETWORKS, json=network(), params={"dryRun": "All"})
    assert demo.records == []


async def test_what_only_looks_like_a_dry_run_is_recorded(demo: Audited) -> None:
    headers = {"content-type": "application/apply-patch+json"}
    async with demo.api.raw() as http:
        manager = {"fieldManager": "dryRun=All"}
        made = await http.post(f"{NETWORKS}?fieldManager=dryRun=All", json=network())
        applied = await http.patch(f"{NETWORKS}/db", json=network("db"), params=manager, headers=headers)
        deleted = await http.delete(f"{NETWORKS}/web?fieldManager=dryRun=All")
        await http.post(f"{NETWORKS}?%64ryRun=All", json=network("tried"))
    assert made.status_code == applied.status_code + 1 == 201, (made.text, applied.text)
    assert deleted.is_success, deleted.text
    assert [(r["verb"], r["name"], r["outcome"]) for r in demo.records] == [
        ("create", "web", "Allowed"), ("create", "db", "Allowed"), ("delete", "web", "Allowed"),
    ]  # fmt: skip


async def test_what_fails_is_recorded_with_the_reason(demo: Audited) -> None:
    async with demo.api.raw() as http:
        await http.post(NETWORKS, json=network(nonsense=1))
        await http.delete(f"{NETWORKS}/nothing")
    invalid, missing = demo.records
    assert (invalid["outcome"], invalid["status"], invalid["reason"], invalid["name"]) == (
        "Failed", 422, "Invalid", "web",
    )  # fmt: skip
    assert (missing["outcome"], missing["status"], missing["name"]) == ("Failed", 404, "nothing")


async def test_who_is_nobody_is_recorded_whatever_is_asked_for(demo: Audited) -> None:
    async with demo.api.raw(demo.api.settings(token="wrong-token-wrong-token")) as http:
        await http.get(NETWORKS)
    async with demo.api.raw(demo.api.settings(token=None)) as http:
        await http.post(NETWORKS, json=network())
    read, write = demo.records
    assert [(r["subject"], r["outcome"], r["status"]) for r in (read, write)] == [("anonymous", "Denied", 401)] * 2
    assert "wrong-token" not in json.dumps(demo.records)


async def test_a_host_that_reaches_too_far_is_recorded_and_its_reports_are_not(demo: Audited) -> None:
    await create_samples(demo.api, "Flavor", "Image", "Network", "Subnet", "SSHKey", "SecurityGroup", "Instance")
    settings = await demo.api.register("h1")
    async with demo.api.raw(settings) as http:
        await http.post("/api/v1/hosts/h1/heartbeat")
        status = {"status": {"agentVersion": "1"}}
        headers = {"content-type": "application/merge-patch+json"}
        await http.patch("/api/v1/hosts/h1/status", content=json.dumps(status), headers=headers)
        await http.get("/api/v1/instances")
        await http.delete(f"{NETWORKS}/web")
    assert [(r["subject"], r["outcome"], r["verb"]) for r in demo.records] == [
        ("system:host:h1", "Denied", "list"),
        ("system:host:h1", "Denied", "delete"),
    ]


async def test_a_join_attempt_is_recorded_without_its_token(demo: Audited) -> None:
    async with demo.api.raw(demo.api.settings(token=None)) as http:
        body = {"token": "a-token-that-is-wrong", "hostName": "h9", "csr": generate_key_and_csr("h9")[1].decode()}
        answer = await http.post("/api/v1/join", json=body)
    (record,) = demo.records
    assert answer.status_code == 403
    assert (record["verb"], record["name"], record["outcome"]) == ("join", "h9", "Denied")
    assert "a-token" not in json.dumps(record)


async def test_a_failed_login_is_recorded_by_the_names_of_users_only(demo: Audited) -> None:
    await create_samples(demo.api, "Domain", "User")
    name = (await demo.api.store.list(get_kind("User"), None)).items
    user = json.loads(name[0])["metadata"]["name"]
    async with demo.api.raw(demo.api.settings(token=None)) as http:
        for who in (user, "my-secret-password"):
            answer = await http.post("/api/v1/auth/login", json={"user": who, "password": "planted-password-1"})
            assert answer.status_code == 401
    assert [(r["verb"], r["user"], r["outcome"]) for r in demo.records] == [
        ("login", user, "Denied"),
        ("login", "(unknown)", "Denied"),
    ]
    assert "planted" not in json.dumps(demo.records)
    assert "my-secret" not in json.dumps(demo.records)


async def test_bodies_are_kept_where_rights_change_and_without_secrets(demo: Audited) -> None:
    role = {"metadata": {"name": "viewer"}, "spec": {"rules": [{"verbs": ["get"], "kinds": ["Instance"]}]}}
    role["metadata"]["annotations"] = {"example.org/password": "planted", "note": "eyJhbGciOiJub25l.eyJzdWIiOiJ4.x"}  # type: ignore[index]
    async with demo.api.raw() as http:
        assert (await http.post("/api/v1/roles", json=role)).status_code == 201
    (record,) = demo.records
    assert record["level"] == "Request"
    assert record["body"]["spec"]["rules"][0]["verbs"] == ["get"]
    assert record["body"]["metadata"]["annotations"] == {"example.org/password": "(removed)", "note": "(removed)"}


async def test_levels_are_set_by_kind(open_audited: Open) -> None:
    kinds = {"Network": KindLevels(writes=Level.NONE, reads=Level.METADATA)}
    async with open_audited(kinds=kinds) as audited:
        await create_samples(audited.api, "Project")
        async with audited.api.raw() as http:
            await http.post(NETWORKS, json=network())
            await http.get(NETWORKS)
        async with audited.api.raw(audited.api.settings(token=None)) as http:
            await http.post(NETWORKS, json=network())
        assert [(r["verb"], r["outcome"]) for r in audited.records] == [("list", "Allowed"), ("create", "Denied")]


async def test_levels_change_while_the_server_runs_and_that_is_recorded(open_audited: Open) -> None:
    async with open_audited(writes=Level.NONE) as audited:
        await create_samples(audited.api, "Project")
        async with audited.api.raw() as http:
            await http.post(NETWORKS, json=network("one"))
            same = audited.trail.settings
            audited.trail.use(same)
            audited.trail.use(dataclasses.replace(same, kinds={"Network": KindLevels(writes=Level.REQUEST)}))
            await http.post(NETWORKS, json=network("two"))
            await http.post("/api/v1/projects", json={"metadata": {"name": "three"}, "spec": {}})
        found = [(r["verb"], r.get("name"), r.get("level")) for r in audited.records]
    assert found == [("policy", None, None), ("create", "two", "Request"), ("create", "three", "Request")]
    assert "Network Request/None" in audited.records[0]["message"]
    assert verified(lines_of(audited.trail.settings.folder)).intact


async def test_a_flood_of_denials_is_counted_and_does_not_hide_other_callers(demo: Audited) -> None:
    async with demo.api.raw(demo.api.settings(token=None)) as http:
        sent = denied = 0
        while denied == sent:  # each second ten more are recorded, so on a slow machine it takes more of them
            assert sent < 5000
            await asyncio.gather(*(http.get(NETWORKS) for _ in range(100)))
            sent += 100
            denied = sum(r["outcome"] == "Denied" for r in demo.records)
    assert denied >= 200
    async with demo.api.raw() as http:
        await http.post(NETWORKS, json=network())
    assert any(r["verb"] == "create" for r in demo.records)  # what was counted may be told of after it


@pytest.mark.parametrize("forged", ['x"\n{"hash":"', "a\rb", "a\u2028b", "a\u202eb", "a\x1b[2Jb", "\ud800", "x" * 5000])
async def test_nobody_forges_a_line(demo: Audited, forged: str) -> None:
    async with demo.api.raw() as http:
        path = quote(forged.encode("utf-8", "surrogatepass"))
        await http.delete(f"{NETWORKS}/{path}")
        agent = forged.encode("utf-8", "surrogatepass").replace(b"\n", b"").replace(b"\r", b"").replace(b"\x1b", b"")
        await http.post(NETWORKS, json=network(forged if forged != "\ud800" else "?"), headers={b"user-agent": agent})
        await http.post(NETWORKS, json=network("good"))
    lines = lines_of(demo.trail.settings.folder)
    assert verified(lines).intact
    assert demo.records[-1]["name"] == "good"
    for record in demo.records:
        texts = [v for v in record.values() if isinstance(v, str)]
        assert all(not set(v) & set("\n\r\x1b\u2028\u202e") and len(v) <= 256 for v in texts), record


async def test_a_full_disk_stops_writes_before_they_are_done_and_lets_reads_through(open_audited: Open) -> None:
    async with open_audited(reserve_mib=2**40) as audited:
        await create_samples(audited.api, "Project")
        async with audited.api.raw() as http:
            refused = await http.post(NETWORKS, json=network())
            assert refused.status_code == 503
            assert "nothing was done" in refused.json()["message"]
            assert (await http.get(f"{NETWORKS}/web")).status_code == 404
            assert (await http.get(NETWORKS)).status_code == 200


async def test_many_writers_at_once_are_all_recorded(demo: Audited) -> None:
    async with demo.api.raw() as http:
        await asyncio.gather(*(http.post(NETWORKS, json=network(f"n-{n}")) for n in range(100)))
    assert {r["name"] for r in demo.records} == {f"n-{n}" for n in range(100)}
    assert verified(lines_of(demo.trail.settings.folder)).intact


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("Application/YAML", "metadata: {name: two}\nspec: {mtuBytes: 1400}\n"),
        ("application/yaml; charset=utf-8", "metadata: {name: two}\nspec: {mtuBytes: 1400}\n"),
        ("application/json; note=yaml", '{"metadata": {"name": "two"},\t"spec": {"mtuBytes": 1400}}'),
    ],
)
async def test_a_body_is_read_as_the_handler_reads_it(audited: Audited, media_type: str, body: str) -> None:
    await create_samples(audited.api, "Project")
    audited.trail.use(dataclasses.replace(audited.trail.settings, kinds={"Network": KindLevels(writes=Level.REQUEST)}))
    async with audited.api.raw() as http:
        answer = await http.post(NETWORKS, content=body.encode(), headers={"content-type": media_type})
    assert answer.status_code == 201, answer.text
    record = next(r for r in audited.records if r["verb"] == "create")
    assert record["body"]["spec"] == {"mtuBytes": 1400}
