"""The page of the API's document: in Chromium, from this server alone."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from tests.fixtures.browsing import ConsoleApi
from vcstack.pki.installation import Installation


def test_operations_are_shown_and_can_be_tried_with_nothing_from_elsewhere(
    chromium_pages: Callable[..., Page], pki_installation: Installation, tmp_path: Path
) -> None:
    with ConsoleApi(pki_installation, tmp_path) as api:
        page = chromium_pages(api.url)
        faults: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto("/api/docs")
        page.get_by_role("button", name="Authorize").first.click()
        token = page.locator(".auth-container", has_text="adminToken")
        token.locator("input").fill(pki_installation.admin_token.read_text().strip())
        token.get_by_role("button", name="Apply credentials").click()
        page.get_by_role("button", name="Close").last.click()
        page.locator("#operations-tag-flavors").click()
        operation = page.locator(".opblock", has=page.locator('[data-path="/api/v1/flavors"]')).first
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table")
        expect(answer).to_contain_text("200")
        expect(answer).to_contain_text('"kind": "FlavorList"')
        assert not faults
        assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {urlsplit(api.url).netloc}
