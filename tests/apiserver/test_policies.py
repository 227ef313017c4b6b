"""Policies over HTTP: what is denied and warned of, for whom, and that nobody locks himself out."""

from typing import Any

import httpx2
import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fixtures.api import Api, error_of
from vcstack.policy.sandbox import CUSTOMER_PAYERS, SAVED_SECONDS, TOO_MANY, TOO_OFTEN, Sandbox
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.store.actor import Actor

Http = httpx2.AsyncClient
MERGE = {"content-type": "application/merge-patch+json"}
APPLY = {"content-type": "application/apply-patch+yaml"}


@pytest.fixture
async def cloud(api: Api) -> Api:
    """Projects mine and theirs in acme; alice is a member of mine, pat administers it, dora the domain."""
    await put_roles(api)
    await put(api, "Domain", "acme", {})
    for project in ("mine", "theirs"):
        await put(api, "Project", project, {"domain": "acme"})
    for name in ("alice", "pat", "dora"):
        await put(api, "User", name, {"domain": "acme"})
    await bind(api, "alice", "alice", "member", "mine")
    await bind(api, "pat", "pat", "project-admin", "mine")
    await bind(api, "dora", "dora", "domain-admin", domain="acme")
    return api


def policy(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"matches": {"kinds": ["Network"]}, **spec}}


COST = {"requireLabels": [{"key": "cost"}]}


def rule(expression: str, message: str = "", **spec: Any) -> dict[str, Any]:
    return {"rules": [{"name": "r", "expression": expression, "message": message}], **spec}


async def set_policy(client: Http, base: str = "", **spec: Any) -> httpx2.Response:
    return await client.post(f"/api/v1{base}/policies", json=policy(**spec))


async def create(client: Http, name: str, project: str = "mine", query: str = "", **labels: str) -> httpx2.Response:
    wire = {"metadata": {"name": name, "labels": labels}, "spec": {}}
    return await client.post(f"/api/v1/projects/{project}/networks{query}", json=wire)


async def test_a_write_that_breaks_a_policy_is_denied_and_told_which(cloud: Api) -> None:
    async with cloud.raw() as admin, as_(cloud, await log_in(cloud, "alice")) as alice:
        spec = COST | rule("object.metadata.name.startsWith('net-')", "Call networks net-something.")
        assert (await set_policy(admin, **spec)).status_code == 201
        answer = await create(alice, "web")
        error = error_of(answer)
        assert (answer.status_code, error["reason"]) == (403, "PolicyDenied")
        assert [(c["field"], c["message"]) for c in error["details"]["causes"]] == [
            ("metadata.labels.cost", "policy p of the cloud, label cost: the label cost is required"),
            ("spec", "policy p of the cloud, r: Call networks net-something."),
        ]
        assert (await create(alice, "net-a", cost="1")).status_code == 201
        assert (await alice.get("/api/v1/projects/mine/networks/web")).status_code == 404


async def test_whose_policies_take_long_to_read_waits_alone_and_can_remove_them(cloud: Api) -> None:
    sandbox = cloud.application._policies.evaluating
    assert isinstance(sandbox, Sandbox)
    rules = [{"name": f"r{n}", "expression": f"object.spec.a.exists(x, x == {n})"} for n in range(32)]
    labels = [{"key": "cost", "valuePattern": "[0-9]{4}"}]
    async with as_(cloud, await log_in(cloud, "pat")) as pat, as_(cloud, await log_in(cloud, "dora")) as dora:
        assert (await set_policy(pat, "/projects/mine", rules=rules, requireLabels=labels)).status_code == 201
        assert set(sandbox._spent) == {"writer user:pat"}
        spent, _ = sandbox._spent["writer user:pat"]  # as it was then: a busy machine makes up for it while it waits
        assert spent > 0
        sandbox._charge("writer user:pat", 2 * SAVED_SECONDS)
        answer = await pat.put("/api/v1/projects/mine/policies/p", json=policy(**rule("true")))
        assert answer.status_code == 503
        assert error_of(answer)["message"] == TOO_MANY
        assert (await set_policy(dora, "/projects/mine", **rule("true"))).status_code == 409, "hers are read"
        assert (await dora.put("/api/v1/projects/mine/policies/p", json=policy(**rule("true")))).status_code == 200
        assert (await pat.delete("/api/v1/projects/mine/policies/p")).is_success


async def test_all_ways_to_write_are_held_to_it(cloud: Api) -> None:
    async with cloud.raw() as admin, as_(cloud, await log_in(cloud, "alice")) as alice:
        assert (await create(alice, "old", cost="1")).status_code == 201
        assert (await set_policy(admin, **COST)).status_code == 201
        path = "/api/v1/projects/mine/networks/old"
        gone = {"metadata": {"labels": {"cost": None}}}
        bare = {"metadata": {"name": "old"}, "spec": {}}
        new = {"apiVersion": "vcstack.io/v1", "kind": "Network", "metadata": {"name": "new"}, "spec": {}}
        answers = [
            await alice.patch(path, json=gone, headers=MERGE),
            await alice.put(path, json=bare),
            await alice.patch(f"{path[:-3]}new?fieldManager=x", json=new, headers=APPLY),
            await create(alice, "new", query="?dryRun=All"),
            await create(admin, "new"),
        ]
        assert [(a.status_code, error_of(a)["reason"]) for a in answers] == [(403, "PolicyDenied")] * 5
        assert (await alice.patch(path, json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE)).status_code == 200


async def test_a_warning_comes_with_the_answer_also_of_a_dry_run(cloud: Api) -> None:
    async with cloud.raw() as admin, as_(cloud, await log_in(cloud, "alice")) as alice:
        spec = rule("object.metadata.name != 'web'", 'Not "web", \u00fc\n please', action="Warn")
        assert (await set_policy(admin, **spec)).status_code == 201
        for query in ("?dryRun=All", ""):
            answer = await create(alice, "web", query=query)
            text = "Network web: policy p of the cloud, r: Not"
            assert answer.status_code == 201
            assert answer.headers["warning"] == f'299 - "{text} \\"web\\", \\\\xfc  please"'
        assert "warning" not in (await create(alice, "other")).headers


async def test_one_that_only_audits_stops_and_says_nothing(cloud: Api) -> None:
    async with cloud.raw() as admin, as_(cloud, await log_in(cloud, "alice")) as alice:
        assert (await set_policy(admin, **COST, action="Audit")).status_code == 201
        answer = await create(alice, "web")
        assert (answer.status_code, "warning" in answer.headers) == (201, False)


async def test_a_deletion_can_be_forbidden_and_what_is_going_goes(cloud: Api) -> None:
    async with cloud.raw() as admin, as_(cloud, await log_in(cloud, "alice")) as alice:
        await create(alice, "net")
        matches = {"kinds": ["Network"], "verbs": ["delete"]}
        spec = rule("request.verb == 'delete' && !('keep' in object.metadata.labels)", matches=matches)
        assert (await set_policy(admin, **spec)).status_code == 201
        path = "/api/v1/projects/mine/networks/net"
        await alice.patch(path, json={"metadata": {"labels": {"keep": "1"}}}, headers=MERGE)
        assert (await alice.delete(path)).status_code == 403
        await alice.patch(path, json={"metadata": {"labels": {"keep": None}}}, headers=MERGE)
        assert (await alice.delete(path)).status_code == 200
        assert (await alice.delete(path)).status_code == 200


async def test_what_was_and_who_asks_is_known_to_expressions(cloud: Api) -> None:
    async with cloud.raw() as admin, as_(cloud, await log_in(cloud, "alice")) as alice:
        text = "oldObject == null || request.subject == 'admin' || oldObject.metadata.labels == object.metadata.labels"
        assert (await set_policy(admin, **rule(text))).status_code == 201
        assert (await create(alice, "net", a="1")).status_code == 201
        path, change = "/api/v1/projects/mine/networks/net", {"metadata": {"labels": {"a": "2"}}}
        assert (await alice.patch(path, json=change, headers=MERGE)).status_code == 403
        assert (await admin.patch(path, json=change, headers=MERGE)).status_code == 200


async def test_an_expression_that_fails_denies_or_is_ignored_as_asked(cloud: Api) -> None:
    async with cloud.raw() as admin, as_(cloud, await log_in(cloud, "alice")) as alice:
        text = "object.spec.nothing.at.all == 1"
        assert (await set_policy(admin, **rule(text))).status_code == 201
        message = error_of(await create(alice, "web"))["message"]
        assert "policy p of the cloud, r: cannot be evaluated: Key not found" in message
        change = {"spec": {"failurePolicy": "Ignore"}}
        assert (await admin.patch("/api/v1/policies/p", json=change, headers=MERGE)).status_code == 200
        assert (await create(alice, "web")).status_code == 201


async def test_a_policy_that_denies_everything_can_be_repaired_and_removed(cloud: Api) -> None:
    async with cloud.raw() as admin, as_(cloud, await log_in(cloud, "alice")) as alice:
        all_kinds = {"kinds": ["*"], "verbs": ["create", "update", "delete"]}
        assert (await set_policy(admin, **rule("false", matches=all_kinds))).status_code == 201
        assert (await create(alice, "web")).status_code == 403
        assert (await admin.post("/api/v1/domains", json={"metadata": {"name": "x"}})).status_code == 403
        assert (await set_policy(admin, "/projects/mine", **COST)).status_code == 201
        changed = await admin.patch("/api/v1/policies/p", json={"spec": {"action": "Warn"}}, headers=MERGE)
        assert changed.status_code == 200
        assert (await create(alice, "web", cost="1")).status_code == 201
        assert (await admin.delete("/api/v1/policies/p")).status_code in (200, 204)


async def test_the_clouds_own_parts_are_not_held(cloud: Api) -> None:
    async with cloud.raw() as admin:
        assert (await set_policy(admin, **rule("false", matches={"kinds": ["*"]}))).status_code == 201
    system = cloud.store.bound(Actor("system:controller:test", "test"))
    made = await system.create(Network.new("web", NetworkSpec(), project="mine"))
    assert await system.patch_status(made, {"conditions": []})


async def test_expressions_and_patterns_are_looked_at_when_they_are_written(cloud: Api) -> None:
    async with cloud.raw() as admin:
        labels = [{"key": "a"}, {"key": "b", "valuePattern": "("}, {"key": "c", "valuePattern": 'x"y\\d'}]
        rules = [{"name": "fine", "expression": "true"}, {"name": "broken", "expression": "object.("}]
        answer = await set_policy(admin, requireLabels=labels, rules=rules)
        assert answer.status_code == 422
        fields = [c["field"] for c in error_of(answer)["details"]["causes"]]
        assert fields == ["spec.rules[1].expression", "spec.requireLabels[1].valuePattern"]
        assert (await set_policy(admin, **rule("size(object.metadata.name)"))).status_code == 422
        assert (await admin.get("/api/v1/policies/p")).status_code == 404


async def test_a_project_policy_restricts_its_own_project_only(cloud: Api) -> None:
    async with as_(cloud, await log_in(cloud, "pat")) as pat, cloud.raw() as admin:
        assert (await set_policy(pat, "/projects/mine", **rule("false"))).status_code == 201
        assert (await set_policy(pat, **rule("false"))).status_code == 403
        assert (await set_policy(pat, "/projects/theirs", **rule("false"))).status_code == 404
        assert (await set_policy(pat, **rule("false", domain="acme"))).status_code in (403, 404)
        assert (await create(admin, "web", "theirs")).status_code == 201
        denied = await create(admin, "web", "mine")
        assert "policy p of project mine" in error_of(denied)["message"]


async def test_a_domain_policy_holds_for_all_below_and_members_write_none(cloud: Api) -> None:
    await put(cloud, "Project", "outside", {})
    async with as_(cloud, await log_in(cloud, "dora")) as dora, as_(cloud, await log_in(cloud, "alice")) as alice:
        assert (await set_policy(dora, **rule("false", domain="acme"))).status_code == 201
        everywhere = policy("everywhere", **rule("false"))
        assert (await dora.post("/api/v1/policies", json=everywhere)).status_code == 403
        assert (await set_policy(alice, "/projects/mine", **rule("false"))).status_code == 403
        assert (await create(alice, "web")).status_code == 403
    async with cloud.raw() as admin:
        assert (await create(admin, "web", "outside")).status_code == 201


async def test_secret_values_never_reach_an_expression(cloud: Api) -> None:
    async with cloud.raw() as admin:
        text = "object.spec.data.all(k, object.spec.data[k] == '***')"
        assert (await set_policy(admin, **rule(text, matches={"kinds": ["Secret"]}))).status_code == 201
        wire = {"metadata": {"name": "db"}, "spec": {"data": {"password": "correct horse"}}}
        assert (await admin.post("/api/v1/projects/mine/secrets", json=wire)).status_code == 201


async def test_a_hostile_expression_stops_its_own_writes_and_no_others(cloud: Api) -> None:
    text = "[object.metadata.annotations['a']]" + ".map(x, x + x)" * 25 + ".size() == 1"
    async with as_(cloud, await log_in(cloud, "pat")) as pat, cloud.raw() as admin:
        assert (await set_policy(pat, "/projects/mine", **rule(text))).status_code == 201
        wire = {"metadata": {"name": "web", "annotations": {"a": "x" * 4096}}, "spec": {}}
        for _ in range(2):
            answer = await pat.post("/api/v1/projects/mine/networks", json=wire)
            assert "takes too much time or memory" in error_of(answer)["message"]
        assert (await set_policy(admin, "/projects/theirs", **rule("true"))).status_code == 201
        assert (await create(admin, "web", "theirs")).status_code == 201


async def test_an_object_that_a_policy_takes_too_long_with_stops_no_others_writes_nor_its_repair(cloud: Api) -> None:
    text = "[object.metadata.annotations['a']]" + ".map(x, x + x)" * 17 + ".size() == 1"
    async with as_(cloud, await log_in(cloud, "alice")) as alice, cloud.raw() as admin:
        assert (await set_policy(admin, **rule(text))).status_code == 201
        for size, status in ((8192, 403), (1, 403)):
            wire = {"metadata": {"name": "web", "annotations": {"a": "x" * size}}, "spec": {}}
            answer = await alice.post("/api/v1/projects/mine/networks", json=wire)
            assert answer.status_code == status, answer.text
            assert "takes too much time or memory" in error_of(answer)["message"]
        wire = {"metadata": {"name": "web", "annotations": {"a": "x"}}, "spec": {}}
        answer = await admin.post("/api/v1/projects/theirs/networks", json=wire)
        assert answer.status_code == 201, answer.text
        spec = rule(text, action="Audit")
        assert (await admin.put("/api/v1/policies/p", json=policy(**spec))).status_code == 200


async def test_a_customers_projects_pay_for_their_policies_together(cloud: Api) -> None:
    sandbox = cloud.application._policies.evaluating
    assert isinstance(sandbox, Sandbox)
    await put(cloud, "Domain", "dev", {"parent": "acme"})
    await put(cloud, "Project", "below", {"domain": "dev"})
    await put(cloud, "Domain", "other", {})
    await put(cloud, "Project", "others", {"domain": "other"})
    async with cloud.raw() as admin:
        for project in ("mine", "below", "others"):
            assert (await set_policy(admin, f"/projects/{project}", **rule("true"))).status_code == 201
        for project in ("mine", "below"):
            assert (await create(admin, "web", project)).status_code == 201
        assert set(sandbox._spent) == {"project mine", "project below", "customer acme"}
        sandbox._charge("customer acme", 2 * CUSTOMER_PAYERS * SAVED_SECONDS)
        answers = [await create(admin, "more", project) for project in ("mine", "below", "others")]
        assert [a.status_code for a in answers] == [403, 403, 201]
        assert TOO_OFTEN in error_of(answers[0])["message"]
