"""The access index: what follows from bindings, roles, groups, users, domains and projects, at every moment."""

from datetime import timedelta

import pytest

from tests.apiserver.auth.organization import Org, rule
from tests.fakes.manual_clock import BEGINNING, ManualClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.store.objects import CONTROLLER
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.grants import KEYS_REMEMBERED
from vcstack.apiserver.auth.places import TOP, Place
from vcstack.specs.errors import Invalid
from vcstack.specs.permissions import Rule
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.cache import CacheSettings
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.ops import Put
from vcstack.store.store import Store, StoreSettings

INSTANCE, FLAVOR, IMAGE, PROJECT = (get_kind(k) for k in ("Instance", "Flavor", "Image", "Project"))
USER, SESSION, KEY = (get_kind(k) for k in ("User", "Session", "APIKey"))
ALICE, BOB, CI = Ref("User", None, "alice"), Ref("User", None, "bob"), Ref("ServiceAccount", "web", "ci")
WEB, SHOP, LONE = Place(project="web"), Place(project="shop"), Place(project="lone")


async def settle(store: Store) -> None:
    """Wait until the cache shows all that was written."""
    await store.cache.fresh()


async def forge(etcd: MemoryEtcd | EtcdClient, kind: str, name: str, spec: bytes) -> None:
    """Put an object into etcd past the store."""
    value = b'{"apiVersion":"vcstack.io/v1","kind":"%b","metadata":{"name":"%b"},"spec":%b,"status":{},"actor":{}}'
    key = f"/vcstack/{get_kind(kind).plural}/-/{name}".encode()
    await etcd.txn([], [Put(key, value % (kind.encode(), name.encode(), spec))])


@pytest.fixture
async def org(any_store: Store) -> Org:
    """Domain acme-dev in acme; projects web in acme-dev, shop in acme, lone at the top; alice, bob, ci."""
    org = Org(any_store)
    await org.put("Domain", "acme")
    await org.put("Domain", "acme-dev", {"parent": "acme"})
    await org.put("Domain", "other")
    await org.put("Project", "web", {"domain": "acme-dev"})
    await org.put("Project", "shop", {"domain": "acme"})
    await org.put("Project", "lone")
    await org.put("User", "alice", {"domain": "acme"})
    await org.put("User", "bob")
    await org.put("ServiceAccount", "ci", {}, "web")
    await org.put("Role", "dev-seer", {"rules": [rule("get list", "Instance", "env=dev")]})
    return org


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def index(any_store: Store, clock: ManualClock) -> AccessIndex:
    return AccessIndex(any_store.cache, clock)


async def test_somebody_without_bindings_may_nothing_and_sees_nothing(org: Org, index: AccessIndex) -> None:
    for subject in (ALICE, CI, Ref("User", None, "nobody"), Ref("ServiceAccount", "shop", "ci")):
        grants = index.grants(subject)
        assert not grants.may("get", INSTANCE, WEB)
        assert not grants.may("list", FLAVOR, TOP)
        assert not grants.sees(WEB)
        assert grants.projects_for("list", INSTANCE) == frozenset()


async def test_a_binding_in_a_project_holds_there_only(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "member", "web")
    grants = index.grants(ALICE)
    assert grants.may("create", INSTANCE, WEB)
    assert grants.may("get", PROJECT, WEB)
    assert not grants.may("update", PROJECT, WEB)
    assert not grants.may("get", INSTANCE, SHOP)
    assert grants.sees(WEB)
    assert not grants.sees(SHOP)
    assert grants.projects_for("list", INSTANCE) == {"web"}
    assert grants.projects_for("list", USER) == frozenset()


async def test_a_binding_on_a_domain_holds_for_all_below_it(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "domain-admin", domain="acme")
    grants = index.grants(ALICE)
    assert grants.may("delete", INSTANCE, WEB)
    assert grants.may("delete", INSTANCE, SHOP)
    assert not grants.may("get", INSTANCE, LONE)
    assert grants.may("create", USER, Place(domain="acme-dev"))
    assert not grants.may("create", USER, TOP)
    assert not grants.may("create", USER, Place(domain="other"))
    assert grants.projects_for("list", INSTANCE) == {"web", "shop"}
    await org.bind("b2", ("User", "bob"), "domain-admin", domain="acme-dev")
    assert index.grants(BOB).projects_for("list", INSTANCE) == {"web"}


async def test_a_binding_without_domain_holds_everywhere(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("ServiceAccount", "ci", "web"), "auditor")
    grants = index.grants(CI)
    assert all(grants.may("get", INSTANCE, place) for place in (WEB, SHOP, LONE))
    assert grants.may("list", get_kind("Host"), TOP)
    assert grants.projects_for("list", INSTANCE) is None
    assert not grants.may("get", INSTANCE, WEB, "log")


async def test_new_and_removed_projects_are_seen_at_once(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "reader", domain="acme")
    before = index.grants(ALICE)
    assert before.projects_for("list", INSTANCE) == {"web", "shop"}
    await org.put("Project", "new", {"domain": "acme-dev"})
    after = index.grants(ALICE)
    assert after is before, "a project is no right"
    assert after.projects_for("list", INSTANCE) == {"web", "shop", "new"}
    assert after.may("get", INSTANCE, Place(project="new"))
    await org.remove("Project", "new")
    assert not index.grants(ALICE).may("get", INSTANCE, Place(project="new"))


async def test_a_project_made_anew_in_another_domain_has_left_the_first_one(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "reader", domain="acme")
    assert index.grants(ALICE).may("get", INSTANCE, SHOP)
    await org.remove("Project", "shop")
    await org.put("Project", "shop", {"domain": "other"})
    assert not index.grants(ALICE).may("get", INSTANCE, SHOP)
    assert index.grants(ALICE).projects_for("list", INSTANCE) == {"web"}


async def test_a_binding_that_is_being_deleted_gives_nothing_even_if_something_holds_it(
    org: Org, index: AccessIndex
) -> None:
    await org.bind("b", ("User", "alice"), "reader", "web")
    patch = {"metadata": {"finalizers": ["example.com/audit"]}}
    await org.store.merge_patch(get_kind("RoleBinding"), "web", "b", patch, actor=CONTROLLER)
    assert index.grants(ALICE).sees(WEB)
    await org.remove("RoleBinding", "b", "web", wholly=False)
    assert not index.grants(ALICE).sees(WEB)


async def test_members_of_a_group_get_what_it_gets_while_they_are_in_it(org: Org, index: AccessIndex) -> None:
    await org.put("Group", "ops", {"members": ["alice"]})
    await org.bind("b", ("Group", "ops"), "member", "web")
    assert index.grants(ALICE).may("create", INSTANCE, WEB)
    assert not index.grants(BOB).may("create", INSTANCE, WEB)
    await org.put("Group", "ops", {"members": ["bob"]})
    assert not index.grants(ALICE).may("create", INSTANCE, WEB)
    assert index.grants(BOB).may("create", INSTANCE, WEB)
    await org.remove("Group", "ops", wholly=False)
    assert not index.grants(BOB).may("create", INSTANCE, WEB)


async def test_a_group_is_no_member_of_a_group_even_by_a_users_name(org: Org, index: AccessIndex) -> None:
    await org.put("Group", "outer", {"members": ["alice"]})
    await org.put("Group", "alice", {"members": ["bob"]})
    await org.bind("b", ("Group", "outer"), "member", "web")
    assert not index.grants(BOB).may("get", INSTANCE, WEB)


async def test_groups_that_a_provider_names_count_if_they_exist_and_are_for_users_only(
    org: Org, index: AccessIndex
) -> None:
    await org.put("Group", "ops")
    await org.bind("b", ("Group", "ops"), "member", "web")
    named = frozenset({"ops", "nothing"})
    assert index.grants(ALICE, named).may("get", INSTANCE, WEB)
    assert not index.grants(ALICE).may("get", INSTANCE, WEB)
    assert not index.grants(CI, named).may("get", INSTANCE, WEB)
    await org.remove("RoleBinding", "b", "web")
    assert not index.grants(ALICE, named).may("get", INSTANCE, WEB)


async def test_a_user_a_group_and_an_account_of_one_name_are_told_apart(org: Org, index: AccessIndex) -> None:
    await org.put("User", "ci")
    await org.put("Group", "ci")
    await org.put("ServiceAccount", "ci", {}, "shop")
    await org.bind("b", ("ServiceAccount", "ci", "web"), "reader", "lone")
    holders = [Ref("User", None, "ci"), Ref("ServiceAccount", "shop", "ci"), CI]
    assert [index.grants(ref).may("get", INSTANCE, LONE) for ref in holders] == [False, False, True]


async def test_a_disabled_or_deleted_user_may_nothing_from_then_on(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "admin")
    await org.bind("c", ("ServiceAccount", "ci", "web"), "admin")
    assert index.is_good(ALICE)
    assert index.grants(ALICE).may("get", INSTANCE, WEB)
    await org.put("User", "alice", {"domain": "acme", "enabled": False})
    assert not index.is_good(ALICE)
    assert not index.grants(ALICE).sees(WEB)
    assert index.find_potential(ALICE).sees(WEB)
    await org.put("User", "alice", {"domain": "acme", "enabled": True})
    assert index.grants(ALICE).sees(WEB)
    await org.remove("User", "alice", wholly=False)
    assert not index.is_good(ALICE)
    assert not index.grants(ALICE).sees(WEB)
    assert index.grants(CI).sees(WEB)
    await org.put("ServiceAccount", "ci", {"enabled": False}, "web")
    assert not index.grants(CI).sees(WEB)


async def test_an_expired_binding_gives_nothing_though_it_is_still_there(
    org: Org, index: AccessIndex, clock: ManualClock
) -> None:
    expiry = (BEGINNING + timedelta(hours=1)).isoformat()
    await org.bind("b", ("User", "alice"), "reader", "web", expiresAt=expiry)
    await org.bind("c", ("User", "alice"), "reader", "shop")
    assert index.grants(ALICE).may("get", INSTANCE, WEB)
    clock.skip(3599.9)
    assert index.grants(ALICE).may("get", INSTANCE, WEB)
    clock.skip(0.1)
    assert not index.grants(ALICE).may("get", INSTANCE, WEB)
    assert index.grants(ALICE).may("get", INSTANCE, SHOP)
    await org.bind("b", ("User", "alice"), "reader", "web", expiresAt="2030-01-01T00:00:00+05:00")
    assert index.grants(ALICE).may("get", INSTANCE, WEB)


async def test_a_binding_that_names_a_missing_role_gives_nothing_until_it_is_there(
    org: Org, index: AccessIndex
) -> None:
    await org.bind("b", ("User", "alice"), "later", "web")
    assert not index.grants(ALICE).sees(WEB)
    await org.put("Role", "later", {"rules": [rule("get", "Instance")]})
    assert index.grants(ALICE).may("get", INSTANCE, WEB)
    await org.put("Role", "later", {"rules": [rule("list", "Instance")]})
    assert not index.grants(ALICE).may("get", INSTANCE, WEB)
    await org.remove("Role", "later")
    assert not index.grants(ALICE).sees(WEB)


async def test_a_built_in_role_is_what_the_cloud_defines_whatever_lies_in_the_store(
    org: Org, index: AccessIndex, any_etcd: MemoryEtcd | EtcdClient
) -> None:
    await org.bind("b", ("User", "alice"), "reader", "web")
    await forge(any_etcd, "Role", "reader", b'{"rules":[{"verbs":["*"],"kinds":["*"]}]}')
    await settle(org.store)
    assert index.grants(ALICE).may("get", INSTANCE, WEB)
    assert not index.grants(ALICE).may("delete", INSTANCE, WEB)


async def test_what_cannot_be_read_gives_nothing_and_stops_nobody(
    org: Org, index: AccessIndex, any_etcd: MemoryEtcd | EtcdClient
) -> None:
    await org.bind("b", ("User", "bob"), "reader", "web")
    await forge(any_etcd, "RoleBinding", "bad", b'{"role":1}')
    await settle(org.store)
    assert not index.grants(ALICE).sees(WEB)
    assert index.grants(BOB).may("get", INSTANCE, WEB)


async def test_a_selector_narrows_reads_and_is_asked_of_new_labels(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "dev-seer", "web")
    grants = index.grants(ALICE)
    assert grants.may("get", INSTANCE, WEB, labels={"env": "dev"})
    assert not grants.may("get", INSTANCE, WEB, labels={"env": "prod"})
    assert not grants.may("get", INSTANCE, WEB, labels={})
    assert not grants.may("get", INSTANCE, WEB), "without looking at labels nothing is known"
    assert [s.matches({"env": "dev"}) for s in grants.selectors("get", INSTANCE, WEB)] == [True]
    assert grants.projects_for("list", INSTANCE) == {"web"}
    shown = {"metadata": {"project": "web", "name": "a", "labels": {"env": "dev"}}}
    hidden = {"metadata": {"project": "shop", "name": "a", "labels": {"env": "dev"}}}
    assert index.shows(grants, "list", INSTANCE, shown)
    assert not index.shows(grants, "list", INSTANCE, hidden)


async def test_what_is_shared_is_read_from_every_place_and_written_from_none(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "member", "web")
    grants = index.grants(ALICE)
    assert grants.may("list", FLAVOR, TOP)
    assert grants.may("get", IMAGE, TOP)
    assert grants.may("get", IMAGE, TOP, "content")
    assert not grants.may("create", IMAGE, TOP)
    assert not grants.may("update", IMAGE, TOP, "content")
    assert not grants.may("get", get_kind("Host"), TOP)
    assert not grants.may("get", IMAGE, SHOP)


async def test_objects_lie_where_their_kind_says(org: Org, index: AccessIndex) -> None:
    assert index.grants(ALICE)

    def place(kind: str, wire: dict[str, object], verb: str = "get") -> Place:
        return index.place_of(get_kind(kind), wire, verb=verb)

    def of(name: str, **spec: object) -> dict[str, object]:
        return {"metadata": {"name": name}, "spec": spec}

    assert place("Project", of("web", domain="acme-dev")) == WEB
    assert place("Project", of("web", domain="acme-dev"), "create") == Place(domain="acme-dev")
    assert place("Project", of("web", domain="acme-dev"), "delete") == Place(domain="acme-dev")
    assert place("Domain", of("acme-dev", parent="acme")) == Place(domain="acme-dev")
    assert place("Domain", of("acme-dev", parent="acme"), "update") == Place(domain="acme")
    assert place("Domain", of("acme"), "update") == TOP
    assert place("User", of("x", domain="acme")) == Place(domain="acme")
    assert place("RoleBinding", of("x", domain="acme")) == Place(domain="acme")
    assert place("RoleBinding", {"metadata": {"project": "web", "name": "x"}, "spec": {}}) == WEB
    assert place("APIKey", of("x", user="alice")) == Place(domain="acme")
    assert place("APIKey", of("x", user="nobody")) == TOP
    assert place("Session", of("x", subject={"kind": "User", "name": "alice"})) == Place(domain="acme")
    assert place("Session", of("x", subject={"kind": "ServiceAccount", "name": "ci", "project": "web"})) == WEB
    assert place("Host", of("h1")) == TOP
    assert index.owner_of(SESSION, of("x", subject={"kind": "User", "name": "alice"})) == ALICE
    assert index.owner_of(KEY, of("x", user="alice")) == ALICE
    assert index.owner_of(INSTANCE, of("x")) is None


async def test_the_place_of_what_is_not_there_is_not_known(org: Org, index: AccessIndex) -> None:
    index.grants(ALICE)
    await settle(org.store)
    assert index.find_place(USER, None, "alice", verb="get") == Place(domain="acme")
    assert index.find_place(USER, None, "nobody", verb="get") is None
    assert index.find_place(INSTANCE, "nowhere", "x", verb="get") == Place(project="nowhere")


async def test_the_same_grants_are_returned_until_something_of_theirs_changes(org: Org, index: AccessIndex) -> None:
    await org.put("Group", "ops", {"members": ["alice"]})
    await org.bind("b", ("User", "alice"), "member", "web")
    await org.bind("g", ("Group", "ops"), "dev-seer", "web")
    held = index.grants(ALICE)
    bobs = index.grants(BOB)
    await org.bind("x", ("User", "bob"), "reader", "web")
    await org.put("User", "carol")
    await org.put("Role", "unrelated", {"rules": [rule("get", "Instance")]})
    await org.store.patch_status(USER, None, "alice", {"lastLoginAt": "2026-11-01T12:00:00Z"}, actor=CONTROLLER)
    assert index.grants(ALICE) is held
    assert index.grants(BOB) is not bobs
    await org.put("Role", "dev-seer", {"rules": [rule("get", "Instance", "env=test")]})
    assert index.grants(ALICE) is not held


async def test_an_api_keys_rules_narrow_what_its_owner_may(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "member", "web")
    await org.bind("c", ("User", "alice"), "dev-seer", "shop")
    limit = [Rule(verbs=["get", "delete"], kinds=["Instance", "User"], label_selector="team=a")]
    held = index.grants(ALICE).restricted("key-1", limit)
    assert index.grants(ALICE).restricted("key-1", limit) is held
    assert held.may("get", INSTANCE, WEB, labels={"team": "a"})
    assert not held.may("get", INSTANCE, WEB, labels={"team": "b"})
    assert not held.may("list", INSTANCE, WEB, labels={"team": "a"})
    assert held.may("get", INSTANCE, SHOP, labels={"team": "a", "env": "dev"})
    assert not held.may("get", INSTANCE, SHOP, labels={"team": "a"})
    assert not held.may("delete", USER, TOP, labels={"team": "a"}), "the owner may not either"
    assert held.projects_for("list", INSTANCE) == frozenset()
    assert held.projects_for("get", INSTANCE) == {"web", "shop"}


async def test_a_cache_that_forgot_changes_is_read_anew(any_etcd: MemoryEtcd | EtcdClient, clock: ManualClock) -> None:
    settings = StoreSettings(cache=CacheSettings(ring=4))
    async with Store(any_etcd, settings=settings) as store:
        org, index = Org(store), AccessIndex(store.cache, clock)
        for name in ("alice", "bob"):
            await org.put("User", name)
        for n in range(3):
            await org.put("Project", f"p{n}")
        await org.bind("kept", ("User", "alice"), "reader", "p0")
        assert index.grants(ALICE).projects_for("list", INSTANCE) == {"p0"}
        for n in range(8):
            await org.bind(f"b{n}", ("User", "bob" if n < 7 else "alice"), "reader", "p1")
        await org.remove("RoleBinding", "kept", "p0")
        for n in range(6):
            await org.put("User", "alice", {"displayName": f"Alice {n}"})
        assert index.grants(ALICE).projects_for("list", INSTANCE) == {"p1"}
        assert index.grants(BOB).projects_for("list", INSTANCE) == {"p1"}


async def test_a_binding_cannot_be_made_for_nobody_even_where_references_may_be_missing(org: Org) -> None:
    for subject in (("User", "nobody"), ("Group", "alice"), ("ServiceAccount", "ci", "shop")):
        with pytest.raises(Invalid):
            await org.bind("b", subject, "admin")


async def test_what_came_and_went_leaves_nothing_in_the_index(org: Org, index: AccessIndex, any_store: Store) -> None:
    """Names are as many as people like to make and delete, or only to ask about."""

    def sizes() -> dict[str, int]:
        kept = {name: len(value) for name, value in vars(index).items() if isinstance(value, dict)}
        kept |= {name: len(value) for name, value in vars(index.organization).items() if isinstance(value, dict)}
        return kept | {"rests on": sum(map(len, index._rests_on.values()))}

    await org.put("Group", "team")
    await org.bind("b", ("User", "alice"), "domain-admin", domain="acme")
    index.grants(ALICE).may("get", USER, Place(domain="acme"))
    await settle(any_store)
    index.grants(ALICE).may("get", USER, Place(domain="acme"))
    before = sizes()
    for n in range(3):
        await org.put("User", f"u{n}")
        await org.put("Group", "team", {"members": [f"u{n}"]})
        await org.put("Domain", f"d{n}", {"parent": "acme"})
        await org.put("Project", f"p{n}", {"domain": f"d{n}"})
        await org.put("ServiceAccount", "ci", {}, f"p{n}")
        await org.bind("ci", ("ServiceAccount", "ci", f"p{n}"), "domain-admin", f"p{n}")
        await settle(any_store)
        assert index.grants(Ref("ServiceAccount", f"p{n}", "ci")).may("get", PROJECT, Place(project=f"p{n}"))
        assert index.groups_of(Ref("User", None, f"u{n}")) == {"team"}
        await org.put("Group", "team", {"members": []})
        await org.remove("RoleBinding", "ci", f"p{n}")
        await org.remove("ServiceAccount", "ci", f"p{n}")
        for kind, name in (("User", f"u{n}"), ("Project", f"p{n}"), ("Domain", f"d{n}")):
            await org.remove(kind, name)
        await settle(any_store)
        index.grants(ALICE).may("get", USER, Place(domain=f"nowhere-{n}"))
        index.grants(ALICE).may("get", USER, Place(domain="acme"))
    assert sizes() == before


async def test_grants_of_keys_that_are_used_no_more_are_forgotten(org: Org, index: AccessIndex) -> None:
    await org.bind("b", ("User", "alice"), "member", "web")
    grants, rules = index.grants(ALICE), [Rule(verbs=["get"], kinds=["Instance"])]
    used = grants.restricted("used", rules)
    for n in range(2 * KEYS_REMEMBERED):
        grants.restricted(n, rules)
        assert grants.restricted("used", rules) is used
    assert len(grants._restricted) == KEYS_REMEMBERED
