"""Policies and settings on the command line: plans show what would be denied and warned of."""

from typing import Any

import pytest

from tests.vcctl.harness import Vcctl
from tests.vcctl.test_quota import network, put
from vcstack.vcctl.errors import ExitCode

Wire = dict[str, Any]
NETWORKS: Wire = {"matches": {"kinds": ["Network"]}}


@pytest.fixture
async def governed(vcctl: Vcctl) -> Vcctl:
    """The project demo in acme, where networks must have a label and are better called net-something."""
    await put(vcctl, "Domain", "acme", {})
    await put(vcctl, "Project", "demo", {"domain": "acme"})
    await put(vcctl, "Policy", "owners", {**NETWORKS, "requireLabels": [{"key": "cost"}]})
    rule = {"name": "names", "expression": "object.metadata.name.startsWith('net-')", "message": "Say net- first."}
    await put(vcctl, "Policy", "naming", {**NETWORKS, "action": "Warn", "rules": [rule]}, "demo")
    return vcctl


def labelled(name: str) -> Wire:
    wire = network(name)
    wire["metadata"]["labels"] = {"cost": "1"}
    return wire


@pytest.mark.parametrize("words", [("apply",), ("apply", "--dry-run"), ("diff",)], ids=" ".join)
async def test_what_a_policy_denies_is_said_with_the_policys_name(governed: Vcctl, words: tuple[str, ...]) -> None:
    ended = await governed(*words, "-f", governed.write("a.yaml", network("web")))
    assert ended.code in (ExitCode.REFUSED, ExitCode.DIFFERENCE)
    assert "policy owners of the cloud, label cost: the label cost is required" in ended.err
    assert "can-i" not in ended.err
    assert "web" not in (await governed("get", "networks")).out


@pytest.mark.parametrize("words", [("apply", "--dry-run"), ("apply", "--no-wait"), ("diff",)], ids=" ".join)
async def test_what_is_warned_of_is_printed_once(governed: Vcctl, words: tuple[str, ...]) -> None:
    ended = await governed(*words, "-f", governed.write("a.yaml", labelled("web")))
    warning = "Warning: Network web: policy naming of project demo, names: Say net- first."
    assert ended.err.count(warning) == 1
    assert ended.code == (ExitCode.DIFFERENCE if words == ("diff",) else ExitCode.OK)
    fine = await governed(*words, "-f", governed.write("b.yaml", labelled("net-a")))
    assert "Warning" not in fine.err


async def test_policies_are_listed_with_what_they_do(governed: Vcctl) -> None:
    lines = [line.split() for line in (await governed.ok("get", "policies", "-A")).splitlines()]
    assert lines[0][:5] == ["PROJECT", "NAME", "READY", "ACTION", "KINDS"]
    assert {"owners", "naming"} <= {word for line in lines for word in line}


async def test_settings_show_what_counts_and_where_it_is_from(governed: Vcctl) -> None:
    await put(governed, "Setting", "day", {"setting": "sessions.idle", "value": "4h", "domain": "acme"})
    await put(governed, "Setting", "images", {"setting": "images.maxSizeGiB", "value": 7}, "demo")
    shown = [line.split() for line in (await governed.ok("settings")).splitlines()]
    assert ["images.maxSizeGiB", "7", "project", "demo", "(setting", "images)"] in shown
    assert ["sessions.idle", "4h", "domain", "acme", "(setting", "day)"] in shown
    assert ["login.mfaRequired", "false", "default"] in shown
    cloud = [line.split() for line in (await governed.ok("settings", "--cloud")).splitlines()]
    assert ["sessions.idle", "8h", "default"] in cloud
    assert "5m to 30d" in await governed.ok("settings", "--domain", "acme", "-o", "wide")
    assert '"source": "Project"' in await governed.ok("settings", "-o", "json")
    assert (await governed("settings", "-p", "nowhere")).code == ExitCode.NOT_FOUND
