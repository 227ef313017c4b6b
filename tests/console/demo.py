"""A project that tests of pages look at, and what controllers and hosts would have reported of it."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

from playwright.sync_api import Page
from typer.core import TyperGroup
from typer.main import get_command

from tests.fixtures.browsing import ConsoleApi, find_barriers
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.vcctl.application import app
from vcstack.vcctl.main import load_commands

SYSTEM = Actor("system:controller:test", "test")
PHONE = {"width": 360, "height": 740}


def conditions(kind: str, status: str, reason: str = "Observed", message: str = "") -> dict[str, Any]:
    """What Ready of the kind is derived from, each alike."""
    at = "2026-11-23T09:00:00Z"
    told = {"status": status, "reason": reason, "message": message, "lastTransitionTime": at, "observedGeneration": 1}
    return {"conditions": [{"type": name, **told} for name in get_kind(kind).ready_when]}


def report(console: ConsoleApi, kind: str, name: str, project: str | None = "demo", **status: Any) -> None:
    """Report as the cloud's controllers and hosts do."""
    console.run(console.store.patch_status(get_kind(kind), project, name, status, actor=SYSTEM))


def settle(console: ConsoleApi, kind: str, name: str, project: str | None = "demo", **status: Any) -> None:
    """Report that it is as it should be."""
    report(console, kind, name, project, **conditions(kind, "True"), **status)


def make_instance(console: ConsoleApi, name: str, network: str, address: str, host: str = "h1") -> None:
    spec = {"flavor": "small", "image": "tiny", "networkInterfaces": [{"name": "eth0", "network": network}]}
    console.create("Instance", {"metadata": {"project": "demo", "name": name}, "spec": spec})
    allocated = {"vcpus": 1, "memoryMiB": 256, "diskGiB": 1}
    settle(console, "Instance", name, host=host, allocated=allocated)
    port = {"metadata": {"project": "demo", "name": f"{name}-eth0"}, "spec": {"network": network}}
    console.create("Port", port)
    addresses = [{"subnet": network, "address": address}]
    settle(console, "Port", f"{name}-eth0", instance=name, addresses=addresses)


def demand_commands(page: Page) -> None:
    """Find no command to be copied that vcctl does not know, or not with these words."""
    load_commands()
    titles = page.locator("button[title*='vcctl ']").evaluate_all("buttons => buttons.map(button => button.title)")
    for line in re.findall(r"^(?:.*: )?vcctl (.+)$", "\n".join(titles), re.MULTILINE):
        command: Any = get_command(app)
        context, words = None, shlex.split(line.partition("<<")[0])
        while True:
            context = command.make_context(command.name, words, parent=context)
            if not isinstance(command, TyperGroup):
                break
            _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def demand_accessible(page: Page, built_console: Path, picture: str) -> None:
    """Find nothing that keeps people out, in both themes, and nothing wider than a phone."""
    folder = os.environ.get("VCSTACK_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{picture}.png")
    demand_commands(page)
    barriers = find_barriers(page, built_console)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    barriers += find_barriers(page, built_console)
    assert not barriers, "\n".join(barriers)
    if folder:
        page.screenshot(path=f"{folder}/{picture}-dark.png")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    before = page.viewport_size
    page.set_viewport_size(PHONE)
    page.wait_for_function("document.querySelector('main').scrollWidth <= innerWidth")  # not wider than a phone
    if folder:
        page.screenshot(path=f"{folder}/{picture}-phone.png")
    if before:
        page.set_viewport_size(before)
