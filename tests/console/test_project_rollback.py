"""A whole project goes back to a moment of its timeline by one plan; the history is a real one in PostgreSQL."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.fixtures.browsing import ConsoleApi, find_barriers, log_in
from tests.fixtures.pastproject import PastProject, expire, forget, mirroring
from vcstack.pki.installation import Installation
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.history import HistoryReader

pytestmark = pytest.mark.daemons


class Project:
    """What a test does in the project while nobody looks."""

    def __init__(self, console: ConsoleApi, past: PastProject) -> None:
        self._console = console
        self._past = past

    def create(self, kind: str, name: str, **spec: Any) -> int:
        return self._console.run(self._past.create(kind, name, **spec))

    def change(self, kind: str, name: str, **spec: Any) -> None:
        self._console.run(self._past.change(kind, name, **spec))

    def observe(self, kind: str, name: str, **status: Any) -> None:
        self._console.run(self._past.observe(kind, name, **status))

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        return self._console.run(self._past.find(kind, name))

    def clean_up(self, kind: str, name: str) -> None:
        self._console.run(self._past.clean_up(kind, name))

    def delete(self, kind: str, name: str) -> None:
        self._console.run(self._past.delete(kind, name))

    def record(self) -> None:
        self._console.run(self._past.record())


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
    mirror = mirroring(console.etcd, postgres_dsn)
    past = PastProject(console.store, console.run(mirror.__aenter__()))
    console.create("Project", {"metadata": {"name": "demo"}, "spec": {}})
    console.make_known_user("alice")
    yield Project(console, past)
    console.run(mirror.__aexit__(None, None, None))


def test_a_project_goes_back_to_a_moment_by_one_plan_and_forth_again(
    console: ConsoleApi, project: Project, page: Page, built_console: Path
) -> None:
    project.create("Network", "web", mtuBytes=1400)
    project.create("Network", "old", mtuBytes=1500)
    moment = project.create("Subnet", "old", network="old", cidr="10.7.0.0/24")
    project.record()
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
    project.record()
    go.click()
    expect(page.get_by_text(f"Project demo is as it was at revision {moment}")).to_be_visible()
    web = project.find("Network", "web")
    assert web is not None
    assert web["spec"]["mtuBytes"] == 1400

    project.record()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("dialog").get_by_role("row", name=re.compile("spec.mtuBytes"))).to_contain_text("1350")


def test_what_follows_others_and_what_cannot_come_back_is_told(
    console: ConsoleApi, project: Project, page: Page, built_console: Path
) -> None:
    moment = project.create("Secret", "key", data={"password": "hunter2-hunter2"})
    project.record()
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
    expect(page).not_to_have_url(re.compile("plan="))

    # What was left out is told again when the rest was done, and why.
    page.goto(f"/console/projects/demo/timeline?plan={moment}")
    dialog.get_by_label("Type demo to go on").fill("demo")
    dialog.get_by_role("button", name="Do it all").click()
    expect(dialog.get_by_text("in part as it was")).to_be_visible()
    left_out = dialog.get_by_role("alert").filter(has_text="left out")
    expect(left_out.get_by_role("listitem")).to_have_text(re.compile("^Secret key: .*secret", re.IGNORECASE))
    expect(page.get_by_text(f"Project demo is as it was at revision {moment}")).to_have_count(0)
    assert find_barriers(page, built_console) == []
    project.clean_up("Network", "new")
    project.record()
    dialog.get_by_role("button", name="Undo").click()
    expect(dialog.get_by_role("heading", name=re.compile("Network new will be made"))).to_be_visible()


def test_what_history_has_not_seen_is_not_taken_for_new(
    console: ConsoleApi, project: Project, page: Page, postgres_dsn: str
) -> None:
    project.create("Network", "older")
    moment = project.create("Network", "other")
    project.record()
    project.change("Network", "older", mtuBytes=1300)
    project.record()
    console.run(forget("older", moment, postgres_dsn))

    log_in(page, "alice")
    page.goto(f"/console/projects/demo/timeline?from={moment}")
    page.get_by_role("button", name="Make the project as it was before").click()
    expect(page.get_by_role("dialog").get_by_text("Network older was there then, but")).to_be_visible()
    expect(page.get_by_role("button", name="Do it all")).to_be_disabled()


def test_what_retention_has_removed_is_refused_and_what_is_left_can_be_gone_back_to(
    console: ConsoleApi, project: Project, page: Page, postgres_dsn: str
) -> None:
    project.create("Network", "old")
    moment = project.create("Network", "web", mtuBytes=1400)
    project.record()
    project.delete("Network", "old")
    project.observe("Network", "web", mtuBytes=1400)
    project.record()
    console.run(expire(postgres_dsn, days=90))
    project.change("Network", "web", mtuBytes=1300)
    project.create("Network", "new")
    project.record()

    log_in(page, "alice")
    page.goto(f"/console/projects/demo/timeline?plan={moment}")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text(f"does not reach back to revision {moment}")).to_be_visible()
    expect(dialog.get_by_role("button", name="Do it all")).to_be_disabled()

    page.goto("/console/projects/demo/timeline?from=1")
    expect(page.get_by_text("What is older was removed")).to_be_visible()
    expect(page.get_by_text("The oldest that is kept")).to_be_visible()
    page.get_by_role("button", name="Make the project as it was before").click()
    expect(dialog.get_by_text("0 made again, 1 changed, 1 deleted")).to_be_visible()
    expect(dialog.get_by_role("row", name=re.compile("spec.mtuBytes.*1300"))).to_contain_text("1400")

    page.goto("/console/projects/demo/networks/web?tab=history")
    expect(page.get_by_text("Older versions were removed; it reaches back to revision")).to_be_visible()
