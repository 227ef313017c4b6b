"""Logging in by those who know people elsewhere: a certified OpenID Connect provider and a real directory."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import pyotp
import pytest
from playwright.sync_api import Page, expect

from tests.fixtures.browsing import SITE, ConsoleApi, find_barriers
from tests.fixtures.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.fixtures.slapd import CLOUD_PASSWORD, USERS, Slapd
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundSettings
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor

pytestmark = pytest.mark.daemons
SYSTEM: Final = Actor("system:controller:test", "test")


class Elsewhere:
    """A console at a name of its own, so that the provider is of another site, as it would be."""

    def __init__(self, console: ConsoleApi, pages: Callable[..., Page]) -> None:
        self.console = console
        self.url = f"https://{SITE}:{console.port}"
        self._pages = pages
        self.faults: list[str] = []

    def serve(self, *ports: int, ca_file: Path | None = None) -> None:
        """Have the cloud reach these ports of this machine, and be at its name."""
        target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=frozenset(ports))
        outbound = OutboundSettings(addresses=AddressPolicy(allowed=[target]), ca_file=ca_file)
        self.console.kill()
        self.console.start(outbound=outbound, issuer=self.url)

    def open(self, address: str) -> Page:
        """Return a page in a browser of its own; a fault in its scripts fails the test."""
        page = self._pages(self.url)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.goto(address)
        return page

    def change(self, kind: str, name: str, **spec: Any) -> None:
        console = self.console
        console.run(console.store.merge_patch(get_kind(kind), None, name, {"spec": spec}, actor=SYSTEM))


@pytest.fixture
def elsewhere(console: ConsoleApi, chromium_pages: Callable[..., Page]) -> Iterator[Elsewhere]:
    made = Elsewhere(console, chromium_pages)
    yield made
    assert not made.faults


@pytest.fixture
def corp(elsewhere: Elsewhere, oidc_package: Path, tmp_path: Path) -> Iterator[OidcProvider]:
    """The provider corp, offered to everybody, and one that is not."""
    console = elsewhere.console
    provider = OidcProvider(oidc_package, tmp_path, [f"{elsewhere.url}/console/oidc/corp"])
    console.run(provider.start())
    elsewhere.serve(provider.port, ca_file=provider.ca_file)
    section = {"issuerUrl": provider.issuer, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
    spec = {"type": "OIDC", "oidc": section, "displayName": "Log in with Example Corp"}
    console.create("IdentityProvider", {"metadata": {"name": "corp"}, "spec": {**spec, "offered": True}})
    console.create("IdentityProvider", {"metadata": {"name": "unsaid"}, "spec": {**spec, "displayName": "Unsaid"}})
    yield provider
    console.run(provider.stop())


@pytest.fixture
def office(elsewhere: Elsewhere, tmp_path: Path) -> Iterator[Slapd]:
    """The directory office, offered to everybody."""
    console, folder = elsewhere.console, tmp_path / "slapd"
    folder.mkdir()
    directory = Slapd(folder)
    console.run(directory.start())
    elsewhere.serve(directory.tls_port)
    console.create("Project", {"metadata": {"name": "office"}, "spec": {}})
    secret = {"metadata": {"project": "office", "name": "ldap"}, "spec": {"data": {"password": CLOUD_PASSWORD}}}
    console.create("Secret", secret)
    spec = {"type": "LDAP", "ldap": directory.spec(), "displayName": "The office", "offered": True}
    console.create("IdentityProvider", {"metadata": {"name": "office"}, "spec": spec})
    yield directory
    console.run(directory.stop())


def agree(page: Page, user: str) -> None:
    """Log in at the provider and agree."""
    page.locator("input[name=login]").fill(user)
    page.locator("input[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    expect(page.locator("input[name=login]")).to_have_count(0)
    page.locator("button[type=submit]").click()


def enrol(page: Page) -> list[str]:
    """Enrol the second factor that is demanded; return the recovery codes."""
    totp = pyotp.TOTP(page.get_by_test_id("secret").inner_text())
    page.get_by_label("Code that the app shows").fill(totp.now())
    page.get_by_role("button", name="Go on").click()
    keep = page.get_by_role("button", name="I have kept them")
    expect(keep).to_be_visible()
    codes = page.get_by_test_id("recovery").get_by_role("listitem").all_inner_texts()
    keep.click()
    return codes


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Account").click()
    page.get_by_role("menuitem", name="Log out").click()


def expect_in(page: Page) -> None:
    expect(page.get_by_role("navigation", name="Navigation")).to_be_visible()


def test_a_login_by_openid_connect_comes_back_to_where_one_wanted_to_go_and_asks_for_our_second_factor(
    elsewhere: Elsewhere, corp: OidcProvider, built_console: Path
) -> None:
    known = {"identityProvider": "corp", "externalId": "alice", "mfaRequired": True}
    elsewhere.console.create("User", {"metadata": {"name": "alice-of-corp"}, "spec": known})
    page = elsewhere.open("/console/flavors?q=tiny")
    button = page.get_by_role("button", name="Log in with Example Corp")
    expect(button).to_be_visible()
    expect(page.get_by_text("Unsaid")).to_have_count(0)
    assert find_barriers(page, built_console) == []
    button.click()
    agree(page, "alice")
    expect(page.get_by_role("img", name="QR code of the second factor's secret")).to_be_visible()
    assert find_barriers(page, built_console) == []
    codes = enrol(page)
    expect_in(page)
    expect(page).to_have_url(f"{elsewhere.url}/console/flavors?q=tiny")
    (cookie,) = [each for each in page.context.cookies() if each["name"] == "__Host-vcstack-refresh"]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    page.reload()
    expect_in(page)
    page.goto("/console/account")
    expect(page.get_by_text("You are user:alice-of-corp.")).to_be_visible()

    # The provider still knows the browser; the cloud asks for its own factor all the same.
    log_out(page)
    button.click()
    page.wait_for_url(f"{corp.issuer}/**")
    page.locator("button[type=submit]").click()
    page.get_by_label("Code of your authenticator").fill("000000")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Code of your authenticator").fill(codes[0])
    page.get_by_role("button", name="Go on").click()
    expect_in(page)


def test_a_login_elsewhere_that_fails_says_why_and_can_be_begun_again(elsewhere: Elsewhere, corp: OidcProvider) -> None:
    page = elsewhere.open("/console/flavors")
    button = page.get_by_role("button", name="Log in with Example Corp")
    button.click()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("The identity provider refused")
    page.get_by_role("link", name="Begin again").click()
    expect(button).to_be_visible()
    expect(page).to_have_url(f"{elsewhere.url}/console/login?to=%2Fflavors")

    # What a stranger's link brings is nobody's login, and says nothing of the stranger's.
    page.goto("/console/oidc/corp?state=mine&error=x&error_description=Call+this+number")
    expect(page.get_by_role("alert")).to_contain_text("was not begun in this browser")
    page.goto("/console/oidc/corp?state=mine&code=theirs")
    expect(page.get_by_role("alert")).to_contain_text("was not begun in this browser")
    page.get_by_role("link", name="Begin again").click()

    elsewhere.change("IdentityProvider", "corp", newUsers="Refuse")
    button.click()
    agree(page, "bob")
    expect(page.get_by_role("alert")).to_contain_text("nobody has made a User for it here")
    page.get_by_role("link", name="Begin again").click()

    elsewhere.console.run(corp.stop())
    elsewhere.serve(corp.port, ca_file=corp.ca_file)  # what it knew of the provider is forgotten
    button.click()
    expect(page.get_by_role("alert")).to_contain_text("corp does not answer")
    expect(page.get_by_label("User")).to_be_enabled()


def test_a_login_by_a_directory_is_offered_and_remembered_and_its_user_enrols_a_second_factor(
    elsewhere: Elsewhere, office: Slapd, built_console: Path
) -> None:
    page = elsewhere.open("/console/account")

    def submit(password: str) -> None:
        page.get_by_label("User").fill("alice")
        page.get_by_label("Password", exact=True).fill(password)
        page.get_by_role("button", name="Log in", exact=True).click()

    page.get_by_role("radio", name="The office").check()
    assert find_barriers(page, built_console) == []
    submit("not hers")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    submit(USERS["alice"])
    expect(page.get_by_text("You are user:office-alice.")).to_be_visible()

    # Who has no password here enrols a factor by having logged in just now.
    expect(page.get_by_role("button", name="Change the password")).to_have_count(0)
    page.get_by_role("button", name="Enrol a second factor").click()
    page.get_by_role("button", name="Go on").click()
    codes = enrol(page)
    expect(page.get_by_text("Second factor enrolled")).to_be_visible()
    log_out(page)
    expect(page.get_by_role("radio", name="The office")).to_be_checked()
    submit(USERS["alice"])
    page.get_by_label("Code of your authenticator").fill(codes[0])
    page.get_by_role("button", name="Go on").click()
    expect_in(page)
    log_out(page)

    # It is offered no more: this browser still knows it, another one has to be told the name.
    elsewhere.change("IdentityProvider", "office", offered=False, displayName="Nobody reads this")
    page.reload()
    expect(page.get_by_role("radio", name="The office")).to_be_checked()
    page = elsewhere.open("/console/")
    page.get_by_role("button", name="Another identity provider").click()
    expect(page.get_by_role("radio")).to_have_count(0)
    page.get_by_label("Identity provider").fill("not-there")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("alert")).to_contain_text("there is no identity provider 'not-there'")
    page.get_by_label("Identity provider").fill("office")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("radio", name="office")).to_be_checked()
    submit(USERS["bob"].upper())
    expect(page.get_by_role("alert")).to_contain_text("wrong")


def test_a_domains_provider_is_offered_to_who_opens_the_domains_address(elsewhere: Elsewhere, office: Slapd) -> None:
    console = elsewhere.console
    console.create("Domain", {"metadata": {"name": "acme"}, "spec": {}})
    section = {"issuerUrl": "https://id.example.com", "clientId": "cloud"}
    spec = {"type": "OIDC", "oidc": section, "domain": "acme", "offered": True, "displayName": "<b>Acme</b>"}
    console.create("IdentityProvider", {"metadata": {"name": "acme-id"}, "spec": spec})
    page = elsewhere.open("/console/login")
    expect(page.get_by_role("radio", name="The office")).to_be_visible()
    expect(page.get_by_role("button", name="<b>Acme</b>")).to_have_count(0)
    page.goto("/console/login?domain=acme")
    expect(page.get_by_role("button", name="<b>Acme</b>")).to_be_visible()
