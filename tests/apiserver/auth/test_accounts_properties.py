"""Whatever is written in whatever order, the index decides as one who reads all objects anew each time."""

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.apiserver.auth.organization import Org, rule
from tests.fakes.manual_clock import BEGINNING, ManualClock
from tests.fakes.memory_etcd import MemoryEtcd
from vcstack.apiserver.auth.accounts import AccessIndex
from vcstack.apiserver.auth.grants import Grants
from vcstack.apiserver.auth.places import TOP, Place
from vcstack.specs.permissions import Rule, allows, built_in_roles, covers
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.store.cache import CacheSettings
from vcstack.store.store import Store, StoreSettings

DOMAINS, PROJECTS, USERS, GROUPS = ["d0", "d1"], ["p0", "p1"], ["u0", "u1"], ["g0", "u0"]
ROLES = ["reader", "project-admin", "r0", "r1"]
SUBJECTS = [
    *(("User", u) for u in USERS),
    *(("Group", g) for g in GROUPS),
    *(("ServiceAccount", "u0", p) for p in PROJECTS),
]
RULES = [
    rule("get list", "Instance", "env=dev"),
    rule("*", "User RoleBinding"),
    rule("get", "*"),
    rule("get", "Flavor"),
]
HOURS = [None, 1, 2, 3]
Wire = Mapping[str, Any]

optional = st.none() | st.sampled_from(DOMAINS)
steps = st.one_of(
    st.tuples(st.just("domain"), st.sampled_from(DOMAINS), optional),
    st.tuples(st.just("project"), st.sampled_from(PROJECTS), optional),
    st.tuples(st.just("user"), st.sampled_from(USERS), st.booleans()),
    st.tuples(st.just("group"), st.sampled_from(GROUPS), st.lists(st.sampled_from(USERS), unique=True)),
    st.tuples(st.just("account"), st.sampled_from(PROJECTS), st.booleans()),
    st.tuples(st.just("role"), st.sampled_from(["r0", "r1"]), st.lists(st.sampled_from(RULES), max_size=2)),
    st.tuples(
        st.just("bind"),
        st.sampled_from(["b0", "b1", "b2"]),
        st.tuples(
            st.sampled_from(SUBJECTS),
            st.sampled_from(ROLES),
            st.none() | st.sampled_from(PROJECTS),
            optional,
            st.sampled_from(HOURS),
        ),
    ),
    st.tuples(
        st.just("remove"),
        st.sampled_from(
            [
                *(("User", u) for u in USERS),
                *(("Group", g) for g in GROUPS),
                *(("Role", r) for r in ("r0", "r1")),
                *(("Project", p) for p in PROJECTS),
                *(("Domain", d) for d in DOMAINS),
                *(("RoleBinding", b) for b in ("b0", "b1", "b2")),
                *(("RoleBinding", b, p) for b in ("b0", "b1") for p in PROJECTS),
            ]
        ),
        st.booleans(),
    ),
    st.tuples(st.just("wait"), st.just("1800"), st.none()),
)


async def run_step(org: Org, clock: ManualClock, step: tuple[str, Any, Any]) -> None:
    verb, name, value = step
    if verb == "wait":
        clock.skip(int(name))
    elif verb in ("domain", "project"):
        spec = {{"domain": "parent", "project": "domain"}[verb]: value} if value else {}
        await org.try_("put", verb.capitalize(), name, spec)
    elif verb == "user":
        await org.try_("put", "User", name, {"enabled": value})
    elif verb == "group":
        await org.try_("put", "Group", name, {"members": value})
    elif verb == "account":
        await org.try_("put", "ServiceAccount", "u0", {"enabled": value}, name)
    elif verb == "role":
        await org.try_("put", "Role", name, {"rules": value})
    elif verb == "remove":
        await org.try_("remove", *name, wholly=value)
    else:
        subject, role, project, domain, hours = value
        spec = {"domain": domain} if domain and not project else {}
        if hours is not None:
            spec["expiresAt"] = (BEGINNING + timedelta(hours=hours)).isoformat()
        await org.try_("bind", name, subject, role, project, **spec)


async def make_world(org: Org) -> None:
    """Begin with grants of every sort, so that most steps change what somebody may do."""
    await org.put("Domain", "d0")
    await org.put("Domain", "d1", {"parent": "d0"})
    await org.put("Project", "p0", {"domain": "d1"})
    await org.put("Project", "p1")
    for name in USERS:
        await org.put("User", name)
    await org.put("Group", "g0", {"members": ["u0"]})
    await org.put("Group", "u0", {"members": ["u1"]})
    for project in PROJECTS:
        await org.put("ServiceAccount", "u0", {}, project)
    await org.put("Role", "r0", {"rules": RULES[:1]})
    await org.put("Role", "r1", {"rules": RULES[1:3]})
    await org.bind("b0", ("User", "u0"), "reader", domain="d0")
    await org.bind("b1", ("Group", "g0"), "r0")
    await org.bind("b0", ("ServiceAccount", "u0", "p1"), "project-admin", "p0")
    await org.bind("b1", ("Group", "u0"), "r1", "p0", expiresAt=(BEGINNING + timedelta(hours=1)).isoformat())


class Naive:
    """Decides by reading everything."""

    def __init__(self, etcd: MemoryEtcd, now: datetime) -> None:
        self.now = now
        self.objects: dict[Ref, Wire] = {}
        for key, value in etcd.snapshot().items():
            if not key.startswith(b"/vcstack/."):
                wire = orjson.loads(value)
                meta = wire["metadata"]
                self.objects[Ref(wire["kind"], meta.get("project"), meta["name"])] = wire

    def may(self, subject: Ref, verb: str, kind: str, place: Place, labels: dict[str, str] | None) -> bool:
        definition = get_kind(kind)
        shared = definition.shared and place == TOP and verb in ("get", "list", "watch")
        rules = self.rules(subject, None if shared else place)
        return allows(rules, verb, definition, "", labels)

    def rules(self, subject: Ref, place: Place | None) -> list[Rule]:
        """Return all rules that the subject has at the place; None: at any."""
        account = self.objects.get(subject)
        if account is None or "deletionTimestamp" in account["metadata"] or account["spec"].get("enabled") is False:
            return []
        found: list[Rule] = []
        for ref, wire in self.objects.items():
            if ref.kind == "RoleBinding" and self._gives(ref, wire, subject, place):
                found += self._role(wire["spec"]["role"])
        return found

    def _gives(self, ref: Ref, wire: Wire, subject: Ref, place: Place | None) -> bool:
        spec = wire["spec"]
        if "deletionTimestamp" in wire["metadata"]:
            return False
        if "expiresAt" in spec and datetime.fromisoformat(spec["expiresAt"]) <= self.now:
            return False
        who = spec["subject"]
        project = who.get("project") or ref.project if who["kind"] == "ServiceAccount" else None
        holder = Ref(who["kind"], project, who["name"])
        if holder != subject and not self._is_member(subject, holder):
            return False
        if place is None:
            return True
        if ref.project is not None:
            return place.project == ref.project
        return "domain" not in spec or spec["domain"] in self._above(place)

    def _is_member(self, subject: Ref, holder: Ref) -> bool:
        group = self.objects.get(holder)
        if (
            group is None
            or holder.kind != "Group"
            or subject.kind != "User"
            or "deletionTimestamp" in group["metadata"]
        ):
            return False
        return subject.name in group["spec"].get("members", [])

    def _above(self, place: Place) -> Iterable[str]:
        domain = place.domain
        if place.project is not None:
            project = self.objects.get(Ref("Project", None, place.project))
            domain = project["spec"].get("domain") if project else None
        while domain is not None and (found := self.objects.get(Ref("Domain", None, domain))) is not None:
            yield domain
            domain = found["spec"].get("parent")

    def _role(self, name: str) -> list[Rule]:
        if name in built_in_roles():
            return list(built_in_roles()[name].rules)
        role = self.objects.get(Ref("Role", None, name))
        return [Rule.from_wire(r) for r in role["spec"].get("rules", [])] if role else []


PLACES = [TOP, *(Place(project=p) for p in PROJECTS), *(Place(domain=d) for d in DOMAINS)]
ASKERS = [Ref("User", None, u) for u in USERS] + [Ref("ServiceAccount", p, "u0") for p in PROJECTS]
ASKED = list(
    itertools.product(["get", "create"], ["Instance", "User", "Flavor"], PLACES, [None, {"env": "dev"}, {"env": "x"}])
)


def check(index: AccessIndex, naive: Naive) -> None:
    for subject in ASKERS:
        grants = index.grants(subject)
        for verb, kind, place, labels in ASKED:
            expected = naive.may(subject, verb, kind, place, labels)
            found = grants.may(verb, get_kind(kind), place, labels=labels)
            assert found == expected, (subject, verb, kind, place, labels)
        for place in PLACES:
            assert grants.sees(place) == bool(naive.rules(subject, place))
        listable = grants.projects_for("get", get_kind("Instance"))
        for project in PROJECTS:
            if Ref("Project", None, project) not in naive.objects:
                continue  # what is bound in a project that is gone shows nothing
            place = Place(project=project)
            expected = naive.may(subject, "get", "Instance", place, {"env": "dev"})
            assert (listable is None or project in listable) == expected


def check_granting(index: AccessIndex, naive: Naive) -> None:
    """Who misses nothing of another's grants may do all that the other may."""
    for one, other in itertools.permutations(ASKERS, 2):
        have, want = index.grants(one), index.grants(other)
        if not have.missing_of(want):
            assert_covers(have, want)
        for place in PLACES:
            wanted = naive.rules(other, place)
            assert bool(have.missing(wanted, place)) == bool(covers(naive.rules(one, place), wanted))


def assert_covers(have: Grants, want: Grants) -> None:
    for verb, kind, place, labels in ASKED:
        if want.may(verb, get_kind(kind), place, labels=labels):
            assert have.may(verb, get_kind(kind), place, labels=labels)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=5, max_size=20), st.integers(2, 40), st.integers(1, 3))
def test_the_index_decides_as_a_reading_of_all_objects_does(
    done: list[tuple[str, Any, Any]], ring: int, every: int
) -> None:
    async def live() -> None:
        etcd, clock = MemoryEtcd(), ManualClock()
        async with Store(etcd, settings=StoreSettings(cache=CacheSettings(ring=ring))) as store:
            org, index = Org(store), AccessIndex(store.cache, clock)
            await make_world(org)
            check(index, Naive(etcd, clock.now()))
            for number, step in enumerate(done):
                await run_step(org, clock, step)
                if number % every == 0:
                    check(index, Naive(etcd, clock.now()))
            naive = Naive(etcd, clock.now())
            check(index, naive)
            check_granting(index, naive)
            check(AccessIndex(store.cache, clock), naive)

    asyncio.run(live())
