"""Passwords: which are accepted, how they are hashed, and what bad input does."""

import asyncio
import unicodedata

import pytest

from vcstack.apiserver.auth.commonpasswords import is_common, load_common
from vcstack.apiserver.auth.passwords import (
    MAX_LENGTH,
    MIN_LENGTH,
    HashingSettings,
    Passwords,
    demand_acceptable,
    find_fault,
)
from vcstack.specs.errors import Invalid, Unavailable

CHEAP = HashingSettings(memory_kib=64, passes=1)


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(CHEAP)


@pytest.mark.parametrize(
    "password",
    [
        "seven wet umbrellas dance",
        "correct horse battery staple",
        "xK9vQ2mTz7Lp",
        "пароль не для всех",
        "雨傘が七本踊っている夜です",
        "👩‍👩‍👧‍👦 кот и дождь 42",
        "                 blanks count as well",
        "l" + "ongest possible one " * 12 + "end of it here",
    ],
)
def test_length_is_all_that_is_demanded(password: str) -> None:
    assert find_fault(password, ("alice",)) is None


def test_the_bounds_of_the_length_are_exact() -> None:
    long = "ab1 cd2 ef3 gh4 " * 16
    assert len(long) == MAX_LENGTH == 256
    assert find_fault(long) is None
    assert "longer than 256" in (find_fault(long + "x") or "")
    just = "zebra-quilt7"
    assert len(just) == MIN_LENGTH
    assert find_fault(just) is None
    assert "shorter than 12" in (find_fault(just[:-1]) or "")


def test_length_counts_characters_not_bytes_and_in_the_normal_form() -> None:
    decomposed = unicodedata.normalize("NFD", "äöüéèñ")
    assert len(decomposed) == 12
    assert "shorter" in (find_fault(decomposed) or "")


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Password-2026!",
        "P@ssw0rd!!!!",
        "iloveyou2026",
        "qwertyuiop12",
        "passwordpassword",
        "dragonmonkey1",
        "123456789012",
        "210987654321",
        "abcdefghijklm",
        "aaaaaaaaaaaaaaaa",
        "abababababababab",
        "111122223333",
        "vcstackvcstack",
        "VCStack-2026!!",
        "alice-alice-alice",
        "Alice1234567",
        "international",
    ],
)
def test_what_others_try_first_is_refused(password: str) -> None:
    assert "others try first" in (find_fault(password, ("alice",)) or "")


@pytest.mark.parametrize("password", ["seven\0wet umbrellas", "seven\nwet umbrellas", "seven wet \ud800mbrellas"])
def test_what_no_keyboard_types_is_refused_when_set(password: str) -> None:
    assert "control characters" in (find_fault(password) or "")


def test_the_refusal_names_the_field_and_never_the_password() -> None:
    with pytest.raises(Invalid) as caught:
        demand_acceptable("hunter2", ("alice",))
    assert [cause.field for cause in caught.value.causes] == ["newPassword"]
    assert "hunter2" not in caught.value.to_status().to_json().decode()


def test_the_list_has_what_asvs_asks_for_that_fits_the_length() -> None:
    fitting = [entry for entry in load_common() if len(entry) >= MIN_LENGTH]
    assert len(fitting) >= 3000
    assert all(is_common(entry) for entry in fitting)


async def test_a_password_matches_itself_only(passwords: Passwords) -> None:
    kept = await passwords.hash("seven wet umbrellas")
    assert kept.startswith("$argon2id$")
    assert (await passwords.check(kept, "seven wet umbrellas")).matches
    for other in ("seven wet umbrella", "Seven wet umbrellas", "seven wet umbrellas ", "", "\0"):
        assert not (await passwords.check(kept, other)).matches


async def test_the_same_text_in_another_normal_form_matches(passwords: Passwords) -> None:
    kept = await passwords.hash(unicodedata.normalize("NFC", "grüne Bäume über Zürich"))
    assert (await passwords.check(kept, unicodedata.normalize("NFD", "grüne Bäume über Zürich"))).matches


async def test_nothing_is_cut_off(passwords: Passwords) -> None:
    """Not at 72 bytes (bcrypt), not at NUL (C), not at the limit."""
    long = "ab1 cd2 ef3 gh4 " * 16
    kept = await passwords.hash(long)
    for other in (long[:-1], long[:72], long + "x", long[:-1] + "\0", long + " " * 100_000):
        assert not (await passwords.check(kept, other)).matches
    kept = await passwords.hash("seven\0wet umbrellas")
    assert not (await passwords.check(kept, "seven\0other things")).matches


async def test_hostile_text_is_just_wrong(passwords: Passwords) -> None:
    kept = await passwords.hash("seven wet umbrellas")
    for hostile in ("\ud800", "a" * 10_000_000, "\u0344" * 100_000, "%s%n", "$argon2id$v=19$m=65536"):
        assert not (await passwords.check(kept, hostile)).matches
    assert not (await passwords.check("no hash at all", "x")).matches
    assert not (await passwords.check("", "x")).matches


async def test_the_hash_that_nobody_is_checked_against_has_today_s_parameters(passwords: Passwords) -> None:
    mine, nobody = await passwords.hash("seven wet umbrellas"), passwords._nobody
    assert mine.split("$")[:4] == nobody.split("$")[:4]


async def test_nobody_has_no_password(passwords: Passwords) -> None:
    for guess in ("", "nobody has this password"):
        assert not (await passwords.check(None, guess)).matches


async def test_a_hash_of_other_parameters_is_outdated(passwords: Passwords) -> None:
    old = await Passwords(HashingSettings(memory_kib=32, passes=1)).hash("seven wet umbrellas")
    verdict = await passwords.check(old, "seven wet umbrellas")
    assert (verdict.matches, verdict.outdated) == (True, True)
    new = await passwords.check(await passwords.hash("seven wet umbrellas"), "seven wet umbrellas")
    assert (new.matches, new.outdated) == (True, False)


async def test_who_comes_when_too_many_wait_is_told_to_come_again() -> None:
    passwords = Passwords(HashingSettings(memory_kib=8192, passes=1, at_once=1, waiting=2))
    done = await asyncio.gather(*(passwords.hash("x") for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(each, str) for each in done) == 3
    refused = [each for each in done if isinstance(each, Unavailable)]
    assert len(refused) == 7
    assert refused[0].details.retry_after_seconds == 2
    assert isinstance(await passwords.hash("x"), str)


async def test_a_caller_who_went_away_does_not_hold_a_place() -> None:
    passwords = Passwords(HashingSettings(memory_kib=64, passes=1, at_once=1, waiting=0))
    task = asyncio.create_task(passwords.hash("x"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    while True:
        try:
            assert await passwords.hash("y")
            return
        except Unavailable:
            await asyncio.sleep(0.001)


def test_the_parameters_in_force_are_no_weaker_than_the_stated_ones() -> None:
    settings = HashingSettings()
    assert settings.memory_kib >= 47104
    assert settings.passes >= 2
    assert settings.at_once * settings.memory_kib <= 256 * 1024
