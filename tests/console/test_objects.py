"""Pages of one object: what is seen follows what happens, and nothing is saved that was not shown first."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.fixtures.api import SYSTEM
from tests.fixtures.browsing import ConsoleApi, find_barriers, log_in
from vcstack.clock import SystemClock
from vcstack.pki.installation import Installation
from vcstack.specs.conditions import build_condition
from vcstack.specs.errors import NotFound
from vcstack.specs.registry import get_kind
from vcstack.specs.resource import Ref
from vcstack.specs.settings import KNOWN_SETTINGS

NETWORK = "/console/projects/demo/networks/web"
EDITOR = ".cm-content"


@dataclass(frozen=True)
class Noted:
    """A version of an object."""

    ref: Ref
    wire: Mapping[str, Any]
    operation: str

    @property
    def revision(self) -> int:
        return int(self.wire["metadata"]["resourceVersion"])

    @property
    def uid(self) -> str:
        return str(self.wire["metadata"]["uid"])

    def to_wire(self) -> dict[str, Any]:
        return {
            "kind": self.ref.kind,
            "project": self.ref.project,
            "name": self.ref.name,
            "revision": str(self.revision),
            "uid": self.uid,
            "operation": self.operation,
            "actor": "user:alice",
            "manager": "console",
            "time": "2026-11-23T03:00:00Z",
            "diff": [{"path": "spec.mtuBytes"}],
        }


class Notes:
    """A history that a test writes by noting the present state."""

    def __init__(self) -> None:
        self.versions: list[Noted] = []

    def note(self, console: ConsoleApi, ref: Ref, operation: str) -> None:
        stored = console.run(console.store.get(get_kind(ref.kind), ref.project, ref.name))
        self.versions.insert(0, Noted(ref, stored.wire, operation))

    async def read_position(self) -> int:
        return sys.maxsize  # it is never behind

    async def list_revisions(
        self, ref: Ref, *, limit: int = 100, before: int | None = None, since: Any = None, uid: str | None = None
    ) -> Sequence[Noted]:
        return [v for v in self.versions if v.ref == ref and (before is None or v.revision < before)][:limit]

    async def list_of_project(
        self, project: str, *, since: datetime, limit: int = 100, before: int | None = None
    ) -> Sequence[Noted]:
        return [v for v in self.versions if before is None or v.revision < before][:limit]

    async def get_at_revision(
        self, ref: Ref, revision: int, *, since: Any = None, uid: str | None = None
    ) -> Mapping[str, Any]:
        for version in self.versions:
            if version.ref == ref and version.revision <= revision:
                return version.wire
        raise NotFound(f"{ref} did not exist at revision {revision}")

    async def find_reach(self, ref: Ref, *, since: Any = None, uid: str | None = None) -> None:
        return None

    async def find_project_reach(self, project: str, *, since: datetime) -> None:
        return None

    async def list_events(self, wanted: Any) -> Sequence[Any]:
        return ()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def console(built_console: Path, pki_installation: Installation, tmp_path: Path, notes: Notes) -> Iterator[ConsoleApi]:
    with ConsoleApi(pki_installation, tmp_path, history=notes) as found:
        found.create("Project", {"metadata": {"name": "demo"}, "spec": {}})
        found.create("Network", {"metadata": {"name": "web", "project": "demo"}, "spec": {"mtuBytes": 1400}})
        found.make_known_user("alice")
        yield found


def live(console: ConsoleApi, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = console.run(console.store.get(get_kind(kind), "demo", name)).wire
    return found


def expect_shown(page: Page, what: str) -> None:
    """Wait until the plan was carried out and the object is looked at; plan and editor have headings with its name."""
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("heading", name=re.compile(f"^{what}"))).to_be_visible()


def replace_text(page: Page, text: str) -> None:
    page.locator(EDITOR).click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)


def paste(page: Page, text: str) -> None:
    script = """(target, text) => {
        const clipboardData = new DataTransfer();
        clipboardData.setData("text/plain", text);
        target.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }"""
    page.locator(EDITOR).evaluate(script, text)


def test_an_object_is_shown_whole_and_follows_what_happens(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    log_in(page, "alice")
    page.goto(NETWORK)
    expect(page.get_by_role("heading", name="Network web")).to_be_visible()
    expect(page.get_by_role("heading", name="What holds it up")).to_be_visible()
    expect(page.get_by_text("has not been observed yet").first).to_be_visible()
    definition = get_kind("Network")
    conditions = [
        build_condition(c, True, "Done", "It is there.", generation=1, now=SystemClock().now()).to_wire()
        for c in definition.ready_when
    ]
    console.run(console.store.patch_status(definition, "demo", "web", {"conditions": conditions}, actor=SYSTEM))
    expect(page.get_by_role("heading", name="What holds it up")).to_have_count(0)
    expect(page.get_by_text("It is there.").first).to_be_visible()
    assert find_barriers(page, built_console) == []

    subnet = {"metadata": {"name": "v4", "project": "demo"}, "spec": {"network": "web", "cidr": "10.9.0.0/24"}}
    console.create("Subnet", subnet)
    page.get_by_role("tab", name="Connections").click()
    expect(page.get_by_role("region", name="What names it").get_by_role("link", name=re.compile("v4"))).to_be_visible()
    assert find_barriers(page, built_console) == []
    for tab in ("Events", "YAML", "History"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        if tab == "YAML":
            expect(page.locator(EDITOR)).to_contain_text("mtuBytes: 1400")
        assert find_barriers(page, built_console) == []
    page.get_by_role("tab", name="Connections").click()
    page.get_by_role("link", name=re.compile("v4")).click()
    expect(page).to_have_url(re.compile("/projects/demo/subnets/v4$"))


def test_yaml_with_an_error_is_told_where_and_then_planned_and_applied(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    log_in(page, "alice")
    page.goto(NETWORK)
    page.get_by_role("link", name="Edit").click()
    expect(page.locator(EDITOR)).to_contain_text("mtuBytes: 1400")
    assert find_barriers(page, built_console) == []
    problems = page.get_by_role("region", name="What is wrong")
    plan = page.get_by_role("button", name="See the plan")

    text = "apiVersion: vcstack.io/v1\nkind: Network\nmetadata:\n  name: web\n  project: demo\nspec:\n  {0}\n"
    replace_text(page, text.replace("{0}", "mtuBytess: 1300"))
    expect(problems).to_contain_text("Line 7")
    expect(problems).to_contain_text("there is no such field; known: mtuBytes")
    expect(plan).to_be_disabled()
    replace_text(page, text.replace("{0}", "mtuBytes: 1\n   x: " + "[" * 500))
    expect(problems).to_be_visible()
    expect(plan).to_be_disabled()
    # A fault that comes many times over is told once, and goes when it is mended.
    replace_text(page, text.replace("{0}", "mtuBytes: one"))
    expect(problems.get_by_role("listitem")).to_have_count(1)
    expect(problems).to_contain_text("spec.mtuBytes: ")
    # The schema allows it; what the API thinks of it comes to the same line.
    replace_text(page, text.replace("{0}", "mtuBytes: 1300\n  sharedWith:\n  - project: nowhere"))
    expect(problems).to_contain_text(re.compile("Line [89]"))
    expect(problems).to_contain_text("nowhere")
    replace_text(page, text.replace("{0}", "mtuBytes: 1300"))
    expect(problems).to_have_count(0)
    expect(page.get_by_label("mtuBytes")).to_have_value("1300")  # the form is of the same text

    plan.click()
    dialog = page.get_by_role("dialog", name="What will be done")
    expect(dialog.get_by_role("alert")).to_contain_text("test")  # another manager owns it
    expect(dialog.get_by_role("button", name="Apply")).to_be_disabled()
    assert find_barriers(page, built_console) == []
    dialog.get_by_label("Take over the fields that others own").check()
    expect(dialog.get_by_role("row", name=re.compile("spec.mtuBytes"))).to_contain_text("1300")
    dialog.get_by_role("button", name="Apply").click()
    expect_shown(page, "Network web")
    assert live(console, "Network", "web")["spec"]["mtuBytes"] == 1300

    expect(page.get_by_text("1300").first).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("1400").first).to_be_visible()
    assert live(console, "Network", "web")["spec"]["mtuBytes"] == 1400

    # What somebody else changes while the plan is looked at is not undone unseen.
    page.get_by_role("link", name="Edit").click()
    expect(page.locator(EDITOR)).to_contain_text("mtuBytes: 1400")
    replace_text(page, text.replace("{0}", "mtuBytes: 1300 # mine"))
    plan.click()
    expect(dialog.get_by_role("row", name=re.compile("spec.mtuBytes"))).to_be_visible()
    theirs = live(console, "Network", "web")
    theirs["metadata"]["labels"] = {"tier": "gold"}
    console.request("PUT", "projects/demo/networks/web", theirs)
    expect(dialog).to_contain_text("It was changed meanwhile by somebody else.")
    expect(dialog.get_by_role("button", name="Apply")).to_be_disabled()
    dialog.get_by_role("button", name="Take these changes in").click()
    expect(dialog.get_by_role("button", name="Apply")).to_be_enabled()
    expect(page.locator(EDITOR)).to_contain_text("tier: gold")
    expect(page.locator(EDITOR)).to_contain_text("# mine")
    dialog.get_by_role("button", name="Apply").click()
    expect_shown(page, "Network web")
    merged = live(console, "Network", "web")
    assert (merged["spec"]["mtuBytes"], merged["metadata"]["labels"]) == (1300, {"tier": "gold"})


def test_a_text_of_many_lines_is_checked_when_asked_for_and_one_the_api_does_not_take_is_not_taken_in(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    log_in(page, "alice")
    page.goto(NETWORK + "/edit")
    expect(page.locator(EDITOR)).to_contain_text("mtuBytes: 1400")
    text = "apiVersion: vcstack.io/v1\nkind: Network\nmetadata:\n  name: web\n  project: demo\nspec:\n  mtuBytes: {0}\n"
    lines = "# a comment\n" * 50_000
    page.locator(EDITOR).click()
    page.keyboard.press("ControlOrMeta+a")
    paste(page, text.replace("{0}", "one") + lines)
    problems, plan = page.get_by_role("region", name="What is wrong"), page.get_by_role("button", name="See the plan")
    expect(page.get_by_text("it is not checked while you type")).to_be_visible()
    expect(page.get_by_text("too long for a form")).to_be_visible()
    expect(problems).to_have_count(0)
    expect(plan).to_be_disabled()
    page.keyboard.type("# and on")
    page.get_by_role("button", name="Check it").click()
    expect(problems).to_contain_text("spec.mtuBytes: ")
    assert find_barriers(page, built_console) == []

    # Twice as much is more than the API takes.
    page.locator(EDITOR).click()
    paste(page, lines)
    expect(page.get_by_text("Nothing was taken in")).to_be_visible()
    expect(problems).to_contain_text("spec.mtuBytes: ")
    page.keyboard.press("ControlOrMeta+a")
    paste(page, text.replace("{0}", "1300"))
    expect(page.get_by_label("mtuBytes")).to_have_value("1300")
    expect(plan).to_be_enabled()


def test_a_form_makes_an_object_and_a_draft_survives_without_its_secrets(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    log_in(page, "alice")
    page.goto("/console/projects/demo/secrets/_new")
    page.get_by_label("name", exact=False).first.fill("database")
    expect(page.locator(EDITOR)).to_contain_text("name: database")
    assert find_barriers(page, built_console) == []
    secret = page.locator("input[type=password]").first
    secret.fill("canary-in-a-coal-mine")
    expect(page.locator(EDITOR)).to_contain_text("canary-in-a-coal-mine")
    page.wait_for_function("Object.keys(sessionStorage).some((key) => key.startsWith('vcstack-draft:'))")
    page.wait_for_function(
        "Object.entries(sessionStorage).every(([k, v]) => !k.startsWith('vcstack-draft:') || v.includes('database'))"
    )
    assert "canary" not in page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")
    page.reload()
    expect(page.get_by_text("What you typed before is still here")).to_be_visible()
    expect(page.locator(EDITOR)).to_contain_text("name: database")
    expect(page.locator(EDITOR)).not_to_contain_text("canary")
    page.get_by_role("button", name="Discard the draft").click()
    expect(page.locator(EDITOR)).not_to_contain_text("name: database")

    page.goto("/console/projects/demo/instances")  # a kind that has a page of its own
    page.get_by_role("link", name="New").click()
    expect(page.get_by_role("heading", name="New Instance")).to_be_visible()
    expect(page.locator(EDITOR)).to_contain_text("kind: Instance")
    page.goto("/console/projects/demo/networks/_new")
    # Nobody is blamed before they could type anything, but a try is told what is needed, and led there.
    problems, name = page.get_by_role("region", name="What is wrong"), page.get_by_label("name", exact=False).first
    expect(page.locator(EDITOR)).to_contain_text("kind: Network")
    page.get_by_label("mtuBytes").fill("1350")
    expect(page.locator(EDITOR)).to_contain_text("mtuBytes: 1350")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    expect(problems).to_have_count(0)
    page.get_by_role("button", name="See the plan").click()
    expect(problems).to_contain_text("metadata.name")
    expect(name).to_be_focused()
    expect(name).to_have_attribute("aria-invalid", "true")
    page.reload()
    name.focus()
    expect(problems).to_have_count(0)
    name.press("Tab")
    expect(name).to_have_attribute("aria-invalid", "true")
    name.fill("green")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    page.get_by_label("mtuBytes").fill("1300")
    page.get_by_role("button", name="See the plan").click()
    dialog = page.get_by_role("dialog", name="What will be done")
    expect(dialog).to_contain_text("will be made")
    # Somebody else makes one of that name meanwhile.
    console.create("Network", {"metadata": {"name": "green", "project": "demo"}, "spec": {}})
    dialog.get_by_role("button", name="Apply").click()
    expect(dialog.get_by_role("alert").first).to_contain_text("It was changed since the plan was made")
    dialog.get_by_role("button", name="Apply").click()
    expect_shown(page, "Network green")
    assert live(console, "Network", "green")["spec"]["mtuBytes"] == 1300


def test_a_form_tells_which_settings_there_are_and_what_their_values_look_like(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    log_in(page, "alice")
    page.goto("/console/settings/_new")
    setting, value = page.get_by_label("setting", exact=False).first, page.get_by_label("value", exact=False).first
    expect(setting.get_by_role("option")).to_have_count(len(KNOWN_SETTINGS))
    setting.select_option("login.mfaRequired")
    expect(page.get_by_text("Whether users need a second factor to log in.")).to_be_visible()
    expect(value.get_by_role("option")).to_have_text(["true", "false"])
    expect(page.locator(EDITOR)).to_contain_text("value: false")
    setting.select_option("sessions.idle")
    expect(value).to_have_value("8h")
    value.fill("soon")
    expect(page.get_by_role("region", name="What is wrong")).to_contain_text("spec.value")
    value.fill("2h")
    assert find_barriers(page, built_console) == []
    text = "apiVersion: vcstack.io/v1\nkind: Setting\nmetadata:\n  name: idle\nspec:\n  value: 2h\n  setting: "
    replace_text(page, text)
    page.keyboard.type("idle")
    page.locator(".cm-tooltip-autocomplete").get_by_role("option", name="sessions.idle").click()
    page.get_by_role("button", name="See the plan").click()
    dialog = page.get_by_role("dialog", name="What will be done")
    dialog.get_by_role("button", name="Apply").click()
    expect_shown(page, "Setting idle")
    assert console.request("GET", "settings/idle")["spec"] == {"setting": "sessions.idle", "value": "2h"}


def test_a_deletion_names_what_is_lost_and_what_others_delete_goes_by_itself(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    subnet = {"metadata": {"name": "v4", "project": "demo"}, "spec": {"network": "web", "cidr": "10.9.0.0/24"}}
    console.create("Subnet", subnet)
    log_in(page, "alice")
    page.goto(NETWORK)
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete Network web?")
    expect(dialog).to_contain_text("Subnet v4")
    assert find_barriers(page, built_console) == []
    confirm = dialog.get_by_role("button", name="Delete")
    expect(confirm).to_be_disabled()
    dialog.get_by_label("Type web to go on").fill("web")
    confirm.click()
    expect(page.get_by_text("It is being deleted, since")).to_be_visible()
    expect(page.get_by_text(re.compile("Still to be cleaned up: "))).to_be_visible()
    # Behind the page's back the cleaning up is done.
    definition = get_kind("Network")
    console.run(console.store.bound(SYSTEM).delete(Ref("Subnet", "demo", "v4")))
    console.run(
        console.store.finalize(get_kind("Subnet"), "demo", "v4", list(get_kind("Subnet").finalizers), actor=SYSTEM)
    )
    console.run(console.store.finalize(definition, "demo", "web", list(definition.finalizers), actor=SYSTEM))
    expect(page.get_by_text("Network web is not there")).to_be_visible()
    assert find_barriers(page, built_console) == []


def test_the_past_is_on_a_slider_and_comes_back_by_a_plan(
    console: ConsoleApi, page: Page, built_console: Path, notes: Notes
) -> None:
    ref = Ref("Network", "demo", "web")
    notes.note(console, ref, "Created")
    for mtu in (1300, 1350):
        definition = get_kind("Network")
        console.run(console.store.merge_patch(definition, "demo", "web", {"spec": {"mtuBytes": mtu}}, actor=SYSTEM))
        notes.note(console, ref, "Updated")
    log_in(page, "alice")
    page.goto(f"{NETWORK}/timeline")
    earlier = page.get_by_label("The earlier of the two")
    later = page.get_by_label("The later of the two")
    expect(earlier).to_have_value("1")
    expect(later).to_have_value("2")
    expect(page.get_by_label(re.compile("^Before"))).to_contain_text("mtuBytes: 1300")
    expect(page.get_by_label(re.compile("^After"))).to_contain_text("mtuBytes: 1350")
    earlier.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label(re.compile("^Before"))).to_contain_text("mtuBytes: 1400")
    assert find_barriers(page, built_console) == []
    page.get_by_role("button", name="Make it as it was before").click()
    dialog = page.get_by_role("dialog", name="What will be done")
    expect(dialog.get_by_role("row", name=re.compile("spec.mtuBytes"))).to_contain_text("1350")
    dialog.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("It is just so now.")).to_be_visible()
    assert live(console, "Network", "web")["spec"]["mtuBytes"] == 1400

    page.goto("/console/projects/demo/timeline")
    expect(page.get_by_role("region", name="What differs between the two")).to_contain_text("Network web")
    page.get_by_role("button", name="Show Network web").click()
    expect(page.get_by_label(re.compile("^After"))).to_contain_text("mtuBytes: 1350")
    assert find_barriers(page, built_console) == []


def test_names_and_texts_of_others_are_only_text(
    console: ConsoleApi, page: Page, chromium_pages: Callable[..., Page]
) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
    annotations = {"example.com/note": hostile, "example.com/link": "javascript:document.title=1"}
    network = {"metadata": {"name": "odd", "project": "demo", "annotations": annotations}, "spec": {}}
    console.create("Network", network)
    log_in(page, "alice")
    for view in ("", "?tab=yaml", "?tab=related", "/edit"):
        page.goto(f"/console/projects/demo/networks/odd{view}")
        expect(page.get_by_role("heading").first).to_be_visible()
        if view != "?tab=related":
            expect(page.get_by_text("<img src=x").first).to_be_visible()
        assert page.title() != "1"
        assert page.locator("img[src=x]").count() == 0
    assert page.locator("a[href^=javascript]").count() == 0
