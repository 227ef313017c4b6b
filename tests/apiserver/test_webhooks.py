"""Webhooks of Git servers, and what writing a GitSource and acting for one needs."""

import hashlib
import hmac
import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import put_roles
from tests.fixtures.api import SYSTEM, Api
from vcstack.apiserver.auth.tokens import Bearer
from vcstack.apiserver.webhooks import SPACING_SECONDS
from vcstack.specs.kinds.gitsource import REQUESTED
from vcstack.specs.registry import get_kind

BODY = b'{"ref": "refs/heads/main"}'
PATH = "/api/v1/webhooks/git/demo/shop"
URL = "https://git.example.com/shop.git"


def sign(body: bytes, secret: str = "s3cret") -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.fixture
async def shop(api: Api) -> Api:
    """A source with a webhook, applied as deployer, who is a member of the project."""
    await put_roles(api)
    await put(api, "Project", "demo", {})
    await put(api, "ServiceAccount", "deployer", {}, "demo")
    subject = {"kind": "ServiceAccount", "name": "deployer"}
    await put(api, "RoleBinding", "deployer", {"subject": subject, "role": "member"}, "demo")
    await put(api, "Secret", "hook", {"data": {"secret": "s3cret"}}, "demo")
    spec = {"url": URL, "serviceAccount": "deployer", "webhook": {"name": "hook", "key": "secret"}}
    await put(api, "GitSource", "shop", spec, "demo")
    return api


async def requested(api: Api) -> str | None:
    stored = await api.store.get(get_kind("GitSource"), "demo", "shop")
    return (stored.wire["metadata"].get("annotations") or {}).get(REQUESTED)


@pytest.mark.parametrize(
    ("header", "prefix"), [("x-hub-signature-256", "sha256="), ("x-gitea-signature", ""), ("x-forgejo-signature", "")]
)
async def test_a_push_has_the_source_look_at_once(shop: Api, header: str, prefix: str) -> None:
    async with shop.raw(shop.settings(token=None)) as nobody:
        answer = await nobody.post(PATH, content=BODY, headers={header: prefix + sign(BODY)})
        assert answer.status_code == 202, answer.text
        first = await requested(shop)
        assert first
        # The next push has its turn when the first one's seconds are over, however soon it comes, and others with it.
        asked = [first]
        for _ in range(3):
            assert (await nobody.post(PATH, content=BODY, headers={header: prefix + sign(BODY)})).status_code == 202
            asked.append(await requested(shop) or "")
        turns = [datetime.fromisoformat(text) for text in dict.fromkeys(asked)]
        assert len(turns) > 1
        assert all(b - a >= timedelta(seconds=SPACING_SECONDS - 1) for a, b in itertools.pairwise(turns))


async def test_without_the_secret_nobody_learns_anything(shop: Api) -> None:
    answers = []
    async with shop.raw(shop.settings(token=None)) as nobody:
        for path, headers, body in (
            (PATH, {}, BODY),
            (PATH, {"x-hub-signature-256": "sha256=" + sign(BODY, "wrong")}, BODY),
            (PATH, {"x-hub-signature-256": "sha256=" + sign(BODY)}, BODY + b" "),
            (PATH, {"x-hub-signature-256": "sha256=" + sign(BODY, "")}, BODY),
            (PATH, {"x-hub-signature-256": "sha256=" + sign(BODY, "-")}, BODY),
            (PATH.replace("shop", "nothing"), {"x-hub-signature-256": "sha256=" + sign(BODY, "-")}, BODY),
            (PATH.replace("demo", "nowhere"), {}, BODY),
        ):
            answer = await nobody.post(path, content=body, headers=headers)
            answers.append((answer.status_code, answer.json()["message"]))
        assert set(answers) == {(401, "there is no such webhook, or the signature is wrong")}
        assert (await nobody.get(PATH)).status_code == 405
        signed = {"x-hub-signature-256": "sha256=" + sign(BODY)}
        assert (await nobody.post(f"{PATH}?dryRun=All", content=BODY, headers=signed)).status_code == 400
        assert (await nobody.post(PATH, content=b"x" * (1024 * 1024 + 1))).status_code == 413
    assert await requested(shop) is None


async def test_whoever_writes_a_source_must_have_what_its_account_may(shop: Api) -> None:
    await put(shop, "User", "alice", {})
    await put(shop, "User", "mary", {})
    for name, role in (("alice", "project-admin"), ("mary", "source-writer")):
        if role == "source-writer":
            rules = [{"verbs": ["*"], "kinds": ["GitSource"]}]
            await shop.store.create(
                get_kind("Role"), {"metadata": {"name": role}, "spec": {"rules": rules}}, actor=SYSTEM
            )
        await put(shop, "RoleBinding", name, {"subject": {"kind": "User", "name": name}, "role": role}, "demo")
    await put(shop, "ServiceAccount", "chief", {}, "demo")
    await put(
        shop, "RoleBinding", "chief",
        {"subject": {"kind": "ServiceAccount", "name": "chief", "project": "demo"}, "role": "admin"},
    )  # fmt: skip
    path = "/api/v1/projects/demo/gitsources"

    def source(name: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"url": URL, "serviceAccount": "deployer", **spec}}

    async with as_(shop, await log_in(shop, "alice")) as alice, as_(shop, await log_in(shop, "mary")) as mary:
        assert (await alice.post(path, json=source("one", webhook={"name": "hook", "key": "secret"}))).is_success
        refused = await alice.post(path, json=source("two", serviceAccount="chief"))
        assert refused.status_code == 403
        assert "nobody grants what he does not have" in refused.json()["message"]
        # Who may write sources and nothing else may not have others' rights used, nor what they applied replaced.
        assert (await mary.post(path, json=source("three"))).status_code == 403
        merge = {"content-type": "application/merge-patch+json"}
        for spec, code in (
            ({"url": "https://evil.example.com/x.git"}, 403),
            ({"path": "elsewhere"}, 403),
            ({"intervalSeconds": 60}, 200),
            ({"suspend": True}, 200),
            ({"suspend": False}, 403),
        ):
            answer = await mary.patch(f"{path}/one", json={"spec": spec}, headers=merge)
            assert answer.status_code == code, (spec, answer.text)


async def test_a_token_for_a_source_ends_with_what_the_source_says(shop: Api) -> None:
    account = (await shop.store.get(get_kind("ServiceAccount"), "demo", "deployer")).wire["metadata"]["uid"]
    source = (await shop.store.get(get_kind("GitSource"), "demo", "shop")).wire["metadata"]["uid"]
    subject = "serviceaccount:demo/deployer"

    def token(of: str) -> str:
        return shop.auth.tokens.issue(Bearer(subject=subject, uid=account, source=of))[0]

    async def status(text: str) -> int:
        async with as_(shop, text) as client:
            return (await client.get("/api/v1/projects/demo/networks")).status_code

    good = token(f"shop/{source}")
    assert await status(good) == 200
    assert await status(token("shop/another-uid")) == await status(token("nothing/x")) == 401

    async def patch(**spec: Any) -> None:
        await shop.store.merge_patch(get_kind("GitSource"), "demo", "shop", {"spec": spec}, actor=SYSTEM)

    await patch(suspend=True)
    assert await status(good) == 401
    await patch(suspend=False)
    assert await status(good) == 200
    await patch(deletionPolicy="Delete")
    await shop.store.delete(get_kind("GitSource"), "demo", "shop", actor=SYSTEM)
    assert await status(good) == 200, "it has its objects to delete"
    await patch(deletionPolicy="Orphan")
    assert await status(good) == 401
    await patch(deletionPolicy="Delete")
    await put(shop, "ServiceAccount", "other", {}, "demo")
    await patch(serviceAccount="other")
    assert await status(good) == 401
