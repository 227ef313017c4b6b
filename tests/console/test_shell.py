"""What stands around every page: navigation, project, language, theme, palette, keys, phones."""

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Error, Page, expect

from tests.fixtures.browsing import ConsoleApi, find_barriers, log_in


def test_project_language_and_theme_are_switched_and_remembered(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    for name in ("blue", "green"):
        console.create("Project", {"metadata": {"name": name}, "spec": {}})
        console.create("Network", {"metadata": {"name": f"net-of-{name}", "project": name}, "spec": {}})
    console.make_known_user("alice")
    log_in(page, "alice")
    page.goto("/console/networks")
    expect(page.get_by_role("link", name="net-of-green")).to_be_visible()
    page.get_by_role("button", name="Project: All projects").click()
    page.get_by_label("Find a project").fill("bl")
    expect(page.get_by_role("option", name="blue", selected=True)).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{console.url}/console/projects/blue/networks")
    expect(page.get_by_role("link", name="net-of-blue")).to_be_visible()
    expect(page.get_by_role("link", name="net-of-green")).to_be_hidden()

    page.get_by_role("button", name="Account").click()
    page.get_by_role("menuitemradio", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert find_barriers(page, built_console) == []
    page.get_by_role("button", name="Account").click()
    page.get_by_role("menuitemradio", name="中文").click()
    expect(page.get_by_role("heading", name="网络")).to_be_visible()
    page.reload()
    expect(page.get_by_role("navigation", name="导航")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(page.get_by_role("button", name="项目: blue")).to_be_visible()


def test_everything_is_reached_by_the_keyboard(console: ConsoleApi, page: Page, built_console: Path) -> None:
    console.create("Project", {"metadata": {"name": "demo"}, "spec": {}})
    console.create("Network", {"metadata": {"name": "web", "project": "demo"}, "spec": {}})
    console.make_known_user("alice")
    log_in(page, "alice")
    while not page.url.endswith("/projects"):  # the second key has to come soon, and a busy machine is slow
        page.keyboard.press("g")
        page.keyboard.press("p")
        page.wait_for_timeout(200)
    expect(page.get_by_role("link", name="demo")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("nothing?")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    expect(page.get_by_role("searchbox", name="Find in the list")).to_have_value("nothing?")
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Search or run a command")
    expect(page.get_by_role("combobox", name="Search or run a command")).to_be_focused()
    page.keyboard.type("web")
    expect(palette.get_by_role("option", name="web Network demo")).to_be_visible()
    assert find_barriers(page, built_console) == []
    page.get_by_role("combobox", name="Search or run a command").fill("subn")
    expect(palette.get_by_role("option", selected=True)).to_contain_text("Subnet")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No Subnet yet")).to_be_visible()
    page.locator("body").press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    assert find_barriers(page, built_console) == []


def test_a_phone_shows_it_all_without_scrolling_sideways(
    console: ConsoleApi, chromium_pages: Callable[..., Page], built_console: Path
) -> None:
    console.create("Project", {"metadata": {"name": "demo"}, "spec": {}})
    console.make_known_user("alice")
    phone = chromium_pages(console.url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    log_in_on_a_phone(phone)
    for path in ("", "projects", "users", "account", "nothing-there"):
        phone.goto(f"/console/{path}")
        phone.get_by_role("main").get_by_role("heading").first.wait_for()
        phone.wait_for_function("document.documentElement.scrollWidth === 360")
        assert find_barriers(phone, built_console) == [], path
    phone.get_by_role("button", name="Open the navigation").tap()
    phone.get_by_role("navigation").get_by_role("link", name="Project", exact=True).tap()
    expect(phone.get_by_role("link", name="demo")).to_be_visible()
    expect(phone.get_by_role("navigation")).to_be_hidden()


def log_in_on_a_phone(phone: Page) -> None:
    phone.set_viewport_size({"width": 1000, "height": 740})
    log_in(phone, "alice")
    phone.set_viewport_size({"width": 360, "height": 740})


def test_the_page_is_served_so_that_nothing_foreign_runs_in_it(console: ConsoleApi) -> None:
    with httpx2.Client(verify=False, trust_env=False, base_url=console.url, timeout=60) as client:
        assert client.get("/console").headers["location"] == "/console/"
        page = client.get("/console/projects/demo/instances/web?tab=yaml")
        assert page.status_code == 200
        assert page.headers["cache-control"] == "no-cache"
        policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
        assert policy["script-src"] == "'self'"
        assert policy["connect-src"] == "'self'"
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
        assert "<script>" not in page.text
        script = page.text.split('src="', 1)[1].split('"')[0]
        packed = client.get(script, headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "immutable" in packed.headers["cache-control"]
        assert packed.text == client.get(script, headers={"accept-encoding": "identity"}).text
        assert client.get("/console/assets/of-another-build.js").status_code == 404
        assert client.get("/console/%2e%2e/%2e%2e/pyproject.toml").text == page.text, "names are looked up, not opened"
        assert client.post("/console/").status_code == 405


def test_no_text_becomes_markup_or_a_script_even_where_a_page_is_careless(
    console: ConsoleApi, chromium_pages: Callable[..., Page]
) -> None:
    page = chromium_pages(console.url)
    page.goto("/console/login")
    expect(page.get_by_label("User")).to_be_visible()
    for careless in (
        "document.body.innerHTML = '<b>text</b>'",
        "document.createElement('script').text = 'text'",
        "trustedTypes.createPolicy('default', {createHTML: text => text})",
    ):
        with pytest.raises(Error, match=r"Trusted|policy|Policy"):
            page.evaluate(f"() => {{ {careless} }}")


def test_where_nothing_is_built_the_page_says_how(console: ConsoleApi, tmp_path: Path) -> None:
    console.api.application.console = type(console.api.application.console)(tmp_path / "empty")
    with httpx2.Client(verify=False, trust_env=False, base_url=console.url, timeout=60) as client:
        answer = client.get("/console/")
    assert answer.status_code == 503
    assert "make console" in answer.text
