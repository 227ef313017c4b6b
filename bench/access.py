"""What knowing who asks, and deciding whether they may, costs a request."""

import asyncio
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from argon2 import PasswordHasher

from bench.daemons import Daemons
from bench.load import Http, Load, drive, in_own_process, percentile
from bench.table import Row
from vcstack.apiserver.auth.passwords import HashingSettings
from vcstack.specs.permissions import built_in_roles
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.etcd.settings import EtcdSettings
from vcstack.store.store import Store

SECTION = "Access control"
CALLERS = 8
ROUNDS = 7
ROUND_SECONDS = 1.5
WARM_UP_SECONDS = 0.3
LIMIT = 1.3
GROWTH_LIMIT = 1.1
PROJECTS = 1000
BINDINGS = 10_000
USERS = 100
WRITERS = 64
LOGINS = 15
PROJECT = "bench"
OBJECT = f"/api/v1/projects/{PROJECT}/networks/one"
OPEN = "/readyz"
"""The route that needs no credential and asks etcd the same question: is the cache fresh?"""
PASSWORD = "seven wet umbrellas dance"
HIGH = 1_000_000
"""More requests than a measure sends."""


@dataclass(frozen=True, slots=True)
class _Rounds:
    """The same for each, one after another, again and again."""

    unknown: list[Load]
    admin: list[Load]
    user: list[Load]

    def median(self, loads: list[Load]) -> float:
        """Return the middle of the rounds' p50, in milliseconds."""
        return statistics.median(percentile(load.latencies_ms, 50) for load in loads)


def measure() -> list[Row]:
    """Run all and return the rows."""
    with Daemons() as daemons:
        arguments = (daemons.api_port, daemons.pki.ca_cert, daemons.pki.admin_token.read_text().strip())
        with daemons.management(roles="api"):
            token = in_own_process(_prepare, *arguments)
            logins = in_own_process(_log_in, *arguments[:2])
            small = in_own_process(_measure, *arguments, token)
            in_own_process(_fill, daemons.etcd_settings)
            large = in_own_process(_measure, *arguments, token)
    return [*_rows(small), _growth(small, large), _login_row(logins)]


def _rows(rounds: _Rounds) -> list[Row]:
    unknown, admin, user = (rounds.median(r) for r in (rounds.unknown, rounds.admin, rounds.user))
    beside = f"{unknown:.2f} ms (GET {OPEN})"
    return [
        Row(
            SECTION,
            "GET of an object by a user, p50",
            f"{user:.2f} ms",
            beside,
            user / unknown,
            "≤ 1.3",
            user <= LIMIT * unknown,
        ),
        Row(SECTION, "GET of an object by the admin token, p50", f"{admin:.2f} ms", beside, admin / unknown),
    ]


def _growth(small: _Rounds, large: _Rounds) -> Row:
    # Against the open route of the same rounds, for the machine is not the same all the time.
    before, after = (r.median(r.user) / r.median(r.unknown) for r in (small, large))
    name = f"the same with {BINDINGS:,} bindings and {PROJECTS:,} projects, p50"
    ours, beside = f"{large.median(large.user):.2f} ms", f"{small.median(small.user):.2f} ms (without)"
    return Row(SECTION, name, ours, beside, after / before, "≤ 1.1", after <= GROWTH_LIMIT * before)


def _login_row(logins: Load) -> Row:
    """The hash is slow on purpose; what the rest of a login takes is ours."""
    settings = HashingSettings()
    hasher = PasswordHasher(settings.passes, settings.memory_kib, settings.lanes)
    kept, taken = hasher.hash(PASSWORD), list[float]()
    for _ in range(LOGINS):
        begin = time.perf_counter()
        hasher.verify(kept, PASSWORD)
        taken.append((time.perf_counter() - begin) * 1000)
    ours, alone = percentile(logins.latencies_ms, 50), statistics.median(taken)
    beside = f"{alone:.0f} ms (Argon2id alone: {settings.memory_kib // 1024} MiB, {settings.passes} passes)"
    return Row(SECTION, "login with a password, p50", f"{ours:.0f} ms", beside, ours / alone)


async def _log_in(port: int, ca: Path) -> Load:
    http = await Http.connect(port, ca, "")
    body, latencies = orjson.dumps({"user": "alice", "password": PASSWORD}), list[float]()
    for _ in range(LOGINS):
        begin = time.perf_counter()
        await http.request("POST", "/api/v1/auth/login", body)
        latencies.append((time.perf_counter() - begin) * 1000)
    return Load(LOGINS, sum(latencies) / 1000, 0.0, latencies_ms=latencies)


async def _prepare(port: int, ca: Path, token: str) -> str:
    """Make a project with a network and a member of it; return the member's access token."""
    http = await Http.connect(port, ca, token)

    async def post(path: str, body: Any) -> Any:
        answer = await http.request("POST", path, orjson.dumps(body))
        return orjson.loads(answer) if answer else None

    def wire(name: str, **spec: Any) -> Any:
        return {"metadata": {"name": name}, "spec": spec}

    await post("/api/v1/projects", wire(PROJECT))
    await post(f"/api/v1/projects/{PROJECT}/networks", wire("one"))
    await post("/api/v1/users", wire("alice"))
    await post("/api/v1/roles", wire("member", rules=[r.to_wire() for r in built_in_roles()["member"].rules]))
    subject = {"kind": "User", "name": "alice"}
    await post(f"/api/v1/projects/{PROJECT}/rolebindings", wire("alice", subject=subject, role="member"))
    # Limits are looked at like anybody's, but not reached.
    high = [{"name": p.lower(), "per": p, "requestsPerMinute": HIGH, "burst": HIGH} for p in ("Subject", "Project")]
    await post("/api/v1/ratelimitpolicies", wire("bench", subject=subject, limits=high))
    issued = await post("/api/v1/users/alice/initialsecret", {})
    step = await post("/api/v1/auth/login", {"user": "alice", "password": issued["secret"]})
    done = {"challenge": step["challenge"], "newPassword": PASSWORD}
    return str((await post("/api/v1/auth/password", done))["accessToken"])


async def _measure(port: int, ca: Path, admin_token: str, token: str) -> _Rounds:
    async def calls(path: str, bearer: str) -> list[Any]:
        made = [await Http.connect(port, ca, bearer) for _ in range(CALLERS)]
        return [lambda c=c: c.request("GET", path) for c in made]

    unknown, admin, user = await calls(OPEN, ""), await calls(OBJECT, admin_token), await calls(OBJECT, token)
    found = _Rounds([], [], [])
    for _ in range(ROUNDS):
        for callers, into in ((unknown, found.unknown), (admin, found.admin), (user, found.user)):
            into.append(await drive(callers, ROUND_SECONDS, warm_up_seconds=WARM_UP_SECONDS))
    return found


async def _fill(settings: EtcdSettings) -> None:
    """Make the projects, the users and their bindings."""
    actor = Actor("system:bench", "bench")
    async with EtcdClient(settings) as etcd, Store(etcd) as store:

        async def make(kind: str, count: int, build: Any) -> None:
            numbers = iter(range(count))

            async def work() -> None:
                for number in numbers:
                    await store.create(get_kind(kind), build(number), actor=actor)

            await asyncio.gather(*(work() for _ in range(WRITERS)))

        await make("Project", PROJECTS, lambda n: {"metadata": {"name": f"p{n}"}, "spec": {}})
        await make("User", USERS, lambda n: {"metadata": {"name": f"u{n}"}, "spec": {}})
        await make("RoleBinding", BINDINGS, _binding)


def _binding(number: int) -> Any:
    subject = {"kind": "User", "name": f"u{number % USERS}"}
    metadata = {"name": f"b{number}", "project": f"p{number % PROJECTS}"}
    return {"metadata": metadata, "spec": {"subject": subject, "role": "member"}}
