"""Lists of any kind: they follow what happens, find, sort, export, and do things to many at once."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.fixtures.browsing import ConsoleApi, find_barriers, log_in

SPEC = {"matches": {"kinds": ["Instance"]}, "requireLabels": [{"key": "cost"}], "action": "Audit"}
"""Nothing has to be done when policies go, so no controller is needed."""
TYPE_AND_SORT = """() => {
  const find = document.querySelector('[data-find]');
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(find, 'team-1');
  find.dispatchEvent(new Event('input', { bubbles: true }));
  [...document.querySelectorAll('button')].find(button => button.textContent.trim() === 'Name').click();
}"""
"""Faster than anybody: before the page was drawn anew."""


@pytest.fixture
def twelve(console: ConsoleApi) -> ConsoleApi:
    """Twelve policies, some labelled, and somebody who looks at them."""
    for number in range(12):
        labels = {"env": "prod" if number % 3 == 0 else "dev"}
        console.create("Policy", {"metadata": {"name": f"team-{number}", "labels": labels}, "spec": SPEC})
    console.make_known_user("alice")
    return console


def test_a_list_follows_what_happens_and_survives_the_end_of_the_api(
    twelve: ConsoleApi, page: Page, built_console: Path
) -> None:
    log_in(page, "alice")
    page.goto("/console/policies")
    expect(page.get_by_text("12 of 12")).to_be_visible()
    for row, name in enumerate(("team-0", "team-1", "team-2"), 1):  # ten comes after nine
        expect(page.get_by_role("row").nth(row).get_by_role("link")).to_have_text(name)
    assert find_barriers(page, built_console) == []

    twelve.create("Policy", {"metadata": {"name": "made-meanwhile"}, "spec": SPEC})
    expect(page.get_by_role("link", name="made-meanwhile")).to_be_visible()
    twelve.request("DELETE", "policies/made-meanwhile")
    expect(page.get_by_role("link", name="made-meanwhile")).to_be_hidden()

    twelve.kill()
    expect(page.get_by_text("The API does not answer")).to_be_visible()
    twelve.create("Policy", {"metadata": {"name": "made-in-the-dark"}, "spec": SPEC})
    twelve.start()
    expect(page.get_by_role("link", name="made-in-the-dark")).to_be_visible()
    expect(page.get_by_text("The API does not answer")).to_be_hidden()
    expect(page.get_by_text("Catching up")).to_be_hidden()


def test_what_is_looked_for_stands_in_the_address(twelve: ConsoleApi, page: Page) -> None:
    log_in(page, "alice")
    page.goto("/console/policies")
    page.get_by_label("Find in the list").fill("team-1")
    expect(page.get_by_text("3 of 12")).to_be_visible()
    page.get_by_role("button", name="Name").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("team-11")
    page.get_by_label("Labels, e.g. env=prod").fill("env=prod")
    page.keyboard.press("Enter")
    expect(page.get_by_text("0 of 4")).to_be_visible()
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    for part in ("q=team-1", "label=env%3Dprod", "sort=-name"):
        expect(page).to_have_url(re.compile(re.escape(part)))
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.get_by_text("12 of 12")).to_be_visible()
    page.evaluate(TYPE_AND_SORT)
    expect(page).to_have_url(f"{twelve.url}/console/policies?q=team-1")  # in the usual order again
    page.goto("/console/policies?q=team-1&sort=-name")
    expect(page.get_by_role("row").nth(1)).to_contain_text("team-11")

    with page.expect_download() as downloading:
        page.get_by_role("button", name="Export").click()
        page.get_by_role("menuitem", name="Manifests (YAML)").click()
    text = Path(downloading.value.path()).read_text()
    assert text.startswith("apiVersion: vcstack.io/v1\nkind: Policy\nmetadata:\n  name: team-11\n")
    assert "uid" not in text


def test_many_are_labelled_with_a_way_back_and_deleted_after_a_question(
    twelve: ConsoleApi, page: Page, built_console: Path
) -> None:
    log_in(page, "alice")
    page.goto("/console/policies?q=team")
    page.get_by_label("Select team-3").check()
    page.get_by_label("Select team-4").check()
    page.get_by_role("button", name="Label").click()
    page.get_by_label("Labels", exact=True).fill("tier=gold env-")
    page.get_by_role("dialog").get_by_role("button", name="Label").click()
    expect(page.get_by_text("Policy labelled")).to_be_visible()
    assert twelve.request("GET", "policies/team-3")["metadata"]["labels"] == {"tier": "gold"}
    page.get_by_role("button", name="Undo").click()
    page.get_by_label("Find in the list").fill("env=prod")
    expect(page.get_by_text("4 of 12")).to_be_visible()
    assert twelve.request("GET", "policies/team-3")["metadata"]["labels"] == {"env": "prod"}

    page.get_by_label("Find in the list").fill("team")
    expect(page.get_by_text("12 of 12")).to_be_visible()
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("team-11")
    assert find_barriers(page, built_console) == []
    expect(dialog.get_by_role("button", name="Delete 12")).to_be_disabled()
    dialog.get_by_label("Type 12 to go on").fill("12")
    dialog.get_by_role("button", name="Delete 12").click()
    expect(page.get_by_text("No Policy yet").or_(page.get_by_text("Nothing matches"))).to_be_visible()
    assert twelve.request("GET", "policies")["items"] == []


def test_what_tenants_write_is_text(console: ConsoleApi, page: Page) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\">"
    console.create("User", {"metadata": {"name": "mallory"}, "spec": {"displayName": evil}})
    console.make_known_user("alice")
    log_in(page, "alice")
    page.goto("/console/users?wide=1")
    expect(page.get_by_role("link", name="mallory")).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "owned"


def test_deleting_many_names_what_goes_with_them_and_what_keeps_them(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    console.create("Project", {"metadata": {"name": "demo"}, "spec": {}})
    for name in ("green", "blue"):
        console.create("Network", {"metadata": {"name": name, "project": "demo"}, "spec": {}})
    subnet = {"network": "blue", "cidr": "10.7.0.0/24"}
    console.create("Subnet", {"metadata": {"name": "v4", "project": "demo"}, "spec": subnet})
    uid = console.request("GET", "projects/demo/networks/green")["metadata"]["uid"]
    owner = {"kind": "Network", "name": "green", "uid": uid}
    metadata = {"name": "its-own", "project": "demo", "ownerReferences": [owner]}
    console.create("SecurityGroup", {"metadata": metadata, "spec": {}})
    console.make_known_user("alice")
    log_in(page, "alice")
    page.goto("/console/projects/demo/networks")
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("This goes with them:")).to_be_visible()
    expect(dialog.get_by_role("listitem").filter(has_text="SecurityGroup its-own")).to_be_visible()
    expect(dialog.get_by_text("These name them.")).to_be_visible()
    expect(dialog.get_by_role("listitem").filter(has_text="Subnet v4")).to_be_visible()
    assert find_barriers(page, built_console) == []
    go = dialog.get_by_role("button", name="Delete 2")
    expect(go).to_be_disabled()
    dialog.get_by_label("Type 2 to go on").fill("2")
    go.click()
    expect(page.get_by_text(re.compile("^2 . Network on the way out$"))).to_be_visible()
    for name in ("green", "blue"):
        assert console.request("GET", f"projects/demo/networks/{name}")["metadata"]["deletionTimestamp"]

    # Of what nothing depends on, nobody has to type anything.
    page.goto("/console/projects/demo/subnets")
    page.get_by_label("Select v4").check()
    page.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("button", name="Delete 1")).to_be_enabled()

    page.goto("/console/projects?q=demo")
    page.get_by_label("Select demo").check()
    page.get_by_role("button", name="Delete").click()
    for lost in ("Network green", "Network blue", "Subnet v4", "SecurityGroup its-own"):
        expect(dialog.get_by_role("listitem").filter(has_text=lost)).to_be_visible()
    page.keyboard.press("Escape")
    page.goto("/console/projects/demo")
    page.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("listitem").filter(has_text="Subnet v4")).to_be_visible()


def test_a_tenant_is_offered_what_may_be_listed_and_told_who_could_grant_the_rest(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    console.create("Project", {"metadata": {"name": "demo"}, "spec": {}})
    console.make_known_user("tina", "member", "demo")
    page.goto("/console/")
    page.get_by_role("button", name="Log in", exact=True).wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    log_in(page, "tina")
    navigation = page.get_by_role("navigation", name="Navigation")
    for kind in ("Network", "APIKey", "Flavor"):
        expect(navigation.get_by_role("link", name=kind, exact=True)).to_be_visible()
    for kind in ("User", "Host", "Domain"):
        expect(navigation.get_by_role("link", name=kind, exact=True)).to_have_count(0)
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Search or run a command")
    page.get_by_role("combobox", name="Search or run a command").fill("port")
    expect(palette.get_by_role("option", name="Port port")).to_be_visible()
    page.get_by_role("combobox", name="Search or run a command").fill("hosts")
    expect(palette.get_by_role("option")).to_have_count(0)
    page.keyboard.press("Escape")
    page.goto("/console/account")
    expect(page.get_by_text("This one")).to_be_visible()
    page.get_by_role("button", name="Change the password").wait_for()
    assert not [url for url in asked if "/api/v1/users" in url], "what is refused is in the audit trail"
    page.goto("/console/hosts")
    expect(page.get_by_role("heading", name="You may not list Host")).to_be_visible()
    expect(page.get_by_text("can give you a role that allows it")).to_be_visible()
    expect(page.get_by_text("more are coming")).to_have_count(0)
    assert find_barriers(page, built_console) == []


def test_the_palette_leads_to_what_is_not_among_the_first_of_a_kind(console: ConsoleApi, page: Page) -> None:
    spec = {"vcpus": 1, "memoryMiB": 256, "rootDiskGiB": 1}
    for number in range(501):
        console.create("Flavor", {"metadata": {"name": f"size-{number:03}"}, "spec": spec})
    console.make_known_user("alice")
    log_in(page, "alice")
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Search or run a command")
    page.get_by_role("combobox", name="Search or run a command").fill("size-499")
    expect(palette.get_by_role("option", name="size-499 Flavor")).to_be_visible()
    page.get_by_role("combobox", name="Search or run a command").fill("size-500")
    palette.get_by_role("option", name="Find “size-500” in the list of Flavor").click()
    expect(page.get_by_role("link", name="size-500")).to_be_visible()
