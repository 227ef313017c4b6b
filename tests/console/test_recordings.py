"""Recorded shells: listed page by page, replayed, and said of one whose end was never written."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.console.demo import demand_accessible
from tests.fixtures.browsing import ConsoleApi
from tests.fixtures.guest import Way
from tests.fixtures.sshd import LOGIN
from vcstack.specs.settings import SHELL_RECORDING
from vcstack.store.mirror.database import open_engine
from vcstack.store.mirror.recordings import RecordingArchive

INSTANCE = "/console/projects/demo/instances/web-1"
AGED = "UPDATE shell_recordings SET started_at = started_at - interval '2 days' WHERE ended_at IS NOT NULL"
KILLED = """UPDATE shell_recordings SET ended_at = NULL, written_at = written_at - interval '1 day',
  started_at = started_at - interval '1 day' WHERE started_at > now() - interval '1 day'"""
"""As a process leaves it that was killed: nobody wrote that it ended, and nobody writes any more."""
BETWEEN = """INSERT INTO shell_recordings
  SELECT 'rec-' || n, project, instance, instance_uid, subject, login, started_at + n * interval '1 minute',
    written_at, written_at, seconds, size, 0, expires_at
  FROM shell_recordings, generate_series(1, 99) n WHERE ended_at IS NOT NULL"""


@pytest.fixture
def archive(cloud: ConsoleApi, postgres_dsn: str) -> Iterator[AsyncEngine]:
    """What is recorded is kept, and all shells of the project are."""
    recorded = {"setting": SHELL_RECORDING, "value": "Always"}
    cloud.create("Setting", {"metadata": {"project": "demo", "name": "recorded"}, "spec": recorded})
    engine = open_engine(postgres_dsn)
    cloud.kill()
    cloud.start(recordings=RecordingArchive(engine, postgres_dsn))
    yield engine
    cloud.kill()
    cloud.run(engine.dispose())


def write(cloud: ConsoleApi, engine: AsyncEngine, statement: str) -> int:
    """Change what is kept; return how many recordings that was."""

    async def run() -> int:
        async with engine.begin() as connection:
            return (await connection.execute(text(statement))).rowcount

    return cloud.run(run())


def record(page: Page, said: str, number: int) -> None:
    """Open a shell, say something, and leave; wait until it is listed as the last of so many, and as over."""
    page.get_by_role("tab", name="Shell").click()
    page.get_by_label("Log in as").fill(LOGIN)
    page.get_by_role("button", name="Open a shell").click()
    expect(page.get_by_text("Recorded", exact=True)).to_be_visible()
    terminal = page.get_by_role("textbox", name="Shell")
    terminal.press_sequentially(f"echo {said}-$((6*7))\n")
    expect(page.get_by_test_id("shell").locator(".xterm-rows")).to_contain_text(f"{said}-42")
    terminal.press_sequentially("exit\n")
    expect(page.get_by_text("The shell ended with status 0.")).to_be_visible()
    page.get_by_role("tab", name="Recordings").click()
    expect(page.get_by_role("button", name="Play what user:alice saw")).to_have_count(number)
    expect(page.get_by_text("goes on", exact=True)).to_have_count(0)


@pytest.mark.daemons
def test_recorded_shells_are_replayed_also_old_ones_and_one_that_broke_off(
    operator: Page, cloud: ConsoleApi, archive: AsyncEngine, way: Way, built_console: Path
) -> None:
    page = operator
    page.goto(f"{INSTANCE}?tab=recordings")
    expect(page.get_by_text("No shell was recorded")).to_be_visible()
    record(page, "first", 1)
    assert write(cloud, archive, AGED) == 1
    record(page, "second", 2)
    assert write(cloud, archive, KILLED) == 1
    assert write(cloud, archive, BETWEEN) == 99

    # The newest is the one that broke off; what was written of it is there.
    page.reload()
    listed = page.get_by_role("tabpanel", name="Recordings").get_by_role("listitem")
    expect(listed).to_have_count(100)
    expect(listed.filter(has_text="broke off: its end was never recorded")).to_have_count(1)
    expect(listed.first).to_contain_text("broke off")
    demand_accessible(page, built_console, "recordings")
    replayed = page.get_by_test_id("replay").locator(".xterm-rows")
    listed.first.get_by_role("button").click()
    expect(replayed).to_contain_text("second-42")
    page.get_by_role("button", name="All recordings").click()

    # The oldest is on the next page, the last one.
    expect(listed).to_have_count(100)
    page.get_by_role("button", name="Older recordings").click()
    expect(listed).to_have_count(101)
    expect(page.get_by_role("button", name="Older recordings")).to_have_count(0)
    listed.last.get_by_role("button").click()
    expect(replayed).to_contain_text("first-42")
    demand_accessible(page, built_console, "replay")

    # Its address leads to it; it goes back and forth.
    page.reload()
    expect(replayed).to_contain_text("first-42")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.get_by_label("Position").fill("0")
    expect(replayed).not_to_contain_text("first-42")
    page.get_by_role("button", name="Play").click()
    expect(replayed).to_contain_text("first-42")

    # Of a project they are found where the instance is named, for it may be gone.
    page.get_by_role("button", name="All recordings").click()
    page.get_by_role("link", name="All of the project").click()
    expect(page.get_by_role("heading", name="Recorded shells of demo")).to_be_visible()
    expect(page.get_by_role("main").get_by_role("link", name="web-1")).to_have_count(100)
    demand_accessible(page, built_console, "recordings-project")
