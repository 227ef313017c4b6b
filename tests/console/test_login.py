"""Logging in by the console: every way, every step, in a real browser."""

from pathlib import Path

import pyotp
from playwright.sync_api import Page, expect

from tests.fakes.memory_etcd import Phase
from tests.fixtures.browsing import PASSWORD, ConsoleApi, find_barriers, log_in
from vcstack.store.etcd.errors import EtcdUnavailable


def test_a_one_time_secret_becomes_a_password_and_a_second_factor_and_both_are_asked_for(
    console: ConsoleApi, page: Page, built_console: Path
) -> None:
    secret = console.make_user("alice", mfaRequired=True)
    page.goto("/console/flavors?q=tiny")
    expect(page.get_by_role("heading", name="Log in to VC Stack")).to_be_visible()
    assert find_barriers(page, built_console) == []
    page.get_by_label("User").fill("alice")
    page.get_by_label("Password or one-time secret").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.evaluate("""localStorage.setItem('vcstack-preferences', '{"state":{"language":"zh"},"version":0}')""")
    page.reload()
    page.get_by_label("用户").fill("alice")
    page.get_by_label("密码或一次性密钥").fill("wrong")
    page.get_by_role("button", name="登录", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("不正确")
    page.evaluate("localStorage.removeItem('vcstack-preferences')")
    page.reload()
    page.get_by_label("User").fill("alice")
    page.get_by_label("Password or one-time secret").fill(secret)
    page.get_by_role("button", name="Log in").click()

    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same once more").fill(PASSWORD + "x")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("alert")).to_contain_text("The two differ")
    page.get_by_label("The same once more").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()

    expect(page.get_by_role("img", name="QR code of the second factor's secret")).to_be_visible()
    assert find_barriers(page, built_console) == []
    totp = pyotp.TOTP(page.get_by_test_id("secret").inner_text())
    page.get_by_label("Code that the app shows").fill(totp.now())
    page.get_by_role("button", name="Go on").click()
    recovery = page.get_by_test_id("recovery").get_by_role("listitem").first.inner_text()
    page.get_by_role("button", name="I have kept them").click()

    expect(page.get_by_role("navigation", name="Navigation")).to_be_visible()
    # One comes to where one wanted to go.
    expect(page).to_have_url(f"{console.url}/console/flavors?q=tiny")

    page.get_by_role("button", name="Account").click()
    page.get_by_role("menuitem", name="Log out").click()
    page.get_by_label("User").fill("alice")
    page.get_by_label("Password or one-time secret").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Code of your authenticator").fill(recovery)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("navigation", name="Navigation")).to_be_visible()
    page.reload()
    expect(page.get_by_role("navigation", name="Navigation")).to_be_visible()


def test_a_session_that_is_ended_elsewhere_is_over_and_a_logout_reaches_other_tabs(
    console: ConsoleApi, page: Page
) -> None:
    console.make_known_user("alice")
    log_in(page, "alice")
    other = page.context.new_page()
    other.goto("/console/account")
    expect(other.get_by_text("This one")).to_be_visible()
    page.get_by_role("button", name="Account").click()
    page.get_by_role("menuitem", name="Log out").click()
    expect(other.get_by_role("heading", name="Log in to VC Stack")).to_be_visible()

    log_in(page, "alice")
    expect(other.get_by_text("This one")).to_be_visible()
    for session in console.request("GET", "sessions")["items"]:
        console.request("DELETE", f"sessions/{session['metadata']['name']}")
    expect(page.get_by_text("The session has ended")).to_be_visible()


SPEC = {"matches": {"kinds": ["Instance"]}, "requireLabels": [{"key": "cost"}], "action": "Audit"}


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Account").click()
    page.get_by_role("menuitem", name="Log out").click()


def test_who_logs_in_next_sees_what_happens_and_nothing_that_the_one_before_wrote(
    console: ConsoleApi, page: Page
) -> None:
    for name in ("alice", "bob"):
        console.make_known_user(name)
    console.create("Policy", {"metadata": {"name": "one"}, "spec": SPEC})
    log_in(page, "alice")
    page.goto("/console/policies/_new")
    page.get_by_label("name", exact=False).first.fill("of-alice")
    page.wait_for_function("() => Object.values(sessionStorage).some((value) => value.includes('of-alice'))")
    page.get_by_role("link", name="Policy", exact=True).click()
    expect(page.get_by_role("link", name="one", exact=True)).to_be_visible()
    log_out(page)
    page.get_by_label("User").fill("bob")
    page.get_by_label("Password or one-time secret").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.get_by_role("link", name="one", exact=True)).to_be_visible()
    console.create("Policy", {"metadata": {"name": "two"}, "spec": SPEC})
    expect(page.get_by_role("link", name="two", exact=True)).to_be_visible()
    page.get_by_role("link", name="New").click()
    expect(page.locator(".cm-content")).to_contain_text("kind: Policy")
    expect(page.locator(".cm-content")).not_to_contain_text("of-alice")
    log_out(page)
    log_in(page, "alice")
    page.goto("/console/policies/_new")
    expect(page.locator(".cm-content")).to_contain_text("of-alice")


def test_a_logout_that_is_refused_is_none(console: ConsoleApi, page: Page) -> None:
    console.make_known_user("alice")
    log_in(page, "alice")

    def refuse(call: str, _: Phase) -> None:
        if call.startswith("txn"):
            raise EtcdUnavailable("no leader")

    console.etcd.hook = refuse
    log_out(page)
    expect(page.get_by_role("region", name="Messages")).to_contain_text("the store does not answer")
    expect(page.get_by_role("navigation", name="Navigation")).to_be_visible()
    console.etcd.hook = lambda call, phase: None
    log_out(page)
    expect(page.get_by_role("heading", name="Log in to VC Stack")).to_be_visible()
    expect(page.get_by_role("region", name="Messages")).to_have_text("")
    page.reload()
    expect(page.get_by_role("heading", name="Log in to VC Stack")).to_be_visible()


def test_a_tab_that_slept_while_somebody_else_logged_in_begins_anew(console: ConsoleApi, page: Page) -> None:
    for name in ("alice", "bob"):
        console.make_known_user(name)
    log_in(page, "alice")
    page.goto("/console/account")
    expect(page.get_by_text("You are user:alice.")).to_be_visible()
    before = console.request("GET", "sessions")["items"]
    answer = page.context.request.post(
        "/api/v1/auth/login",
        data={"user": "bob", "password": PASSWORD},
        headers={"vcstack-session": "cookie", "origin": console.url},
    )
    assert answer.ok, answer.text()
    for session in before:
        console.request("DELETE", f"sessions/{session['metadata']['name']}")
    expect(page.get_by_text("You are user:bob.")).to_be_visible()
    expect(page.get_by_text("This one")).to_have_count(1)
    expect(page.get_by_role("button", name="Account: bob")).to_be_visible()
