"""What strangers are told of identity providers: what those say themselves, and nothing else."""

from typing import Any

from tests.fixtures.api import SYSTEM, Api, error_of
from vcstack.specs.registry import get_kind

OIDC = {"issuerUrl": "https://id.example.com", "clientId": "cloud", "clientSecret": "hunter2"}
LDAP = {"url": "ldaps://ldap.example.com", "userBaseDn": "ou=people,dc=example,dc=com"}


async def put(api: Api, name: str, type_: str = "OIDC", **spec: Any) -> None:
    section = {"OIDC": {"oidc": OIDC}, "LDAP": {"ldap": LDAP}}[type_]
    wire = {"metadata": {"name": name}, "spec": {"type": type_, **section, **spec}}
    await api.store.create(get_kind("IdentityProvider"), wire, actor=SYSTEM)


async def change(api: Api, name: str, **spec: Any) -> None:
    await api.store.merge_patch(get_kind("IdentityProvider"), None, name, {"spec": spec}, actor=SYSTEM)


async def told(api: Api, query: str = "", **headers: str) -> Any:
    """Return what somebody without a credential is answered."""
    async with api.raw(api.settings(token=None)) as http:
        answer = await http.get(f"/api/v1/auth/providers{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


async def names(api: Api, query: str = "") -> list[str]:
    return [item["name"] for item in (await told(api, query))["items"]]


async def test_a_provider_is_hidden_until_it_says_that_it_is_offered_and_then_tells_three_fields(api: Api) -> None:
    await put(api, "office", "LDAP", displayName="The office")
    await put(api, "corp", groupMapping=[])
    assert await told(api) == {"items": []}
    await change(api, "office", offered=True)
    await change(api, "corp", offered=True)
    corp = {"name": "corp", "displayName": "", "type": "OIDC"}
    assert await told(api) == {"items": [corp, {"name": "office", "displayName": "The office", "type": "LDAP"}]}
    assert await told(api, authorization="Bearer of nothing good") == await told(api), "nobody has to say who they are"


async def test_what_is_disabled_withdrawn_or_deleted_is_offered_no_more(api: Api) -> None:
    for name in ("a", "b", "c"):
        await put(api, name, offered=True)
    assert await names(api) == ["a", "b", "c"]
    await change(api, "a", enabled=False)
    await change(api, "b", offered=False)
    await api.store.delete(get_kind("IdentityProvider"), None, "c", actor=SYSTEM)
    assert await names(api) == []
    await change(api, "a", enabled=True)
    assert await names(api) == ["a"]


async def test_a_domains_provider_is_shown_to_who_came_for_the_domain_only(api: Api) -> None:
    """Else whoever may write one for a single customer could put a trap on everybody's page."""
    for domain in ("acme", "globex"):
        await api.store.create(get_kind("Domain"), {"metadata": {"name": domain}, "spec": {}}, actor=SYSTEM)
        await put(api, f"{domain}-id", offered=True, domain=domain)
    await put(api, "hidden", domain="acme")
    await put(api, "cloud", offered=True)
    assert await names(api) == ["cloud"]
    assert await names(api, "?domain=acme") == ["acme-id", "cloud"]
    assert await names(api, "?domain=not-there") == ["cloud"], "whether there is such a domain is not told"


async def test_the_list_knows_no_other_parameters_or_methods(api: Api) -> None:
    async with api.raw(api.settings(token=None)) as http:
        assert error_of(await http.get("/api/v1/auth/providers?all=true"))["reason"] == "BadRequest"
        assert (await http.post("/api/v1/auth/providers", json={})).status_code == 405
