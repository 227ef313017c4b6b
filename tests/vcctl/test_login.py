"""vcctl login, logout, whoami and what a user does about the own login, against the real API server."""

import asyncio
import json
import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest
import yaml

from tests.vcctl.harness import Vcctl
from vcstack.vcctl.errors import ExitCode

PASSWORD = "seven wet umbrellas dance"
ANOTHER = "nine green lanterns hum"


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


def session_file(vcctl: Vcctl, own: str = "own") -> Path:
    [found] = (vcctl.folder / own / "vcstack" / "credentials").glob("test*.json")
    return found


def held(vcctl: Vcctl, own: str = "own") -> dict[str, Any]:
    value: dict[str, Any] = json.loads(session_file(vcctl, own).read_text())
    return value


def change_tokens(vcctl: Vcctl, **changes: Any) -> None:
    """Change what is kept, as time or another program would."""
    value = held(vcctl)
    value["tokens"] |= changes
    session_file(vcctl).write_text(json.dumps(value))


def past() -> str:
    return (datetime.now(UTC) - timedelta(minutes=1)).isoformat()


@pytest.fixture
async def alice(vcctl: Vcctl) -> Vcctl:
    """A user with a password; nobody is logged in."""
    await vcctl.ok("apply", "--no-wait", "-f", vcctl.write("alice.yaml", user("alice")))
    secret = (await vcctl.ok("auth", "reset-user", "alice", "--yes")).strip()
    await vcctl.ok("login", "--user", "alice", stdin=lines(secret, PASSWORD))
    await vcctl.ok("logout")
    return vcctl


def user(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "vcstack.io/v1", "kind": "User", "metadata": {"name": name}, "spec": spec}


async def log_in(vcctl: Vcctl, *answers: str) -> str:
    return await vcctl.ok("login", "--user", "alice", stdin=lines(*(answers or (PASSWORD,))))


async def enrol(vcctl: Vcctl) -> tuple[str, list[str]]:
    """Enrol a second factor over the API's own client; return the secret and the recovery codes."""
    process = await run(vcctl, "auth", "mfa", "enrol")
    process.stdin.write(lines(PASSWORD).encode())
    await process.stdin.drain()
    secret = ""
    while not secret.startswith("otpauth://"):
        secret = (await process.stderr.readline()).decode().strip()
    secret = pyotp.parse_uri(secret).secret
    out, err = await process.communicate(lines(pyotp.TOTP(secret).now()).encode())
    assert process.returncode == 0, err
    return secret, out.decode().split()


async def run(vcctl: Vcctl, *words: str) -> Any:
    """Start vcctl as a process of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from vcstack.vcctl.main import main; main()", *words,
        env={**os.environ, **vcctl.environ},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_a_new_user_logs_in_with_the_one_time_secret_and_sets_a_password(vcctl: Vcctl) -> None:
    await vcctl.ok("apply", "--no-wait", "-f", vcctl.write("alice.yaml", user("alice")))
    assert "admin at" in await vcctl.ok("whoami")
    secret = (await vcctl.ok("auth", "reset-user", "alice", "--yes")).strip()
    ended = await vcctl("login", "--user", "alice", stdin=lines(secret, PASSWORD))
    assert (ended.code, ended.out) == (0, "")
    assert "Logged in" in ended.err
    assert secret not in ended.err
    assert "user:alice at" in await vcctl.ok("whoami")
    again = await vcctl("login", "--user", "alice", stdin=lines(secret))
    assert again.code == ExitCode.REFUSED
    await log_in(vcctl)


async def test_what_is_kept_is_for_the_users_eyes_only(alice: Vcctl) -> None:
    await log_in(alice)
    path = session_file(alice)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert PASSWORD not in path.read_text()
    for command in (("config", "view"), ("whoami", "-o", "json"), ("config", "get-contexts")):
        assert held(alice)["tokens"]["refreshToken"] not in await alice.ok(*command)


async def test_a_password_that_is_too_weak_is_refused_with_the_rule(vcctl: Vcctl) -> None:
    await vcctl.ok("apply", "--no-wait", "-f", vcctl.write("alice.yaml", user("alice")))
    secret = (await vcctl.ok("auth", "reset-user", "alice", "--yes")).strip()
    ended = await vcctl("login", "--user", "alice", stdin=lines(secret, "short"))
    assert ended.code == ExitCode.REFUSED
    assert "12" in ended.err
    await vcctl.ok("login", "--user", "alice", stdin=lines(secret, PASSWORD))


async def test_a_wrong_password_is_not_taken_for_a_wrong_token(alice: Vcctl) -> None:
    ended = await alice("login", "--user", "alice", stdin=lines("wrong"))
    assert ended.code == ExitCode.REFUSED
    assert "token" not in ended.err.replace("reset", "")
    assert "reset-user" in ended.err


async def test_nothing_is_asked_where_nobody_answers(alice: Vcctl) -> None:
    ended = await alice("login", "--user", "alice", stdin="")
    assert ended.code == ExitCode.USAGE
    assert "stdin" in ended.err
    assert (await alice("login", stdin="")).code == ExitCode.USAGE


async def test_after_logout_the_session_is_over_everywhere_and_the_context_counts_again(alice: Vcctl) -> None:
    await log_in(alice)
    before = held(alice)
    assert "logged out" in (await alice("logout")).err
    assert "admin at" in await alice.ok("whoami")
    assert "tokens" not in held(alice)
    await alice.ok("login", stdin=lines(PASSWORD))
    assert "user:alice" in await alice.ok("whoami"), "who did so last is meant again"
    await alice.ok("logout")
    # A copy of the file, taken before, is worth nothing.
    session_file(alice).write_text(json.dumps(before))
    ended = await alice("whoami")
    assert ended.code == ExitCode.REFUSED
    assert "vcctl login" in ended.err


async def test_who_had_a_session_never_becomes_the_contexts_administrator_by_its_end(alice: Vcctl) -> None:
    await log_in(alice)
    await alice.ok("auth", "reset-user", "alice", "--yes", VCSTACK_API_KEY="", XDG_CONFIG_HOME=str(alice.folder / "2"))
    for _ in range(2):
        ended = await alice("whoami")
        assert ended.code == ExitCode.REFUSED
        assert "session of alice" in ended.err
        assert "vcctl login" in ended.err
    await alice.ok("logout")
    assert "admin at" in await alice.ok("whoami")


async def test_an_access_token_is_renewed_in_time(alice: Vcctl) -> None:
    await log_in(alice)
    before = held(alice)["tokens"]
    change_tokens(alice, renewAt=past())
    assert "user:alice" in await alice.ok("whoami")
    after = held(alice)["tokens"]
    assert after["session"] == before["session"]
    assert after["refreshToken"] != before["refreshToken"]
    assert datetime.fromisoformat(after["renewAt"]) > datetime.now(UTC)


async def test_a_token_that_the_server_refuses_is_renewed_once(alice: Vcctl) -> None:
    """A clock that is wrong, or keys that were changed."""
    await log_in(alice)
    before = held(alice)["tokens"]
    change_tokens(alice, accessToken="a.b.c")
    assert "user:alice" in await alice.ok("whoami")
    assert held(alice)["tokens"]["refreshToken"] != before["refreshToken"]


async def test_programs_at_the_same_time_renew_one_after_the_other(alice: Vcctl) -> None:
    """A refresh token that is shown twice would end the session."""
    await log_in(alice)
    change_tokens(alice, renewAt=past())
    processes = [await run(alice, "whoami") for _ in range(5)]
    for process in processes:
        out, err = await process.communicate(b"")
        assert process.returncode == 0, err
        assert b"user:alice" in out
    assert "user:alice" in await alice.ok("whoami")


async def test_a_session_is_shown_to_no_other_server(alice: Vcctl) -> None:
    await log_in(alice)
    context = {**alice.context, "apiUrl": alice.api.url.replace("127.0.0.1", "localhost")}
    context.pop("tokenFile")
    alice.config.write_text(yaml.safe_dump({"currentContext": "test", "contexts": [context]}))
    ended = await alice("whoami")
    assert ended.code == ExitCode.REFUSED
    assert "nobody is logged in" in ended.err


async def test_a_context_without_any_credential_says_how_to_log_in(vcctl: Vcctl) -> None:
    vcctl.context.pop("tokenFile")
    vcctl.config.write_text(yaml.safe_dump({"currentContext": "test", "contexts": [vcctl.context]}))
    ended = await vcctl("get", "hosts")
    assert ended.code == ExitCode.REFUSED
    assert "vcctl login" in ended.err
    assert "server:" in await vcctl.ok("version")


async def test_a_second_login_ends_the_session_that_it_replaces(alice: Vcctl) -> None:
    await log_in(alice)
    first = held(alice)["tokens"]["session"]
    await log_in(alice)
    assert held(alice)["tokens"]["session"] != first
    names = json.loads(await alice.ok("get", "sessions", "-o", "json", XDG_CONFIG_HOME=str(alice.folder / "2")))
    assert [s["metadata"]["name"] for s in names["items"]] == [held(alice)["tokens"]["session"]]


async def test_a_second_factor_is_enrolled_asked_for_recovered_and_removed(alice: Vcctl) -> None:
    await log_in(alice)
    secret, codes = await enrol(alice)
    assert len(codes) == 10
    code = pyotp.TOTP(secret).at(datetime.now(UTC) + timedelta(seconds=30))
    await log_in(alice, PASSWORD, code)
    assert (await alice("login", "--user", "alice", stdin=lines(PASSWORD, code))).code == ExitCode.REFUSED
    await log_in(alice, PASSWORD, codes[0])
    fresh = (await alice.ok("auth", "mfa", "recovery-codes", stdin=lines(PASSWORD, codes[1]))).split()
    assert len(fresh) == 10
    ended = await alice("auth", "mfa", "disable", stdin=lines(PASSWORD, codes[2]))
    assert ended.code == ExitCode.REFUSED
    await alice.ok("auth", "mfa", "disable", stdin=lines(PASSWORD, fresh[0]))
    await log_in(alice)


async def test_a_user_who_has_to_have_a_second_factor_enrols_it_at_the_login(vcctl: Vcctl) -> None:
    await vcctl.ok("apply", "--no-wait", "-f", vcctl.write("alice.yaml", user("alice", mfaRequired=True)))
    secret = (await vcctl.ok("auth", "reset-user", "alice", "--yes")).strip()
    process = await run(vcctl, "login", "--user", "alice")
    process.stdin.write(lines(secret, PASSWORD).encode())
    await process.stdin.drain()
    uri = ""
    while not uri.startswith("otpauth://"):
        uri = (await process.stderr.readline()).decode().strip()
    code = pyotp.TOTP(pyotp.parse_uri(uri).secret).now()
    out, err = await process.communicate(lines(code).encode())
    assert process.returncode == 0, err
    assert len(out.split()) == 10
    assert "user:alice" in await vcctl.ok("whoami")


async def test_the_password_is_changed_by_the_present_one(alice: Vcctl) -> None:
    await log_in(alice)
    assert (await alice("auth", "password", stdin=lines("wrong", ANOTHER))).code == ExitCode.REFUSED
    await alice.ok("auth", "password", stdin=lines(PASSWORD, ANOTHER))
    assert "user:alice" in await alice.ok("whoami")
    assert (await alice("login", "--user", "alice", stdin=lines(PASSWORD))).code == ExitCode.REFUSED
    await log_in(alice, ANOTHER)


async def test_who_uses_a_token_has_no_password_to_change(vcctl: Vcctl) -> None:
    for words in (("auth", "password"), ("auth", "mfa", "enrol"), ("auth", "mfa", "disable")):
        ended = await vcctl(*words, stdin=lines(PASSWORD))
        assert ended.code == ExitCode.REFUSED
        assert "vcctl login" in ended.err


async def test_resetting_asks_before_anything_is_lost(alice: Vcctl) -> None:
    ended = await alice("auth", "reset-user", "alice", stdin="")
    assert ended.code == ExitCode.USAGE
    assert "--yes" in ended.err
    assert (await alice("auth", "reset-user", "nobody", "--yes")).code == ExitCode.NOT_FOUND
    await log_in(alice)
