"""A whole project goes back to a moment of its timeline by one plan; the history is a real one in PostgreSQL."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Page, expect

from tests.fixtures.api import SYSTEM
from tests.fixtures.browsing import ConsoleApi, find_barriers, log_in
from vcstack.pki.installation import Installation
from vcstack.specs.errors import NotFound
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.store.etcd.client import EtcdClient
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.history import HistoryReader
from vcstack.store.mirror.mirror import Mirror

pytestmark = pytest.mark.daemons
BOB = Actor("user:bob", "vcctl")
"""What the cloud itself makes is not taken back, so a person has to have done it."""


class Project:
    """What a test does in the project while nobody looks; stands in for controllers where something has to go."""

    def __init__(self, console: ConsoleApi, mirror: Mirror) -> None:
        self._console = console
        self._mirror = mirror

    def create(self, kind: str, name: str, **spec: Any) -> None:
        wire = {"metadata": {"name": name, "project": "demo"}, "spec": spec}
        self._console.run(self._console.store.create(get_kind(kind), wire, actor=BOB))

    def change(self, kind: str, name: str, **spec: Any) -> None:
        store = self._console.store
        self._console.run(store.merge_patch(get_kind(kind), "demo", name, {"spec": spec}, actor=SYSTEM))

    def observe(self, kind: str, name: str, **status: Any) -> None:
        self._console.run(self._console.store.replace_status(get_kind(kind), "demo", name, status, actor=SYSTEM))

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        try:
            return self._console.run(self._console.store.get(get_kind(kind), "demo", name)).wire
        except NotFound:
            return None

    def clean_up(self, kind: str, name: str) -> None:
        """Finish a deletion, as controllers do."""
        found = self.find(kind, name)
        assert found is not None
        assert found["metadata"].get("deletionTimestamp")
        store, finalizers = self._console.store, found["metadata"]["finalizers"]
        self._console.run(store.finalize(get_kind(kind), "demo", name, finalizers, actor=SYSTEM))

    def delete(self, kind: str, name: str) -> None:
        self._console.run(self._console.store.delete(get_kind(kind), "demo", name, actor=SYSTEM))
        if self.find(kind, name) is not None:
            self.clean_up(kind, name)

    def record(self) -> int:
        """Wait until history has all that has happened, and return the revision."""

        async def reach() -> int:
            revision = self._console.store.cache.revision
            async with asyncio.timeout(30):
                while self._mirror.position < revision:
                    await asyncio.sleep(0.01)
            return revision

        return self._console.run(reach())


@pytest.fixture
def console(
    built_console: Path, pki_installation: Installation, tmp_path: Path, postgres_dsn: str
) -> Iterator[ConsoleApi]:
    engine = open_engine(postgres_dsn)
    with ConsoleApi(pki_installation, tmp_path, history=HistoryReader(engine)) as found:
        yield found
        found.kill()
        found.run(engine.dispose())


@pytest.fixture
def project(console: ConsoleApi, postgres_dsn: str) -> Iterator[Project]:
    engine = open_engine(postgres_dsn)
    mirror = Mirror(cast(EtcdClient, console.etcd), engine, postgres_dsn)

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(mirror.run())

    async def end() -> None:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await engine.dispose()

    running = console.run(begin())
    console.create("Project", {"metadata": {"name": "demo"}, "spec": {}})
    console.make_known_user("alice")
    yield Project(console, mirror)
    console.run(end())


def test_a_project_goes_back_to_a_moment_by_one_plan_and_forth_again(
    console: ConsoleApi, project: Project, page: Page, built_console: Path
) -> None:
    project.create("Network", "web", mtuBytes=1400)
    project.create("Network", "old", mtuBytes=1500)
    project.create("Subnet", "old", network="old", cidr="10.7.0.0/24")
    moment = project.record()
    project.change("Network", "web", mtuBytes=1300)
    project.delete("Subnet", "old")
    project.delete("Network", "old")
    project.create("Network", "new")
    project.create("Subnet", "new", network="new", cidr="10.8.0.0/24")
    console.create("SecurityGroup", {"metadata": {"name": "default", "project": "demo"}, "spec": {}})
    project.create("Network", "passing")
    project.delete("Network", "passing")
    project.record()

    log_in(page, "alice")
    page.goto(f"/console/projects/demo/timeline?from={moment}")
    page.get_by_role("button", name="Make the project as it was before").click()
    dialog = page.get_by_role("dialog", name=f"Project demo as it was at revision {moment}")
    expect(dialog.get_by_text("2 made again, 1 changed, 2 deleted")).to_be_visible()
    expect(dialog.get_by_role("heading", name=re.compile("Network new will be deleted"))).to_be_visible()
    expect(dialog.get_by_role("heading", name=re.compile("Subnet old will be made"))).to_be_visible()
    expect(dialog.get_by_role("row", name=re.compile("spec.mtuBytes.*1300"))).to_contain_text("1400")
    assert "passing" not in dialog.inner_text(), "what came and went is nothing to do about"
    assert "SecurityGroup default" not in dialog.inner_text(), "what the cloud itself made is not taken back"
    assert find_barriers(page, built_console) == []
    go = dialog.get_by_role("button", name="Do it all")
    expect(go).to_be_disabled()

    # Somebody changes one of them while the plan is looked at: that one is refused, and said so.
    project.change("Network", "web", mtuBytes=1350)
    dialog.get_by_label("Type demo to go on").fill("demo")
    go.click()
    expect(dialog.get_by_text("4 of 5 are done")).to_be_visible()
    expect(dialog.get_by_role("alert")).to_contain_text("Network web")
    web = project.find("Network", "web")
    assert web is not None
    assert web["spec"]["mtuBytes"] == 1350, "nobody's change is overridden unseen"
    for kind in ("Subnet", "Network"):
        assert project.find(kind, "old") is not None
        project.clean_up(kind, "new")

    # What is only observed meanwhile does not hinder.
    project.record()
    dialog.get_by_role("button", name="Plan anew").click()
    expect(dialog.get_by_text("0 made again, 1 changed, 0 deleted")).to_be_visible()
    project.observe("Network", "web", mtuBytes=1350)
    before_undoing = project.record()
    go.click()
    expect(page.get_by_text(f"Project demo is as it was at revision {moment}")).to_be_visible()
    web = project.find("Network", "web")
    assert web is not None
    assert web["spec"]["mtuBytes"] == 1400

    assert project.record() > before_undoing
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("dialog").get_by_role("row", name=re.compile("spec.mtuBytes"))).to_contain_text("1350")


def test_what_follows_others_and_what_cannot_come_back_is_told(
    console: ConsoleApi, project: Project, page: Page
) -> None:
    project.create("Secret", "key", data={"password": "hunter2-hunter2"})
    moment = project.record()
    project.delete("Secret", "key")
    project.create("Network", "new")
    network = project.find("Network", "new")
    assert network is not None
    owner = {"kind": "Network", "name": "new", "uid": network["metadata"]["uid"]}
    metadata = {"name": "its-own", "project": "demo", "ownerReferences": [owner]}
    console.create("SecurityGroup", {"metadata": metadata, "spec": {}})
    project.record()
    log_in(page, "alice")
    page.goto(f"/console/projects/demo/timeline?plan={moment}")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("0 made again, 0 changed, 1 deleted")).to_be_visible()
    expect(dialog.get_by_text("This goes with it:")).to_be_visible()
    expect(dialog.get_by_role("listitem").filter(has_text="SecurityGroup its-own")).to_be_visible()
    expect(dialog.get_by_text("1 more belong to others")).to_be_visible()
    expect(dialog.get_by_text("1 cannot be brought back")).to_be_visible()
    expect(dialog.get_by_role("heading", name=re.compile("Secret key"))).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert "plan=" not in page.url
