"""An instance from the console alone: launched by the wizard, typed at, looked at. Real guests, real Chromium."""

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.cloud import Cloud
from tests.e2e.tenant import Tenant
from tests.fixtures.browsing import PASSWORD, WAIT_MS, find_barriers, log_in

expect.set_options(timeout=WAIT_MS)

GUEST_MS = 300_000
"""How long a guest may take to boot without KVM."""
POINTS = """() => {
  const canvas = document.querySelector('[data-testid=screen] canvas');
  if (!canvas || !canvas.width) return [0, 0];
  const points = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return [points.length, points.filter(point => (point & 0xffffff) !== 0).length];
}"""
"""How many points the screen has, and how many of them are not black."""


def bind(cloud: Cloud, project: str, user: str, role: str) -> None:
    """Give the user a role in the project."""
    spec = {"subject": {"kind": "User", "name": user}, "role": role}
    wire = {"metadata": {"project": project, "name": f"{user}-{role}"}, "spec": spec}
    cloud.call("POST", f"/api/v1/projects/{project}/rolebindings", wire)


@pytest.fixture
def member(cloud: Cloud, tenant: Tenant) -> Iterator[str]:
    """A user who is a member of the tenant's project, with a password."""
    name = f"u-{secrets.token_hex(4)}"
    cloud.call("POST", "/api/v1/users", {"metadata": {"name": name}, "spec": {}})
    for role in ("reader", "member"):
        bind(cloud, tenant.name, name, role)
    secret = cloud.call("POST", f"/api/v1/users/{name}/initialsecret")["secret"]
    step = cloud.call("POST", "/api/v1/auth/login", {"user": name, "password": secret})
    cloud.call("POST", "/api/v1/auth/password", {"challenge": step["challenge"], "newPassword": PASSWORD})
    yield name
    for session in cloud.items("sessions"):
        if session["spec"]["subject"]["name"] == name:
            cloud.delete("sessions", None, session["metadata"]["name"])
    for role in ("reader", "member", "project-admin"):
        cloud.delete("rolebindings", tenant.name, f"{name}-{role}")
    cloud.delete("users", None, name)


@pytest.fixture
def browser(cloud: Cloud, built_console: Path, chromium_pages: Callable[..., Page]) -> Iterator[Page]:
    page = chromium_pages(cloud.lab.api_url, viewport={"width": 1280, "height": 800})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    yield page
    assert not faults


def shown(page: Page, terminal: str = "terminal") -> str:
    """What a terminal shows, row by row."""
    rows = page.get_by_test_id(terminal).locator(".xterm-rows > div")
    return "\n".join(rows.all_inner_texts()).replace("\u00a0", " ")


def until(page: Page, look: Callable[[], Any], what: str, terminal: str = "terminal") -> Any:
    for _ in range(GUEST_MS // 200):
        if found := look():
            return found
        page.wait_for_timeout(200)
    raise AssertionError(f"{what}: {shown(page, terminal)}")


def use_recorded_shell(page: Page, cloud: Cloud, project: str, built_console: Path) -> None:
    """Type in a shell that the project has recorded, and leave it."""
    setting = {"setting": "shell.recording", "value": "Always"}
    cloud.apply("settings", project, "recorded", setting)
    page.get_by_role("tab", name="Shell", exact=True).click()
    panel = page.get_by_role("tabpanel", name="Shell")
    panel.get_by_role("button", name="Open a shell").click()
    until(page, lambda: "~ #" in shown(page, "shell"), "no prompt", "shell")
    expect(panel.get_by_text("Connected", exact=True)).to_be_visible()
    expect(panel.get_by_text("Recorded", exact=True)).to_be_visible()
    terminal = panel.get_by_role("textbox", name="Shell")
    terminal.press_sequentially("echo shell-$((6*7))-$(hostname)\n")
    until(page, lambda: "shell-42-seen" in shown(page, "shell"), "no answer", "shell")
    assert find_barriers(page, built_console) == []
    terminal.press_sequentially("exit\n")
    expect(panel.get_by_text("The shell ended with status 0.")).to_be_visible()


def replay(page: Page, built_console: Path) -> None:
    """Look at the one recording that is listed, from its end and from its beginning."""
    page.get_by_role("button", name="Play what user:").click()
    until(page, lambda: "shell-42-seen" in shown(page, "replay"), "nothing is played", "replay")
    player = page.get_by_role("region", name="Replay")
    player.get_by_label("Position").press("End")
    expect(player.get_by_role("button", name="Play", exact=True)).to_be_visible()
    player.get_by_label("Position").press("Home")
    until(page, lambda: "shell-42-seen" not in shown(page, "replay"), "the end is shown at the beginning", "replay")
    player.get_by_label("Position").press("End")
    until(page, lambda: "# exit" in shown(page, "replay"), "the end is not shown", "replay")
    assert find_barriers(page, built_console) == []
    with page.expect_download() as download:
        player.get_by_role("button", name="Download").click()
    assert '"version":2' in download.value.path().read_text().partition("\n")[0].replace(" ", "")


def test_an_instance_is_launched_used_and_deleted_without_leaving_the_console(
    cloud: Cloud, tenant: Tenant, member: str, browser: Page, built_console: Path
) -> None:
    page, project = browser, tenant.name
    log_in(page, member)
    page.goto(f"/console/projects/{project}/launch")
    expect(page.get_by_role("heading", name=f"Launch an instance in {project}")).to_be_visible()
    page.get_by_role("radio", name="tiny").check()
    page.get_by_role("radio", name=re.compile("^small")).check()
    page.get_by_role("button", name="New network").click()
    page.get_by_label("Name of the network").fill("made")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("checkbox", name="made")).to_be_checked()
    page.get_by_role("checkbox", name="net", exact=True).uncheck()
    name = page.get_by_label("Name", exact=True)
    name.fill("Not a label")
    expect(page.get_by_text("Lower-case letters, digits and hyphens")).to_be_visible()
    expect(page.get_by_role("button", name="Review")).to_be_disabled()
    name.fill("seen")
    assert find_barriers(page, built_console) == []
    page.get_by_role("button", name="Review").click()
    expect(page.get_by_text("It fits: quota, rules and references were checked.")).to_be_visible()
    assert cloud.find("instances", project, "seen") is None, "looking at it makes nothing"
    page.get_by_role("button", name="Launch", exact=True).click()

    # Nobody reloads: the page follows the instance until it is Ready.
    expect(page.get_by_role("heading", name="seen")).to_be_visible()
    marker = secrets.token_hex(8)
    page.evaluate(f"window.marker = '{marker}'")
    expect(page.locator("main").get_by_role("status").filter(has_text=re.compile("^Ready$"))).to_be_visible(
        timeout=GUEST_MS
    )
    assert page.evaluate("window.marker") == marker
    expect(
        page.get_by_text(cloud.get("instances", project, "seen")["status"]["addresses"][0]["address"])
    ).to_be_visible()
    assert find_barriers(page, built_console) == []

    page.get_by_role("tab", name="Boot log").click()
    expect(page.get_by_label("Boot log", exact=True).last).to_contain_text("GUEST-READY seen", timeout=GUEST_MS)

    page.get_by_role("tab", name="Serial console").click()
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    terminal = page.get_by_role("textbox", name="Serial console")
    terminal.press("Enter")
    until(page, lambda: "login:" in shown(page), "no one asks who it is")
    terminal.press_sequentially("root\n")
    until(page, lambda: "Password:" in shown(page), "no one asks for a password")
    terminal.press_sequentially("tiny\n")
    until(page, lambda: "~ #" in shown(page), "no shell")
    terminal.press_sequentially("echo $((6*7))-$(hostname)\n")
    until(page, lambda: "42-seen" in shown(page), "no answer")
    assert find_barriers(page, built_console) == []

    page.get_by_role("tab", name="Screen").click()
    points, lit = until(page, lambda: (found := page.evaluate(POINTS))[1] > 100 and found, "nothing on the screen")
    assert points >= 640 * 400
    assert lit < points / 2
    assert find_barriers(page, built_console) == []

    # The console went on behind the other tabs: what was typed is there, and it is still connected.
    page.get_by_role("tab", name="Serial console").click()
    until(page, lambda: "42-seen" in shown(page), "what was typed is not there")
    terminal.press_sequentially("echo still-$((40+2))\n")
    until(page, lambda: "still-42" in shown(page), "the connection was lost")

    page.get_by_role("tab", name="Screen").click()
    page.get_by_role("button", name="Screenshot").click()
    picture = page.get_by_role("img", name="Screenshot of seen")
    until(page, lambda: picture.evaluate("image => image.naturalWidth") >= 640, "no picture of the screen")
    page.get_by_role("button", name="Close").click()

    use_recorded_shell(page, cloud, project, built_console)
    expect(page.get_by_role("tab", name="Events")).to_be_visible()
    expect(page.get_by_role("tab", name="Recordings")).to_be_hidden()

    page.get_by_role("tab", name="Overview").click()
    cpu = page.locator("figure", has_text="CPU").locator("figcaption")
    expect(cpu).to_contain_text(re.compile(r"\d+ %"))

    # A right that is lost ends the connections within seconds; what may still be read stays.
    page.get_by_role("tab", name="Serial console").click()
    panel = page.get_by_role("tabpanel", name="Serial console")
    cloud.delete("rolebindings", project, f"{member}-member")
    expect(panel.get_by_text("Not connected")).to_be_visible()
    panel.get_by_role("button", name="Connect").click()
    expect(panel.get_by_text("may not update Instance")).to_be_visible()
    bind(cloud, project, member, "member")
    panel.get_by_role("button", name="Connect").click()
    expect(panel.get_by_text("Connected", exact=True)).to_be_visible()

    page.get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("its root disk with everything on it is lost")
    assert find_barriers(page, built_console) == []
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    cloud.wait("the instance is gone", lambda: cloud.find("instances", project, "seen") is None)

    # Who administers the project sees what was done in it, also where the instance is gone.
    bind(cloud, project, member, "project-admin")
    page.goto(f"/console/projects/{project}/audit")
    page.get_by_role("link", name="Recorded shells").click()
    expect(page.get_by_role("heading", name=f"Recorded shells of {project}")).to_be_visible()
    assert find_barriers(page, built_console) == []
    replay(page, built_console)
