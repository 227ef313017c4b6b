"""Pages made by hand: overview, network map, firewall, hosts, who may what, quotas, audit trail."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.console.demo import conditions, demand_accessible, make_instance, report, settle
from tests.fixtures.browsing import ConsoleApi, log_in
from vcstack.apiserver.audit.settings import AuditSettings
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.store.mirror.audit import AuditArchive
from vcstack.store.mirror.database import open_engine


def test_the_overview_shows_the_cloud_as_it_changes(operator: Page, cloud: ConsoleApi, built_console: Path) -> None:
    page = operator
    expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
    expect(page.get_by_role("meter", name="Memory")).to_have_attribute("value", "512")
    expect(page.get_by_role("link", name="Instance: 2, of them 0 not ready")).to_be_visible()
    takers = page.get_by_role("region", name="Who takes most")
    expect(takers.get_by_role("link")).to_contain_text("instances: 2, 2 vCPU, 512 MiB")
    moving = page.get_by_role("region", name="What changes right now")
    expect(moving).to_contain_text("HeartbeatMissed")
    report(cloud, "Instance", "web-1", **conditions("Instance", "False", "DomainGone", "Somebody has destroyed it."))
    expect(moving).to_contain_text("Somebody has destroyed it.")
    expect(page.get_by_role("link", name="Instance: 2, of them 1 not ready")).to_be_visible()
    settle(cloud, "Instance", "web-1")
    expect(moving).not_to_contain_text("web-1")
    settle(cloud, "Host", "h2", None)
    expect(moving).not_to_contain_text("HeartbeatMissed")
    demand_accessible(page, built_console, "overview")
    page.goto("/console/projects/demo/usage")
    expect(page.get_by_role("heading", name="Quotas of demo")).to_be_visible()
    page.goto("/console/")
    expect(page.get_by_role("heading", name="Overview of demo")).to_be_visible()
    expect(page.get_by_role("meter", name="instances")).to_have_attribute("value", "2")


def test_the_network_map_is_drawn_and_listed_and_grows_by_itself(
    operator: Page, cloud: ConsoleApi, built_console: Path
) -> None:
    page = operator
    page.goto("/console/projects/demo/topology")
    drawing = page.get_by_test_id("rf__wrapper")
    expect(drawing.get_by_role("link", name="Network web")).to_be_visible()
    expect(drawing.get_by_role("link", name="web-1")).to_be_visible()
    expect(drawing.get_by_text("10.1.0.5")).to_be_visible()
    expect(drawing.locator(".react-flow__edge")).to_have_count(2)
    make_instance(cloud, "web-2", "web", "10.0.0.6")
    expect(drawing.get_by_role("link", name="web-2")).to_be_visible()
    expect(drawing.locator(".react-flow__edge")).to_have_count(3)
    scale = "getComputedStyle(document.querySelector('.react-flow__viewport')).transform"
    before = page.evaluate(scale)
    page.get_by_role("button", name="Further away").click()
    page.wait_for_function(f"before => {scale} !== before", arg=before)
    page.get_by_role("button", name="Show all").click()
    demand_accessible(page, built_console, "topology")

    page.get_by_text("List", exact=True).click()
    networks = page.get_by_role("list", name="Networks")
    expect(networks.get_by_role("listitem").filter(has_text="10.0.0.0/24").first).to_contain_text("web-2")
    expect(page).to_have_url(re.compile("view=list"))
    demand_accessible(page, built_console, "topology-list")
    networks.get_by_role("link", name="db").click()
    page.wait_for_url("**/projects/demo/instances/db")


def test_rules_of_a_firewall_are_planned_applied_and_taken_back(
    operator: Page, cloud: ConsoleApi, built_console: Path
) -> None:
    page = operator

    def stored() -> list[dict[str, Any]]:
        rules: list[dict[str, Any]] = cloud.request("GET", "projects/demo/securitygroups/default")["spec"]["rules"]
        return rules

    page.goto("/console/projects/demo/firewall")
    rules = page.get_by_role("list", name="Rules")
    expect(rules.get_by_role("listitem")).to_have_count(1)
    expect(rules.get_by_text("Open to everybody")).to_be_visible()
    page.get_by_role("button", name="Add").click()
    page.get_by_role("menuitem", name="Web (HTTP and HTTPS)").click()
    page.get_by_label("Ports of ssh").fill("22-x")
    expect(page.get_by_role("button", name="Review")).to_be_disabled()
    page.get_by_label("Ports of ssh").fill("2222")
    page.get_by_label("Other side of ssh").select_option("These addresses")
    page.get_by_label("Addresses, e.g. 192.0.2.0/24 of ssh").fill("not an address")
    demand_accessible(page, built_console, "firewall")
    page.get_by_role("button", name="Review").click()
    plan = page.get_by_role("dialog")
    expect(plan.get_by_role("alert")).to_contain_text("remoteCidr")
    expect(plan.get_by_role("button", name="Apply")).to_be_disabled()
    plan.get_by_role("button", name="Back").click()
    page.get_by_label("Addresses, e.g. 192.0.2.0/24 of ssh").fill("192.0.2.0/24")
    page.get_by_role("button", name="Review").click()
    expect(plan.get_by_role("listitem")).to_have_count(3)
    expect(plan).to_contain_text("In: TCP 2222, 192.0.2.0/24")
    assert stored()[0]["portMin"] == 22, "a plan changes nothing"
    demand_accessible(page, built_console, "firewall-plan")
    plan.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("The rules of default are applied.")).to_be_visible()
    assert {rule["name"]: rule.get("portMin") for rule in stored()} == {"ssh": 2222, "http": 80, "https": 443}
    expect(rules.get_by_role("listitem")).to_have_count(3)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("The rules of default are as they were.")).to_be_visible()
    expect(rules.get_by_role("listitem")).to_have_count(1)
    assert [rule["portMin"] for rule in stored()] == [22]

    # Somebody else changes the group while it is edited: nothing is overwritten.
    page.get_by_role("button", name="Remove the rule ssh").click()
    current = cloud.request("GET", "projects/demo/securitygroups/default")
    current["spec"]["rules"].append({"name": "dns", "direction": "Egress", "protocol": "UDP", "portMin": 53})
    cloud.request("PUT", "projects/demo/securitygroups/default", current)
    expect(page.get_by_text("Somebody has changed this group meanwhile.")).to_be_visible()
    expect(page.get_by_role("button", name="Review")).to_be_disabled()
    page.get_by_role("button", name="Start again from what is there").click()
    expect(rules.get_by_role("listitem")).to_have_count(2)


def test_hosts_show_what_they_carry_and_are_cordoned_with_a_way_back(
    operator: Page, cloud: ConsoleApi, built_console: Path
) -> None:
    page = operator
    page.get_by_role("navigation").get_by_role("link", name="Hosts and load").click()
    expect(page.get_by_role("meter", name="Memory of h1")).to_have_attribute("value", "512")
    expect(page.get_by_text("No sign of life.")).to_be_visible()
    placed = page.get_by_role("list", name="Instances on h1")
    expect(placed.get_by_role("link")).to_have_count(2)
    report(cloud, "Instance", "db", host="h2")
    expect(placed.get_by_role("link")).to_have_count(1)
    expect(page.get_by_role("list", name="Instances on h2").get_by_role("link", name="demo/db, ready")).to_be_visible()
    demand_accessible(page, built_console, "hosts")
    page.get_by_role("button", name="Cordon", exact=True).first.click()
    expect(page.get_by_text("Cordoned", exact=True)).to_be_visible()
    assert cloud.request("GET", "hosts/h1")["spec"]["scheduling"] == "Disabled"
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Cordoned", exact=True)).not_to_be_visible()
    assert cloud.request("GET", "hosts/h1")["spec"]["scheduling"] == "Enabled"
    page.get_by_label("Order").select_option("Most instances first")
    expect(page).to_have_url(re.compile("sort=instances"))


def test_who_may_what_is_seen_and_asked(operator: Page, cloud: ConsoleApi, built_console: Path) -> None:
    page = operator
    cloud.create("User", {"metadata": {"name": "bob"}, "spec": {"displayName": "Bob"}})
    page.get_by_role("navigation").get_by_role("link", name="Who may what").click()
    bob = page.get_by_role("listitem").filter(has=page.get_by_role("link", name="bob", exact=True))
    expect(bob).to_contain_text("Nothing was given.")
    cloud.create("Group", {"metadata": {"name": "ops"}, "spec": {"members": ["bob"]}})
    binding = {"subject": {"kind": "Group", "name": "ops"}, "role": "reader"}
    cloud.create("RoleBinding", {"metadata": {"project": "demo", "name": "ops"}, "spec": binding})
    expect(bob).to_contain_text("reader in project demo by group ops")
    demand_accessible(page, built_console, "access")
    for tab, told in (("Groups", "1 members"), ("Roles", "built in"), ("Grants", "group:ops")):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel")).to_contain_text(told if tab != "Roles" else "given 1 times")
        demand_accessible(page, built_console, f"access-{tab.lower()}")
    page.get_by_label("Find").fill("nobody-is-called-so")
    expect(page.get_by_role("link", name="Make one")).to_have_attribute("href", "/console/rolebindings/_new")
    demand_accessible(page, built_console, "access-none")
    page.get_by_role("tab", name="May somebody?").click()
    page.get_by_label("Who", exact=True).fill("bob")
    page.get_by_label("Project", exact=True).select_option("demo")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("No, user:bob may not.")).to_be_visible()
    page.get_by_label("Does").select_option("get")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("Yes, user:bob may.")).to_be_visible()
    page.get_by_role("button", name="List all rights").click()
    expect(page.get_by_role("region", name="What user:bob may")).to_contain_text("in project demo")
    demand_accessible(page, built_console, "access-can-i")
    page.goto("/console/users/bob")
    page.get_by_role("button", name="One-time secret").click()
    demand_accessible(page, built_console, "one-time-secret")
    page.get_by_role("button", name="Make it").click()
    secret = page.get_by_test_id("secret").inner_text()
    assert cloud.request("POST", "auth/login", {"user": "bob", "password": secret})["challenge"]
    cloud.create("APIKey", {"metadata": {"name": "laptop"}, "spec": {"user": "alice"}})
    page.goto("/console/apikeys/laptop")
    page.get_by_role("button", name="Secret", exact=True).click()
    page.get_by_role("button", name="Make it").click()
    key_id, _, key_secret = page.get_by_test_id("secret").inner_text().partition(":")
    assert cloud.request("POST", "auth/token", {"keyId": key_id, "secret": key_secret})["accessToken"]


def test_quotas_are_bars_that_follow_what_is_used(operator: Page, cloud: ConsoleApi, built_console: Path) -> None:
    page = operator
    page.goto("/console/projects/demo/usage")
    expect(page.get_by_role("meter", name="instances")).to_have_attribute("value", "2")
    expect(page.get_by_text("2 of 3 · 1 left")).to_be_visible()
    make_instance(cloud, "third", "web", "10.0.0.7")
    expect(page.get_by_text("3 of 3 · nothing left")).to_be_visible()
    demand_accessible(page, built_console, "usage")
    page.get_by_role("link", name="All quotas").click()
    report(cloud, "Quota", "limits", used={"instances": 3, "memoryMiB": 768})
    expect(page.get_by_text("768 MiB of 1.0 GiB · 256 MiB left")).to_be_visible()
    demand_accessible(page, built_console, "usage-all")


def test_a_tenant_sees_of_these_pages_what_is_theirs(cloud: ConsoleApi, page: Page, built_console: Path) -> None:
    cloud.make_known_user("tina", "member", "demo")
    log_in(page, "tina")
    expect(page.get_by_role("heading", name="Overview of demo")).to_be_visible()
    navigation = page.get_by_role("navigation")
    expect(navigation.get_by_role("link", name="Hosts and load")).not_to_be_visible()
    expect(navigation.get_by_role("link", name="Who may what")).not_to_be_visible()
    expect(page.get_by_role("alert")).not_to_be_visible()
    expect(page.get_by_role("meter", name="instances")).to_be_visible()
    page.goto("/console/placement")
    expect(page.get_by_role("alert").first).to_be_visible()


@pytest.fixture
def audited(cloud: ConsoleApi, postgres_dsn: str, tmp_path: Path) -> Iterator[Trail]:
    settings = AuditSettings(folder=tmp_path / "audit", anchor_file=tmp_path / "anchors.jsonl", reserve_mib=0)
    engine = open_engine(postgres_dsn)
    trail = Trail(settings, SystemClock(), cloud.store.cache, AuditArchive(engine, postgres_dsn))
    cloud.run(trail.__aenter__())
    cloud.kill()
    cloud.start(audit=trail)
    yield trail
    cloud.kill()
    cloud.run(trail.__aexit__(None, None, None))
    cloud.run(engine.dispose())


@pytest.mark.daemons
def test_the_audit_trail_is_searched_verified_and_exported(
    cloud: ConsoleApi, audited: Trail, page: Page, built_console: Path
) -> None:
    log_in(page, "alice")
    page.get_by_role("navigation").get_by_role("link", name="Audit trail").click()
    cloud.request("POST", "projects/demo/networks", {"metadata": {"name": "recorded"}, "spec": {}})
    cloud.run(audited.flush())
    cloud.run(audited.shipper.ship())
    made = page.get_by_role("row").filter(has_text="demo/recorded")
    expect(made).to_contain_text("Allowed 201")
    demand_accessible(page, built_console, "audit")
    made.get_by_role("button").click()
    expect(page.get_by_role("dialog")).to_contain_text('"verb": "create"')
    page.keyboard.press("Escape")
    page.get_by_label("Kind").select_option("Network")
    page.get_by_label("Did").fill("delete")
    page.get_by_label("Did").press("Enter")
    expect(page.get_by_text("No record", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("kind=Network"))
    page.get_by_role("button", name="Clear the filters").click()
    expect(made).to_be_visible()
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Export").click()
    assert '"recorded"' in downloading.value.path().read_text()
    page.get_by_role("button", name="Verify", exact=True).click()
    expect(page.get_by_text("Nothing was changed or removed")).to_be_visible()
    demand_accessible(page, built_console, "audit-verified")
