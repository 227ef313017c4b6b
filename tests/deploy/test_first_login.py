"""Who ran `make up` logs in to the console, without a password that anybody else could know."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from deploy.lab import Lab, operator
from deploy.lab.shell import run
from tests.fixtures.browsing import PASSWORD

pytestmark = pytest.mark.timeout(600)


def test_the_operator_is_made_once_with_a_secret_that_is_good_for_one_login(
    tmp_path: Path, cache: Path, built_console: Path, chromium_pages: Callable[..., Page]
) -> None:
    lab = Lab(tmp_path, hosts=0, cache=cache)
    try:
        lab.up()
        first = operator.ensure(lab.layout)
        assert first.secret_file is not None
        assert first.secret == first.secret_file.read_text().strip()
        assert first.secret_file.stat().st_mode & 0o777 == 0o600
        again = operator.ensure(lab.layout)
        assert (again.secret, again.secret_file) == (None, first.secret_file), "shown once, kept until it is used"

        page = chromium_pages(lab.api_url)
        page.goto("/console/")
        page.get_by_label("User").fill(first.user)
        page.get_by_label("Password or one-time secret").fill(first.secret)
        page.get_by_role("button", name="Log in", exact=True).click()
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("The same once more").fill(PASSWORD)
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("navigation", name="Navigation")).to_be_visible()
        page.goto("/console/roles")
        expect(page.get_by_role("link", name="domain-admin")).to_be_visible()

        assert operator.ensure(lab.layout).secret_file is None
        assert not first.secret_file.exists()
        vcctl = ["env", f"VCCTL_CONFIG={lab.path('vcctl.yaml')}", Path(".venv/bin/vcctl").resolve()]
        run([*vcctl, "delete", "rolebinding", "operator-admin", "--yes"])
        operator.ensure(lab.layout)
        assert "operator-admin" not in run([*vcctl, "get", "rolebindings", "-A"]).stdout, "rights that were taken"
    finally:
        lab.clean()
