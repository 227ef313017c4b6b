"""rollback --contents: a whole project as it was, from a real history in PostgreSQL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import text

from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import SYSTEM, serving
from tests.fixtures.pastproject import PastProject, expire, forget, mirroring, reading
from tests.vcctl.harness import Hands, Vcctl
from vcstack.pki.installation import Installation
from vcstack.specs.errors import Conflict, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.mirror import Mirror
from vcstack.store.store import Store
from vcstack.vcctl import wayback
from vcstack.vcctl.errors import ExitCode
from vcstack.vcctl.session import GlobalOptions, Session
from vcstack.vcctl.wayback import ProjectPast, bring_back, look_at

pytestmark = pytest.mark.daemons


@contextlib.asynccontextmanager
async def session_of(vcctl: Vcctl) -> AsyncIterator[Session]:
    """What a command works with."""
    session = Session(GlobalOptions(), Console(quiet=True), Console(quiet=True), environ=vcctl.environ)
    try:
        yield session
    finally:
        await session.aclose()


@pytest.fixture
async def mirror(memory_etcd: MemoryEtcd, postgres_dsn: str) -> AsyncIterator[Mirror]:
    async with mirroring(memory_etcd, postgres_dsn) as found:
        yield found


@pytest.fixture
async def project(memory_store: Store, mirror: Mirror) -> PastProject:
    await memory_store.create(get_kind("Project"), {"metadata": {"name": "demo"}, "spec": {}}, actor=SYSTEM)
    return PastProject(memory_store, mirror)


@pytest.fixture
async def vcctl(
    project: PastProject,
    memory_store: Store,
    memory_etcd: MemoryEtcd,
    pki_installation: Installation,
    tmp_path: Path,
    postgres_dsn: str,
) -> AsyncIterator[Vcctl]:
    async with (
        reading(postgres_dsn) as history,
        serving(memory_store, memory_etcd, pki_installation, tmp_path, history=history) as api,
    ):
        yield Vcctl(api, tmp_path)


async def test_a_project_goes_back_by_one_command_and_a_second_one_does_what_was_refused(
    vcctl: Vcctl, project: PastProject
) -> None:
    await project.create("Network", "web", mtuBytes=1400)
    await project.create("Network", "old", mtuBytes=1500)
    await project.create("Subnet", "old", network="old", cidr="10.7.0.0/24")
    await project.create("Secret", "key", data={"password": "hunter2-hunter2"})
    await project.create("Network", "held")
    await project.create("Subnet", "held", network="held", cidr="10.9.0.0/24")
    moment = str(await project.record())
    await project.change("Network", "web", mtuBytes=1300)
    for kind, name in (("Subnet", "old"), ("Network", "old"), ("Secret", "key"), ("Subnet", "held")):
        await project.delete(kind, name)
    await project.create("Subnet", "thief", network="held", cidr="10.9.0.0/24")
    await project.create("Network", "new")
    await project.create("SecurityGroup", "default", actor=SYSTEM)
    await project.create("Network", "passing")
    await project.delete("Network", "passing")
    await project.record()

    asked = await vcctl("rollback", "project", "demo", "--contents", "--to-revision", moment)
    assert asked.code == ExitCode.USAGE
    assert "2 made again, 1 changed, 2 deleted" in asked.out, asked
    assert "network/old (project demo) would be created" in asked.out
    assert "spec.mtuBytes  reboot" in asked.out
    assert "network/new would be deleted" in asked.out
    assert "1 more belong to others, or are the cloud's own" in asked.out
    assert "secret/key would be refused" in asked.err
    assert "secret/key (project demo) would be created" not in asked.out
    assert "and delete 2?" in asked.err
    assert "passing" not in asked.out
    assert "default" not in asked.out
    assert "nothing was done" in await vcctl.ok(
        "rollback", "project/demo", "--contents", "--to-revision", moment, "--dry-run"
    )
    assert await project.find("Network", "old") is None

    # All but what is refused is done; what is in the way of one of these goes only now.
    went = await vcctl("rollback", "project", "demo", "--contents", "--to-revision", moment, "--yes")
    assert went.code == ExitCode.REFUSED
    assert "2 of 7 could not be done" in went.err, went
    web = await project.find("Network", "web")
    assert web is not None
    assert web["spec"]["mtuBytes"] == 1400
    assert await project.find("Subnet", "old") is not None
    await project.clean_up("Subnet", "thief")
    await project.clean_up("Network", "new")
    await project.record()
    again = await vcctl("rollback", "project", "demo", "--contents", "--to-revision", moment, "--yes")
    assert "1 made again, 0 changed, 0 deleted" in again.out, again
    assert "subnet/held made again" in again.out
    assert "1 of 2 could not be done" in again.err, "a secret's values never come back"


async def test_what_is_only_observed_meanwhile_does_not_hinder_a_rollback(vcctl: Vcctl, project: PastProject) -> None:
    await project.create("Network", "web", mtuBytes=1400)
    moment = str(await project.record())
    await project.change("Network", "web", mtuBytes=1300)
    await project.record()
    definition = get_kind("Network")
    async with session_of(vcctl) as session:
        step = await look_at(session, definition, "web", "demo", moment)
        await project.observe("Network", "web", mtuBytes=1300)
        await bring_back(session, step)
        web = await project.find("Network", "web")
        assert web is not None
        assert web["spec"]["mtuBytes"] == 1400
        step = await look_at(session, definition, "web", "demo", str(await project.record()))
        await project.change("Network", "web", mtuBytes=1350)
        with pytest.raises(Conflict):
            await bring_back(session, step)


async def test_what_history_has_not_come_to_yet_is_not_left_out(
    vcctl: Vcctl, project: PastProject, postgres_dsn: str
) -> None:
    await project.create("Network", "web", mtuBytes=1400)
    moment = str(await project.record())
    words = ("rollback", "project/demo", "--contents", "--to-revision", moment, "--yes")
    engine = open_engine(postgres_dsn)
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE history IN EXCLUSIVE MODE"))  # nothing can be written there
        await project.change("Network", "web", mtuBytes=1300)
        await project.create("Network", "new")
        late = await vcctl(*words)
        assert late.code == ExitCode.UNREACHABLE
        assert "history has come to revision" in late.err
    await engine.dispose()
    assert "0 made again, 1 changed, 1 deleted" in await vcctl.ok(*words)


async def test_a_rollback_waits_until_all_is_so_when_asked(vcctl: Vcctl, project: PastProject) -> None:
    await project.create("Network", "web", mtuBytes=1400)
    await project.create("Network", "old")
    moment = str(await project.record())
    await project.change("Network", "web", mtuBytes=1300)
    await project.delete("Network", "old")
    await project.create("Network", "new")
    await project.record()
    words = ("rollback", "project/demo", "--contents", "--to-revision", moment, "--yes", "--wait")
    late = await vcctl(*words, "--timeout", "0.3s")
    assert late.code == ExitCode.TIMEOUT, late
    observing = asyncio.create_task(Hands(vcctl.api).keep_observing())
    await project.record()
    assert "0 made again, 0 changed, 0 deleted" in await vcctl.ok(*words)
    await project.change("Network", "web", mtuBytes=1300)
    await project.create("Network", "newer")
    await project.record()
    assert "1 object is Ready" in await vcctl.ok(*words)
    assert await project.find("Network", "newer") is None
    await project.change("Network", "web", mtuBytes=1300)
    assert "1 object is Ready" in await vcctl.ok("rollback", "network/web", "--to-revision", moment, "--yes", "--wait")
    observing.cancel()


async def test_contents_are_a_projects_and_a_moment_is_needed(vcctl: Vcctl, project: PastProject) -> None:
    await project.create("Network", "web")
    for words, told in (
        (("network", "web", "--contents", "--to-revision", "5"), "a network has no contents"),
        (("project", "demo", "--contents"), "to when?"),
        (("project", "demo", "--to-time", "2h", "--to-revision", "5"), "to when?"),
        (("project", "demo", "--to-revision", "yesterday"), "is no revision"),
    ):
        ended = await vcctl("rollback", *words)
        assert ended.code == ExitCode.USAGE
        assert told in ended.err
    await project.record()
    assert (await vcctl("rollback", "project/demo", "--contents", "--to-time", "3d")).code == ExitCode.NOT_FOUND
    later = "2099-01-01T00:00:00Z"
    assert "nothing is to be done" in await vcctl.ok("rollback", "project/demo", "--contents", "--to-time", later)


async def test_what_history_has_not_seen_is_not_taken_for_new(
    vcctl: Vcctl, project: PastProject, postgres_dsn: str
) -> None:
    await project.create("Network", "older")
    moment = str(await project.record())
    await project.change("Network", "older", mtuBytes=1300)
    await project.record()
    before_all = await vcctl("rollback", "project", "demo", "--contents", "--to-revision", "1", "--yes")
    assert before_all.code == ExitCode.NOT_FOUND
    assert "does not reach back to revision 1" in before_all.err
    await forget("older", int(moment), postgres_dsn)
    ended = await vcctl("rollback", "project", "demo", "--contents", "--to-revision", moment, "--yes")
    assert ended.code == ExitCode.NOT_FOUND
    assert "network/older was there then" in ended.err
    assert await project.find("Network", "older") is not None


async def test_what_is_too_old_is_refused_and_later_moments_are_not(
    vcctl: Vcctl, project: PastProject, postgres_dsn: str
) -> None:
    words = ("rollback", "project/demo", "--contents", "--yes")
    await project.create("Network", "old")
    await project.create("Network", "web", mtuBytes=1400)
    moment = str(await project.record())
    began = datetime.now(UTC).isoformat()
    await project.delete("Network", "old")
    await project.observe("Network", "web", mtuBytes=1400)
    await project.record()
    await expire(postgres_dsn, days=90)
    quiet = datetime.now(UTC).isoformat()
    # Nothing tells any more that there was the network old.
    for when in (("--to-revision", moment), ("--to-time", began)):
        refused = await vcctl(*words, *when)
        assert refused.code == ExitCode.REFUSED
        assert "older versions in project/demo were removed: its history reaches back to revision" in refused.err
    await project.change("Network", "web", mtuBytes=1300)
    await project.create("Network", "new")
    await project.record()
    assert "0 made again, 1 changed, 1 deleted" in await vcctl.ok(*words, "--to-time", quiet)
    web = await project.find("Network", "web")
    assert web is not None
    assert web["spec"]["mtuBytes"] == 1400


async def test_what_was_too_much_of_one_object_is_not_taken_for_unchanged(
    vcctl: Vcctl, project: PastProject, memory_store: Store, postgres_dsn: str
) -> None:
    await project.create("Network", "web", mtuBytes=1400)
    moment = str(await project.record())
    await project.change("Network", "web", mtuBytes=1300)
    web = await project.find("Network", "web")
    assert web is not None
    owner = {"kind": "Network", "name": "web", "uid": web["metadata"]["uid"]}
    owned = {"metadata": {"name": "owned", "project": "demo", "ownerReferences": [owner]}, "spec": {}}
    await memory_store.create(get_kind("Network"), owned, actor=SYSTEM)
    for number in range(5):
        await project.observe("Network", "owned", mtuBytes=1400 + number)
    await project.record()
    await expire(postgres_dsn, versions=3)
    words = ("rollback", "project/demo", "--contents", "--yes", "--to-revision", moment)
    planned = await vcctl.ok(*words, "--dry-run")
    assert "0 made again, 1 changed, 0 deleted" in planned, "what follows others does not hinder"
    assert "1 more belong to others" in planned
    for number in range(5):
        await project.observe("Network", "web", mtuBytes=1400 + number)
    await project.record()
    await expire(postgres_dsn, versions=3)
    for refused in (await vcctl(*words), await vcctl("rollback", "network/web", "--yes", "--to-revision", moment)):
        assert refused.code == ExitCode.REFUSED
        assert "Older versions of Network demo/web were removed: its history reaches back" in refused.err


async def test_versions_that_are_removed_while_the_past_is_read_are_noticed(
    vcctl: Vcctl, project: PastProject, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wayback, "PAGE", 1)
    await project.create("Network", "web", mtuBytes=1400)
    await project.record()
    await project.change("Network", "web", mtuBytes=1300)
    await project.create("Network", "new")
    for number in range(5):
        await project.observe("Network", "web", mtuBytes=1400 + number)
    await project.record()
    async with session_of(vcctl) as session:
        lines = ProjectPast(session, "demo").lines()
        assert (await anext(lines))["name"] == "new"
        await expire(postgres_dsn, versions=2)
        with pytest.raises(Unavailable, match="just removed"):
            await anext(lines)
