"""Settings: what is accepted, where, and which of several counts."""

from datetime import timedelta

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.world import PROJECT, World
from tests.kinds.identities import make_domain, make_project
from vcstack.apiserver.kindroutes import schema_of
from vcstack.controllers import setting
from vcstack.specs.errors import ClaimTaken, Invalid
from vcstack.specs.kinds.domain import Domain, DomainSpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.setting import Setting, SettingSpec
from vcstack.specs.meta import ObjectMeta
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.specs.settings import (
    EVENTS_RETENTION,
    IMAGES_MAX_SIZE,
    KNOWN_SETTINGS,
    LOGIN_MFA_REQUIRED,
    LOGIN_NOTICE,
    SCHEDULER_STRATEGY,
    SESSIONS_IDLE,
    read_duration,
)
from vcstack.store.store import Store


def build(
    name: str, what: str, value: bool | int | str, project: str | None = None, domain: str | None = None
) -> Setting:
    return Setting.new(name, SettingSpec(setting=what, value=value, domain=domain), project=project)


async def refusal(world: World, wanted: Setting) -> tuple[str, str]:
    with pytest.raises(Invalid) as error:
        await world.admin.create(wanted)
    (cause,) = error.value.causes
    return cause.field, cause.message


async def test_settings_of_the_cloud_a_domain_and_a_project_become_ready(world: World) -> None:
    await make_project(world)
    await make_domain(world)
    await world.admin.create(build("a", SESSIONS_IDLE, "4h"))
    await world.admin.create(build("b", LOGIN_MFA_REQUIRED, True, domain="acme"))
    await world.admin.create(build("c", IMAGES_MAX_SIZE, 7, PROJECT))
    await world.settle(setting.build)
    assert all(s.is_true("Ready") for s in (await world.admin.list(Setting)).items)
    assert await world.writes_of(setting.build) == 0


@pytest.mark.parametrize(
    ("wanted", "field", "word"),
    [
        (build("s", "images.maxsize", 1), "spec.setting", "did you mean images.maxSizeGiB?"),
        (build("s", "\u2603" * 100, 1), "spec.setting", "there are events.retention, hosts."),
        (build("s", IMAGES_MAX_SIZE, "20"), "spec.value", "must be a whole number; images.maxSizeGiB is of type int"),
        (build("s", IMAGES_MAX_SIZE, True), "spec.value", "must be a whole number"),
        (build("s", IMAGES_MAX_SIZE, 0), "spec.value", "must be from 1 to 65536"),
        (build("s", LOGIN_MFA_REQUIRED, 1), "spec.value", "must be true or false"),
        (build("s", SESSIONS_IDLE, "8 hours"), "spec.value", "like 90s, 30m, 8h or 7d"),
        (build("s", SESSIONS_IDLE, "1s"), "spec.value", "must be from 5m to 30d"),
        (build("s", SCHEDULER_STRATEGY, "Best"), "spec.value", "must be one of BinPacking, Spread"),
        (build("s", LOGIN_NOTICE, "\x1b[2J"), "spec.value", "no control characters"),
        (build("s", LOGIN_NOTICE, "x" * 1025), "spec.value", "must be from 0 to 1024 characters"),
        (build("s", SESSIONS_IDLE, "4h", PROJECT), "metadata.project", "cannot be set for a project"),
        (build("s", "hosts.joinTokenLifetime", "4h", domain="acme"), "spec.domain", "cannot be set for a domain"),
        (build("s", IMAGES_MAX_SIZE, 1, PROJECT, "acme"), "spec.domain", "must be left out"),
        (build("s", IMAGES_MAX_SIZE, 1, domain="nowhere"), "spec.domain", "there is no Domain nowhere"),
    ],
    ids=lambda value: value.spec.setting[:20] if isinstance(value, Setting) else None,
)
async def test_what_makes_no_sense_is_refused_and_the_field_named(
    world: World, wanted: Setting, field: str, word: str
) -> None:
    await make_project(world)
    await make_domain(world)
    blamed, message = await refusal(world, wanted)
    assert blamed == field
    assert word in message


async def test_one_thing_is_set_once_in_a_place(world: World) -> None:
    await make_domain(world)
    first = await world.admin.create(build("a", IMAGES_MAX_SIZE, 1))
    await world.admin.create(build("b", IMAGES_MAX_SIZE, 2, domain="acme"))
    for wanted in (build("c", IMAGES_MAX_SIZE, 3), build("d", IMAGES_MAX_SIZE, 3, domain="acme")):
        with pytest.raises(ClaimTaken):
            await world.admin.create(wanted)
    await world.admin.delete(first.ref)
    await world.admin.create(build("c", IMAGES_MAX_SIZE, 3))


async def test_the_nearest_setting_counts_and_a_deletion_uncovers_the_next(world: World) -> None:
    for name, above in (("acme", None), ("dev", "acme")):
        await world.admin.create(Domain.new(name, DomainSpec(parent=above)))
    spec = ProjectSpec(domain="dev")
    await world.admin.create(Project(metadata=ObjectMeta(name="shop"), spec=spec))
    book = world.store.cache.setting_book

    def seen() -> int:
        return book.number(IMAGES_MAX_SIZE, project="shop")

    assert seen() == 50
    places: list[tuple[int, str | None, str | None]] = [
        (4, None, None),
        (3, None, "acme"),
        (2, None, "dev"),
        (1, "shop", None),
    ]
    for value, project, domain in places:
        await world.admin.create(build(f"s{value}", IMAGES_MAX_SIZE, value, project, domain))
        assert seen() == value
    found = book.find(IMAGES_MAX_SIZE, project="shop")
    assert (found.scope, found.place, found.name) == ("Project", "shop", "s1")
    assert book.number(IMAGES_MAX_SIZE, domain="acme") == 3
    assert book.number(IMAGES_MAX_SIZE, project="elsewhere") == 4
    for value, project, _ in reversed(places):
        assert seen() == value
        await world.admin.delete(Ref("Setting", project, f"s{value}"))
    assert seen() == 50


async def test_what_becomes_stricter_above_bounds_what_is_set_below_until_it_is_loosened(world: World) -> None:
    await make_domain(world)
    await world.admin.create(Project(metadata=ObjectMeta(name="shop"), spec=ProjectSpec(domain="acme")))
    await world.admin.create(Project(metadata=ObjectMeta(name="lab"), spec=ProjectSpec(domain="acme")))
    await world.admin.create(build("own", IMAGES_MAX_SIZE, 40, "shop"))
    exception = build("exception", IMAGES_MAX_SIZE, 90, "lab")
    exception.spec.locked = True
    await world.admin.create(exception)
    await world.admin.create(build("mfa", LOGIN_MFA_REQUIRED, False, domain="acme"))
    book = world.store.cache.setting_book

    async def told(name: str, project: str | None = None) -> tuple[object, str | None]:
        await world.settle(setting.build)
        found = await world.admin.get(Setting, name, project)
        assert found.is_true("Ready")
        return found.status.effective, found.status.limited_by

    assert await told("own", "shop") == (40, None)
    stricter = await world.admin.create(build("stricter", IMAGES_MAX_SIZE, 30, domain="acme"))
    await world.admin.create(build("must", LOGIN_MFA_REQUIRED, True))
    assert book.number(IMAGES_MAX_SIZE, project="shop") == 30
    assert book.number(IMAGES_MAX_SIZE, project="lab") == 90, "locked from above: an exception"
    assert book.flag(LOGIN_MFA_REQUIRED, domain="acme")
    assert await told("own", "shop") == (30, "Setting stricter of domain acme")
    assert await told("exception", "lab") == (90, None)
    assert await told("mfa") == (True, "Setting must of the whole cloud")
    found = book.find(IMAGES_MAX_SIZE, project="shop")
    assert found.overrules is not None
    assert (found.name, found.overrules.name, found.overrules.value) == ("stricter", "own", 40)
    await world.admin.create(build("strictest", IMAGES_MAX_SIZE, 20))
    assert await told("own", "shop") == (20, "Setting strictest of the whole cloud")
    assert await told("stricter") == (20, "Setting strictest of the whole cloud")
    await world.admin.delete(Ref("Setting", None, "strictest"))
    await world.admin.delete(stricter.ref)
    assert await told("own", "shop") == (40, None)
    assert book.number(IMAGES_MAX_SIZE, project="shop") == 40
    assert await world.writes_of(setting.build) == 0


async def test_a_change_counts_at_once(world: World) -> None:
    made = await world.admin.create(build("s", EVENTS_RETENTION, "2h"))
    book = world.store.cache.setting_book
    assert book.duration(EVENTS_RETENTION) == timedelta(hours=2)
    changed = made.model_copy(update={"spec": made.spec.model_copy(update={"value": "3h"})})
    await world.admin.update(changed)
    assert book.duration(EVENTS_RETENTION) == timedelta(hours=3)


async def test_a_change_reaches_another_replica_by_its_watch(world: World) -> None:
    async with Store(world.etcd) as other:
        book = other.cache.setting_book
        assert book.text(SCHEDULER_STRATEGY) == "BinPacking"
        await world.admin.create(build("s", SCHEDULER_STRATEGY, "Spread"))
        await other.cache.fresh()  # a round trip to etcd, no start
        assert book.text(SCHEDULER_STRATEGY) == "Spread"


async def test_what_is_stored_and_not_understood_any_more_counts_as_not_set(world: World) -> None:
    await world.admin.create(build("s", IMAGES_MAX_SIZE, 7))
    key = b"/vcstack/settings/-/s"
    kept = (await world.etcd.get(key)).kv
    assert kept is not None
    await world.etcd.put(key, kept.value.replace(b'"value":7', b'"value":-7'))
    await world.store.cache.fresh()
    assert world.store.cache.setting_book.number(IMAGES_MAX_SIZE) == 50


def test_defaults_are_within_their_own_limits() -> None:
    assert all(known.read(known.default) is not None for known in KNOWN_SETTINGS.values())
    limits = [(k, limit) for k in KNOWN_SETTINGS.values() for limit in (k.minimum, k.maximum) if limit is not None]
    assert all(k.read("x" * limit if k.type == "string" else limit) is not None for k, limit in limits)


def test_the_schema_of_a_value_depends_on_the_setting_and_takes_what_the_setting_takes() -> None:
    schema = schema_of(get_kind("Setting"))["$defs"]["SettingSpec"]["properties"]["value"]
    assert schema["x-vcstack-depends-on"]["field"] == "setting"
    choices = schema["x-vcstack-depends-on"]["choices"]
    assert choices.keys() == KNOWN_SETTINGS.keys()
    for name, known in KNOWN_SETTINGS.items():
        takes = jsonschema_rs.Draft202012Validator(choices[name]["value"]).is_valid
        limits = [limit for limit in (known.minimum, known.maximum) if limit is not None]
        for good in (known.default, *("x" * int(n) if known.type == "string" else n for n in limits), *known.choices):
            assert takes(good), (name, good)
        for bad in ({}, None, 10**12, "x" * 5000):
            assert not takes(bad), (name, bad)


@settings(deadline=None)
@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())))
def test_any_value_is_read_or_refused_with_a_sentence(value: object) -> None:
    for known in KNOWN_SETTINGS.values():
        try:
            known.read(value)
        except ValueError as error:
            assert "must" in str(error)  # noqa: PT017


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=999_999_999), st.sampled_from("smhd"))
def test_durations_are_read(number: int, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert read_duration(f"{number}{unit}") == timedelta(seconds=number * seconds)
