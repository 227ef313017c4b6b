"""An instance's page and its launch, on what controllers and hosts would have reported."""

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.console.test_overviews import cloud, conditions, demand_accessible, operator, report, settle  # noqa: F401
from tests.fixtures.browsing import ConsoleApi
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
    page.goto("/console/projects/demo/launch")
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
