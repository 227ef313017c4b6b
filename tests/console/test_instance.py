"""An instance's page and its launch, on what controllers and hosts would have reported."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.test_overviews import cloud, conditions, demand_accessible, operator, report, settle  # noqa: F401
from tests.fixtures.browsing import ConsoleApi
from tests.fixtures.guest import SshGuest, Way, leading_to
from tests.fixtures.sshd import LOGIN
from vcstack.specs.errors import Unavailable
from vcstack.specs.registry import get_kind

AT = "2026-11-23T09:00:00Z"


def test_an_instances_page_says_why_what_happened_and_how_it_is_written(
    operator: Page,  # noqa: F811
    cloud: ConsoleApi,  # noqa: F811
    built_console: Path,
) -> None:
    page = operator
    uid = cloud.run(cloud.store.get(get_kind("Instance"), "demo", "web-1")).wire["metadata"]["uid"]
    report(cloud, "Instance", "web-1", **conditions("Instance", "False", "DomainGone", "Somebody has destroyed it."))
    event = {
        "regarding": {"kind": "Instance", "name": "web-1", "uid": uid},
        **{"type": "Warning", "reason": "Vanished", "message": "<b>The machine</b> is not there any more."},
        **{"actor": "host:h1", "firstTime": AT, "lastTime": AT},
    }
    cloud.create("Event", {"metadata": {"project": "demo", "name": "vanished"}, "spec": event})
    page.goto("/console/projects/demo/instances/web-1")
    cause = page.get_by_role("heading", name="What holds it up").locator("../..")
    expect(cause).to_contain_text("Somebody has destroyed it.")
    demand_accessible(page, built_console, "instance")
    page.get_by_role("tab", name="Events").click()
    panel = page.get_by_role("tabpanel", name="Events")
    expect(panel.get_by_text("<b>The machine</b> is not there any more.", exact=True)).to_be_visible()
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator(".cm-content")).to_contain_text("flavor: small")
    demand_accessible(page, built_console, "instance-yaml")
    page.get_by_role("tab", name="Connections").click()
    expect(page.get_by_role("tabpanel").get_by_role("link", name="tiny")).to_be_visible()

    # What does not hold any more goes by itself.
    page.get_by_role("tab", name="Overview").click()
    settle(cloud, "Instance", "web-1")
    expect(page.get_by_role("heading", name="What holds it up")).to_have_count(0)
    page.get_by_role("link", name="Edit").click()
    expect(page.get_by_role("heading", name="Change Instance web-1")).to_be_visible()


def test_an_instance_is_launched_on_a_network_that_another_project_shares(
    operator: Page,  # noqa: F811
    cloud: ConsoleApi,  # noqa: F811
    built_console: Path,
) -> None:
    page = operator
    cloud.create("Project", {"metadata": {"name": "lender"}, "spec": {}})
    settle(cloud, "Image", "tiny")
    for name, spec in (("lent", {"sharedWith": [{"project": "demo"}]}), ("kept", {})):
        cloud.create("Network", {"metadata": {"project": "lender", "name": name}, "spec": spec})
    page.goto("/console/")
    page.get_by_role("main").get_by_role("link", name="Launch an instance").click()
    expect(page.get_by_role("heading", name="in which project?")).to_be_visible()
    demand_accessible(page, built_console, "where-to-launch")
    page.get_by_role("main").get_by_role("link", name="demo").click()
    expect(page.get_by_role("checkbox", name="lender/lent")).not_to_be_checked()
    expect(page.get_by_text("Shared by project lender.")).to_be_visible()
    expect(page.get_by_role("checkbox", name="kept")).to_have_count(0)
    page.get_by_role("checkbox", name="lender/lent").check()
    own = page.get_by_role("group", name="Network").get_by_role("checkbox", checked=True)
    expect(own).to_have_count(2)
    page.get_by_role("checkbox", name="back").uncheck()
    page.get_by_role("checkbox", name="web", exact=True).uncheck()
    demand_accessible(page, built_console, "launch")
    page.get_by_role("button", name="Review").click()
    expect(page.get_by_role("dialog")).to_contain_text("network: lender/lent")
    expect(page.get_by_text("It fits: quota, rules and references were checked.")).to_be_visible()
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("heading", name="tiny-1")).to_be_visible()
    made = cloud.run(cloud.store.get(get_kind("Instance"), "demo", "tiny-1")).wire
    assert made["spec"]["networkInterfaces"] == [{"name": "eth0", "network": "lender/lent"}]


@pytest.fixture
def way(cloud: ConsoleApi, guest: SshGuest) -> Iterator[Way]:  # noqa: F811
    """The instance's host leads to an SSH server that trusts the project's authority."""
    settle(cloud, "Instance", "web-1", powerState="Running")
    guest.trust(cloud.request("GET", "projects/demo/sshauthority")["publicKey"])
    leading = leading_to(cloud.api, guest.port, "h1")
    yield cloud.run(leading.__aenter__())
    cloud.run(leading.__aexit__(None, None, None))


def shown(page: Page) -> str:
    """What the shell's terminal shows."""
    return "\n".join(page.get_by_test_id("shell").locator(".xterm-rows > div").all_inner_texts())


def until_shown(page: Page, text: str) -> None:
    expect(page.get_by_test_id("shell").locator(".xterm-rows")).to_contain_text(text)


def test_a_shell_is_opened_typed_at_and_opened_again(
    operator: Page,  # noqa: F811
    cloud: ConsoleApi,  # noqa: F811
    way: Way,
    guest: SshGuest,
    built_console: Path,
) -> None:
    page = operator
    page.goto("/console/projects/demo/instances/web-1?tab=shell")
    page.get_by_label("Log in as").fill("nobody-there")
    page.get_by_role("button", name="Open a shell").click()
    expect(page.get_by_text("the guest lets nobody-there not in")).to_be_visible()
    page.get_by_label("Log in as").fill(LOGIN)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    terminal = page.get_by_role("textbox", name="Shell")
    terminal.press_sequentially("clear; echo is-$((6*7))\n")
    until_shown(page, "is-42")
    demand_accessible(page, built_console, "shell")

    # The terminal in the guest is as large as the one here, also when that changes.
    page.set_viewport_size({"width": 700, "height": 600})
    rows = page.get_by_test_id("shell").locator(".xterm-rows > div")
    expect(rows).not_to_have_count(24)
    terminal.press_sequentially(f"until stty size | grep '^{rows.count()} '; do :; done; echo larger-$((6*7))\n")
    until_shown(page, "larger-42")

    # It goes on while another tab is looked at, and while nobody looks.
    terminal.press_sequentially("clear; (sleep 1; echo later-$((6*7)))\n")
    page.get_by_role("tab", name="Events").click()
    page.get_by_role("tab", name="Shell").click()
    until_shown(page, "later-42")
    terminal.press_sequentially("exit 3\n")
    expect(page.get_by_text("The shell ended with status 3.")).to_be_visible()

    # Cut off, it says so; what is wrong is said in the host's words.
    page.get_by_role("button", name="Open a shell").click()
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    guest.kill_sessions()
    expect(page.get_by_text("the connection to the instance's SSH server broke")).to_be_visible()
    way.error = Unavailable("nothing listens at port 22 of 10.0.0.5")
    page.get_by_role("button", name="Open a shell").click()
    expect(page.get_by_text("nothing listens at port 22 of 10.0.0.5")).to_be_visible()
    settle(cloud, "Instance", "web-1", host="h2")
    page.get_by_role("button", name="Open a shell").click()
    expect(page.get_by_text("host h2 is not connected at the moment")).to_be_visible()
