"""Settings over HTTP: which count where, for whom to see, and that they take effect while the server runs."""

from typing import Any

import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fixtures.api import Api, error_of
from vcstack.specs.registry import get_kind

EFFECTIVE = "/api/v1/effectivesettings"


@pytest.fixture
async def cloud(api: Api) -> Api:
    """The projects mine in the domain acme, of which alice is a member, and theirs; dora administers acme."""
    await put_roles(api)
    await put(api, "Domain", "acme", {})
    await put(api, "Domain", "other", {})
    await put(api, "Project", "mine", {"domain": "acme"})
    await put(api, "Project", "theirs", {"domain": "other"})
    for name in ("alice", "dora"):
        await put(api, "User", name, {"domain": "acme"})
    await bind(api, "alice", "alice", "member", "mine")
    await bind(api, "dora", "dora", "domain-admin", domain="acme")
    await put(api, "Setting", "cloud", {"setting": "images.maxSizeGiB", "value": 10})
    await put(api, "Setting", "acme", {"setting": "sessions.idle", "value": "2h", "domain": "acme"})
    await put(api, "Setting", "mine", {"setting": "images.maxSizeGiB", "value": 20, "locked": True}, "mine")
    return api


def of(body: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [item for item in body["items"] if item["setting"] == name]
    return {key: found[key] for key in ("value", "source", "place", "name")}


async def test_a_member_sees_what_counts_in_the_project_and_where_it_is_from(cloud: Api) -> None:
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        body = (await alice.get(EFFECTIVE, params={"project": "mine"})).json()
        assert of(body, "images.maxSizeGiB") == {"value": 20, "source": "Project", "place": "mine", "name": "mine"}
        assert of(body, "sessions.idle") == {"value": "2h", "source": "Domain", "place": "acme", "name": "acme"}
        assert of(body, "events.retention") == {"value": "24h", "source": "Default", "place": "", "name": ""}


async def test_what_is_stricter_above_counts_and_what_it_overrules_is_told(cloud: Api) -> None:
    await put(cloud, "Setting", "own", {"setting": "images.maxVirtualSizeGiB", "value": 80}, "mine")
    await put(cloud, "Setting", "strict", {"setting": "images.maxVirtualSizeGiB", "value": 60, "domain": "acme"})
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        body = (await alice.get(EFFECTIVE, params={"project": "mine"})).json()
    assert of(body, "images.maxVirtualSizeGiB") == {"value": 60, "source": "Domain", "place": "acme", "name": "strict"}
    [found] = [item for item in body["items"] if item["setting"] == "images.maxVirtualSizeGiB"]
    assert found["overrules"] == "Setting own of project mine: 80"


async def test_places_of_others_are_like_missing_ones(cloud: Api) -> None:
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        for param in ("project", "domain"):
            hidden = await alice.get(EFFECTIVE, params={param: "theirs" if param == "project" else "other"})
            missing = await alice.get(EFFECTIVE, params={param: "nowhere"})
            assert (hidden.status_code, missing.status_code) == (404, 404)
            there = "theirs" if param == "project" else "other"
            assert error_of(hidden)["message"].replace(there, "nowhere") == error_of(missing)["message"]
        assert (await alice.get(EFFECTIVE)).status_code == 403


def wanted(name: str, setting: str, value: object, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"setting": setting, "value": value, **spec}}


async def test_who_administers_a_domain_sets_what_is_delegated_within_what_counts_above(cloud: Api) -> None:
    async with as_(cloud, await log_in(cloud, "dora")) as dora:
        body = (await dora.get(EFFECTIVE, params={"domain": "acme"})).json()
        assert of(body, "sessions.idle")["value"] == "2h"
        tries = [
            (wanted("a", "images.maxSizeGiB", 11, domain="acme"), "at most 10"),
            (
                wanted("b", "scheduler.strategy", "Spread", domain="acme"),
                "set by who may set settings in the whole cloud",
            ),
            (wanted("c", "images.maxSizeGiB", 5, domain="other"), ""),
            (wanted("d", "images.maxSizeGiB", 5), ""),
            (wanted("e", "images.maxSizeGiB", 5, domain="acme", locked=True), "may not create Setting"),
            (wanted("f", "login.mfaRequired", True, domain="acme"), None),
            (wanted("g", "images.maxSizeGiB", 5, domain="acme"), None),
            (wanted("h", "login.notice", "hello", domain="acme"), None),
        ]
        for body, refusal in tries:
            answer = await dora.post("/api/v1/settings", json=body)
            assert answer.status_code == (201 if refusal is None else 403), answer.text
            assert (refusal or "") in answer.text
        # In the project: below what she has set for the domain herself, which she may raise within the cloud's.
        path = "/api/v1/projects/mine/settings"
        assert (await dora.post(path, json=wanted("few", "images.maxVirtualSizeGiB", 100))).status_code == 201
        patch = {"content-type": "application/merge-patch+json"}
        more = b'{"spec": {"value": 11}}'
        assert (await dora.patch("/api/v1/settings/g", content=more, headers=patch)).status_code == 403
        assert (await dora.patch("/api/v1/settings/g", content=b'{"spec": {"value": 10}}', headers=patch)).is_success
        assert (await dora.delete("/api/v1/settings/g")).is_success
        history = await cloud.store.get(get_kind("Setting"), None, "h")
        assert history.wire["spec"]["value"] == "hello"


async def test_who_administers_a_project_goes_no_further_than_its_domain(cloud: Api) -> None:
    await put(cloud, "User", "paul", {"domain": "acme"})
    await bind(cloud, "paul", "paul", "project-admin", "mine")
    await put(cloud, "Setting", "dom", {"setting": "events.retention", "value": "6h", "domain": "acme"})
    path = "/api/v1/projects/mine/settings"
    async with as_(cloud, await log_in(cloud, "paul")) as paul:
        assert "at most '6h'" in (await paul.post(path, json=wanted("long", "events.retention", "7h"))).text
        assert (await paul.post(path, json=wanted("short", "events.retention", "1h"))).status_code == 201
        body = (await paul.get(EFFECTIVE, params={"project": "mine"})).json()
        assert of(body, "events.retention")["value"] == "1h"
        # An exception for the project, made above.
        patch = {"content-type": "application/merge-patch+json"}
        raised = await paul.patch(f"{path}/mine", content=b'{"spec": {"value": 21}}', headers=patch)
        assert raised.status_code == 403
        assert (await paul.post("/api/v1/settings", json=wanted("x", "events.retention", "1h"))).status_code == 403
    async with as_(cloud, await log_in(cloud, "alice")) as alice:
        assert (await alice.post(path, json=wanted("y", "events.retention", "1h"))).status_code == 403


async def test_what_is_locked_stays_for_those_below(cloud: Api) -> None:
    patch = {"content-type": "application/merge-patch+json"}
    locked = {"setting": "sessions.lifetime", "value": "1h", "domain": "acme", "locked": True}
    await put(cloud, "Setting", "strict", locked)
    await put(cloud, "Setting", "proj", {"setting": "events.retention", "value": "1h", "locked": True}, "mine")
    await put(cloud, "User", "paul", {"domain": "acme"})
    await bind(cloud, "paul", "paul", "project-admin", "mine")
    async with as_(cloud, await log_in(cloud, "dora")) as dora, as_(cloud, await log_in(cloud, "paul")) as paul:
        for content in (b'{"spec": {"value": "30m"}}', b'{"spec": {"locked": false}}'):
            assert (await dora.patch("/api/v1/settings/strict", content=content, headers=patch)).status_code == 403
            path = "/api/v1/projects/mine/settings/proj"
            assert (await paul.patch(path, content=content, headers=patch)).status_code == 403
        assert (await dora.delete("/api/v1/settings/strict")).status_code == 403
        assert (await paul.delete("/api/v1/projects/mine/settings/proj")).status_code == 403
        body = (await paul.get(EFFECTIVE, params={"project": "mine"})).json()
        [found] = [item for item in body["items"] if item["setting"] == "events.retention"]
        assert found["locked"] is True
        assert (await dora.delete("/api/v1/projects/mine/settings/proj")).is_success  # hers is the level above


async def test_a_wrong_question_is_refused(cloud: Api) -> None:
    async with cloud.raw() as admin:
        assert (await admin.get(EFFECTIVE)).status_code == 200
        assert (await admin.get(EFFECTIVE, params={"project": "nowhere"})).status_code == 404
        assert (await admin.get(EFFECTIVE, params={"project": "mine", "domain": "acme"})).status_code == 400
        assert (await admin.get(EFFECTIVE, params={"user": "alice"})).status_code == 400
        assert (await admin.post(EFFECTIVE)).status_code == 405


async def test_a_wrong_value_names_the_field_and_a_wrong_name_the_nearest(cloud: Api) -> None:
    async with cloud.raw() as admin:
        for spec, field, word in (
            ({"setting": "session.idel", "value": "1h"}, "spec.setting", "did you mean sessions.idle?"),
            ({"setting": "sessions.idle", "value": 3600}, "spec.value", "must be a duration"),
            ({"setting": "sessions.idle", "value": 1.5}, "spec.value", ""),
            ({"setting": "sessions.idle", "value": {"x": 1}}, "spec.value", ""),
        ):
            answer = await admin.post("/api/v1/settings", json={"metadata": {"name": "x"}, "spec": spec})
            causes = error_of(answer)["details"]["causes"]
            assert answer.status_code == 422
            assert all(c["field"].startswith(field) and word in c["message"] for c in causes), causes


async def test_a_notice_is_told_to_the_users_of_the_domain(cloud: Api) -> None:
    await put(cloud, "Setting", "notice", {"setting": "login.notice", "value": "Be nice.", "domain": "acme"})
    async with as_(cloud, await log_in(cloud, "alice")) as alice, cloud.raw() as admin:
        assert (await alice.get("/api/v1/me")).json()["notice"] == "Be nice."
        assert "notice" not in (await admin.get("/api/v1/me")).json()


async def test_the_largest_image_of_a_project_is_a_setting_that_counts_at_once(cloud: Api) -> None:
    await put(cloud, "Image", "disk", {"format": "QCOW2"}, "mine")
    path = "/api/v1/projects/mine/images/disk/content"
    async with cloud.raw() as admin:

        async def announce(gib: int) -> int:
            total = gib * 2**30
            headers = {"content-range": f"bytes 0-3/{total}", "content-type": "application/octet-stream"}
            return (await admin.put(path, content=b"QFI\xfb", headers=headers)).status_code

        assert await announce(21) == 413
        changed = {"spec": {"value": 30}}
        media = {"content-type": "application/merge-patch+json"}
        answer = await admin.patch("/api/v1/projects/mine/settings/mine", json=changed, headers=media)
        assert answer.status_code == 200
        assert await announce(21) == 202
