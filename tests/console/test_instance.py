"""An instance's page and its launch, on what controllers and hosts would have reported."""

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.console.demo import conditions, demand_accessible, report, settle
from tests.fixtures.browsing import ConsoleApi
from tests.fixtures.guest import SshGuest, Way, tunnel_of
from tests.fixtures.sshd import LOGIN
from vcstack.apiclient.frames import TunnelStream
from vcstack.nodeagent.serial import read_log
from vcstack.specs.errors import Unavailable
from vcstack.specs.registry import get_kind

AT = "2026-11-23T09:00:00Z"
AS_LARGE = r"""before => {
  const rows = [...document.querySelectorAll('[data-testid=shell] .xterm-rows > div')];
  return rows.length !== before && rows.some(row => parseInt(row.textContent) === rows.length);
}"""
"""Whether the terminal has another number of rows than before, and what runs in the guest says the same one."""


def test_an_instances_page_says_why_what_happened_and_how_it_is_written(
    operator: Page,
    cloud: ConsoleApi,
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
    # A machine that was to be stopped and is shows no word of Running, and no fault.
    stopped = cloud.request("GET", "projects/demo/instances/web-1")
    cloud.request(
        "PUT", "projects/demo/instances/web-1", stopped | {"spec": stopped["spec"] | {"powerState": "Stopped"}}
    )
    report(cloud, "Instance", "web-1", powerState="Stopped", **conditions("Instance", "True", "Stopped"))
    held = page.get_by_role("heading", name="Conditions").locator("..")
    expect(held.get_by_text("Stopped", exact=True)).to_be_visible()
    expect(held.get_by_text("Running")).to_have_count(0)
    expect(page.get_by_role("status").get_by_text("Stopped", exact=True)).to_be_visible()
    demand_accessible(page, built_console, "instance-stopped")
    page.get_by_role("link", name="Edit").click()
    expect(page.get_by_role("heading", name="Change Instance web-1")).to_be_visible()


def test_what_holds_an_instance_up_follows_the_other_objects(operator: Page, cloud: ConsoleApi) -> None:
    page = operator
    page.clock.install()
    report(cloud, "Image", "tiny", **conditions("Image", "False", "Fetching", "It is being fetched."))
    report(cloud, "Instance", "web-1", **conditions("Instance", "False", "ImageNotReady", "Image tiny is not ready."))
    page.goto("/console/projects/demo/instances/web-1")
    cause = page.get_by_role("heading", name="What holds it up").locator("../..")
    expect(cause).to_contain_text("It is being fetched.")
    report(cloud, "Image", "tiny", **conditions("Image", "False", "FetchFailed", "The server does not answer."))
    page.clock.fast_forward(15_000)
    expect(cause).to_contain_text("The server does not answer.")


def test_an_instance_is_launched_on_a_network_that_another_project_shares(
    operator: Page,
    cloud: ConsoleApi,
    built_console: Path,
) -> None:
    page = operator
    for name in ("lender", "l" * 63):
        cloud.create("Project", {"metadata": {"name": name}, "spec": {}})
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
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="in which project?")).to_be_visible()
    page.go_forward()
    expect(own).to_have_count(1)  # what was chosen is still so
    page.get_by_role("button", name="Review").click()
    expect(page.get_by_role("dialog")).to_contain_text("network: lender/lent")
    expect(page.get_by_text("It fits: quota, rules and references were checked.")).to_be_visible()
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("heading", name="tiny-1")).to_be_visible()
    made = cloud.run(cloud.store.get(get_kind("Instance"), "demo", "tiny-1")).wire
    assert made["spec"]["networkInterfaces"] == [{"name": "eth0", "network": "lender/lent"}]


def test_a_shell_is_opened_typed_at_and_opened_again(
    operator: Page,
    cloud: ConsoleApi,
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
    rows = page.get_by_test_id("shell").locator(".xterm-rows")
    terminal.press_sequentially("clear; echo is-$((6*7))\n")
    expect(rows).to_contain_text("is-42")
    demand_accessible(page, built_console, "shell")

    # The terminal in the guest is as large as the one here, also when that changes.
    terminal.press_sequentially("while clear; stty size; do sleep 0.2; done\n")
    page.wait_for_function(AS_LARGE, arg=0)
    before = rows.locator("> div").count()
    page.set_viewport_size({"width": 700, "height": 600})
    page.wait_for_function(AS_LARGE, arg=before)
    terminal.press("Control+c")

    # It goes on while another tab is looked at, and while nobody looks.
    terminal.press_sequentially("clear; (sleep 1; echo later-$((6*7)))\n")
    page.get_by_role("tab", name="Events").click()
    page.get_by_role("tab", name="Shell").click()
    expect(rows).to_contain_text("later-42")
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
    expect(page.get_by_text("Waiting for the guest's SSH server")).to_be_visible()
    way.error = None
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    guest.kill_sessions()
    expect(page.get_by_text("the connection to the instance's SSH server broke")).to_be_visible()
    way.error = Unavailable("nothing listens at port 22 of 10.0.0.5")
    page.get_by_role("button", name="Open a shell").click()
    page.get_by_role("button", name="Do not wait").click()
    settle(cloud, "Instance", "web-1", host="h2")
    page.get_by_role("button", name="Open a shell").click()
    expect(page.get_by_text("host h2 is not connected at the moment")).to_be_visible()


def test_a_boot_log_goes_on_when_its_host_comes_back(operator: Page, cloud: ConsoleApi, tmp_path: Path) -> None:
    page, file = operator, tmp_path / "serial.log"
    file.write_text("first boot\n")

    async def serve(stream: TunnelStream) -> None:
        async for chunk in read_log(file, tail_lines=stream.request.tail_lines, follow=True):
            await stream.send(chunk)

    page.goto("/console/projects/demo/instances/web-1?tab=log")
    log = page.get_by_role("region", name="Boot log")
    expect(page.get_by_text("host h1 is not connected at the moment")).to_be_visible()
    for line in ("second boot", "third boot"):
        with file.open("a") as end:
            end.write(line + "\n")
        agent = tunnel_of(cloud.api, "h1", serve)
        cloud.run(agent.__aenter__())
        expect(log).to_contain_text(line)
        expect(page.get_by_role("tabpanel").get_by_role("alert")).to_have_count(0)
        cloud.run(agent.__aexit__(None, None, None))
    assert log.inner_text().count("first boot") == 1


def test_what_is_done_to_an_instance_is_done_to_the_very_one_that_is_shown(operator: Page, cloud: ConsoleApi) -> None:
    page = operator
    uid = cloud.run(cloud.store.get(get_kind("Instance"), "demo", "db")).wire["metadata"]["uid"]
    page.goto("/console/projects/demo/instances/db")
    page.get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name="Delete").click()
    with page.expect_request(lambda request: request.method == "DELETE" and "dryRun" not in request.url) as deleting:
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    assert f"uid={uid}" in deleting.value.url
