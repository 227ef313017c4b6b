"""The documentation's pictures of the console, made of a real cloud: guests that run, connections, history.

`VCSTACK_SCREENSHOTS=docs/screenshots` writes them there (`make screenshots`), else they are only made.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.cloud import FLAVOR, IMAGE, Cloud, Wire
from tests.e2e.pictures import LARGEST, PICTURES, Picture, size_of
from tests.fixtures.browsing import PASSWORD, WAIT_MS, log_in
from vcstack.specs.settings import SHELL_RECORDING

expect.set_options(timeout=WAIT_MS)
PROJECT, OPERATOR, DEVELOPER = "shop", "ada", "lin"
ANYWHERE = "0.0.0.0/0"
PROVIDERS: dict[str, Wire] = {
    "example-corp": {
        "type": "OIDC",
        "displayName": "Log in with Example Corp",
        "offered": True,
        "oidc": {"issuerUrl": "https://id.example.com", "clientId": "cloud"},
    },
    "example-office": {
        "type": "LDAP",
        "displayName": "Example Corp's directory",
        "offered": True,
        "ldap": {"url": "ldaps://ldap.example.com", "userBaseDn": "ou=people,dc=example,dc=com"},
    },
}
LIT = """() => {
  const canvas = document.querySelector('[data-testid=screen] canvas');
  if (!canvas || !canvas.width) return false;
  const points = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return points.filter(point => (point & 0xffffff) !== 0).length > 500;
}"""
GUEST_MS = 300_000
SHRINK = ("pngquant", "--strip", "256", "-")


def ingress(name: str, protocol: str, port: int, **source: str) -> Wire:
    return {"name": name, "direction": "Ingress", "protocol": protocol, "portMin": port, "portMax": port, **source}


def manifests() -> list[Wire]:
    """A shop: two web servers in front of a database."""

    def object_(kind: str, name: str, spec: Wire, **labels: str) -> Wire:
        return {"kind": kind, "metadata": {"project": PROJECT, "name": name, "labels": labels}, "spec": spec}

    out = {"name": "out", "direction": "Egress", "remoteCidr": ANYWHERE}
    web = [
        ingress("http", "TCP", 80, remoteCidr=ANYWHERE),
        ingress("https", "TCP", 443, remoteCidr=ANYWHERE),
        ingress("ssh", "TCP", 22, remoteCidr="192.0.2.0/24"),
        out,
    ]
    made = [
        object_("Network", "front", {}),
        object_("Network", "back", {}),
        object_("Subnet", "front", {"network": "front", "cidr": "10.40.1.0/24"}),
        object_("Subnet", "back", {"network": "back", "cidr": "10.40.2.0/24"}),
        object_("SecurityGroup", "web", {"rules": web}),
        object_("SecurityGroup", "db", {"rules": [ingress("sql", "TCP", 5432, remoteSecurityGroup="web"), out]}),
        object_("Setting", "recorded", {"setting": SHELL_RECORDING, "value": "Always"}),
        object_("Quota", "limits", {"limits": {"instances": 4, "vcpus": 8, "memoryMiB": 1024, "networks": 4}}),
    ]
    for name, host, networks in (
        ("web-1", "h1", ("front", "back")),
        ("web-2", "h2", ("front", "back")),
        ("db-1", "h2", ("back",)),
    ):
        group = name.partition("-")[0]
        nics = [{"name": f"eth{i}", "network": n, "securityGroups": [group]} for i, n in enumerate(networks)]
        spec = {"flavor": FLAVOR, "image": IMAGE, "networkInterfaces": nics, "placement": {"host": host}}
        made.append(object_("Instance", name, spec, app="shop", tier=group))
    return made


@pytest.fixture
def shop(cloud: Cloud, no_leaks: None) -> Iterator[Cloud]:
    """The cloud with the shop and its people, all Ready."""
    try:
        make_shop(cloud)
        yield cloud
    finally:
        cloud.repair()
        for name in PROVIDERS:
            cloud.delete("identityproviders", None, name)
        for session in cloud.items("sessions"):
            if session["spec"]["subject"]["name"] == OPERATOR:
                cloud.delete("sessions", None, session["metadata"]["name"])
        cloud.delete("rolebindings", None, OPERATOR)
        cloud.delete("projects", None, PROJECT)
        cloud.delete("groups", None, "developers")
        for user in (OPERATOR, DEVELOPER):
            cloud.delete("users", None, user)


def make_shop(cloud: Cloud) -> None:
    cloud.apply("projects", None, PROJECT, {})
    for user, display in ((OPERATOR, "Ada Lovelace"), (DEVELOPER, "Lin Chen")):
        cloud.apply("users", None, user, {"displayName": display})
    cloud.apply("groups", None, "developers", {"members": [DEVELOPER]})
    for project, kind, subject, role in (
        (PROJECT, "Group", "developers", "member"),
        (None, "User", OPERATOR, "admin"),
    ):
        cloud.apply("rolebindings", project, subject, {"subject": {"kind": kind, "name": subject}, "role": role})
    secret = cloud.call("POST", f"/api/v1/users/{OPERATOR}/initialsecret")["secret"]
    step = cloud.call("POST", "/api/v1/auth/login", {"user": OPERATOR, "password": secret})
    cloud.call("POST", "/api/v1/auth/password", {"challenge": step["challenge"], "newPassword": PASSWORD})
    cloud.apply_yaml(*manifests())
    cloud.patch("quotas", PROJECT, "limits", {"spec": {"limits": {"instances": 5}}})


@pytest.fixture
def page(shop: Cloud, built_console: Path, chromium_pages: Callable[..., Page]) -> Iterator[Page]:
    page = chromium_pages(shop.lab.api_url, reduced_motion="reduce")
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto("/console/login")
    yield page
    assert not faults


def shown(page: Page) -> str:
    """What the terminal shows, row by row."""
    return "\n".join(page.locator(".xterm-rows > div").all_inner_texts()).replace("\u00a0", " ")


def until(page: Page, look: Callable[[], Any], what: str) -> None:
    for _ in range(GUEST_MS // 200):
        if look():
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"{what}: {shown(page)}")


def is_offered(page: Page) -> bool:
    """Whether one may log in elsewhere. The page asks once, and who answers may not have heard of the newest yet."""
    page.reload(wait_until="networkidle")
    return page.get_by_role("button", name="Log in with Example Corp").is_visible()


def login(page: Page) -> None:
    until(page, lambda: is_offered(page), "no provider is offered")


def overview(page: Page) -> None:
    expect(page.get_by_role("meter").first).to_be_visible()
    expect(page.get_by_text("db-1").or_(page.get_by_text(PROJECT)).first).to_be_visible()


def launch(page: Page) -> None:
    page.get_by_label("Name", exact=True).fill("web-3")
    page.get_by_role("radio", name=IMAGE).check()
    page.get_by_role("radio", name=re.compile(f"^{FLAVOR}")).check()
    page.get_by_role("checkbox", name="front").check()
    page.get_by_role("heading", name=f"Launch an instance in {PROJECT}").scroll_into_view_if_needed()


def instances(page: Page) -> None:
    for name in ("db-1", "web-1", "web-2"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def instance(page: Page) -> None:
    cpu = page.locator("figure", has_text="CPU")
    expect(cpu.locator("figcaption")).to_contain_text(re.compile(r"\d+ %"))
    expect(cpu.locator("polyline")).to_have_attribute("points", re.compile(r"\S+( \S+){3}"))


def serial_console(page: Page) -> None:
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    terminal = page.get_by_role("textbox", name="Serial console")
    for said, heard in (
        ("", "login:"),
        ("root", "Password:"),
        ("tiny", "~ #"),
        ("uname -sr; ip -o -4 addr; uptime", "load average"),
    ):
        terminal.press_sequentially(f"{said}\n")
        until(page, lambda heard=heard: heard in shown(page), f"no {heard}")  # type: ignore[misc]


def screen(page: Page) -> None:
    until(page, lambda: page.evaluate(LIT), "nothing on the screen")


def shell(page: Page) -> None:
    def is_open() -> bool:
        # Of a guest that still boots the page says that it does not answer, and offers another try.
        if page.get_by_role("button", name="Open a shell").is_visible():
            page.get_by_role("button", name="Open a shell").click()
        return "~ #" in shown(page)

    until(page, is_open, "no prompt")
    expect(page.get_by_text("Recorded", exact=True)).to_be_visible()
    terminal = page.get_by_role("textbox", name="Shell")
    for said, heard in (("hostname; id", "uid=0"), ("ip -o -4 addr", "eth1"), ("free -m; uptime", "load average")):
        terminal.press_sequentially(f"{said}\n")
        until(page, lambda heard=heard: heard in shown(page), f"no {heard}")  # type: ignore[misc]


def replay(page: Page) -> None:
    page.get_by_role("button", name="Play what user:ada saw").first.click()
    until(page, lambda: "load average" in shown(page), "no end of the recording")


def edit(page: Page) -> None:
    expect(page.locator(".cm-content")).to_contain_text("flavor")
    expect(page.get_by_label("powerState")).to_be_visible()


def plan(page: Page) -> None:
    edit(page)
    page.get_by_label("powerState").select_option("Stopped")
    page.get_by_role("button", name="See the plan").click()
    dialog = page.get_by_role("dialog", name="What will be done")
    expect(dialog.get_by_role("row", name=re.compile("spec.powerState"))).to_contain_text("Stopped")


def topology(page: Page) -> None:
    drawing = page.get_by_test_id("rf__wrapper")
    expect(drawing.get_by_role("link", name="db-1")).to_be_visible()
    expect(drawing.locator(".react-flow__edge")).to_have_count(5)


def firewall(page: Page) -> None:
    expect(page.get_by_role("list", name="Rules").get_by_role("listitem")).to_have_count(4)


def usage(page: Page) -> None:
    expect(page.get_by_role("meter", name="instances")).to_have_attribute("value", "3")


def timeline(page: Page) -> None:
    expect(page.get_by_role("slider").last).to_be_visible()
    expect(page.get_by_text("Quota limits").first).to_be_visible()


def hosts(page: Page) -> None:
    expect(page.get_by_role("list", name="Instances on h2").get_by_role("link").first).to_be_visible()


def access(page: Page) -> None:
    expect(page.get_by_role("link", name=DEVELOPER, exact=True)).to_be_visible()


def audit(page: Page) -> None:
    expect(page.get_by_role("row").nth(5)).to_be_visible()


HERE = f"/projects/{PROJECT}"
SCENES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "login": ("/login", login),
    "overview": ("/", overview),
    "overview-dark": ("/", overview),
    "overview-chinese": ("/", overview),
    "launch": (f"{HERE}/launch", launch),
    "instances": (f"{HERE}/instances", instances),
    "instance": (f"{HERE}/instances/web-1", instance),
    "instance-phone": (f"{HERE}/instances/web-1", instance),
    "serial-console": (f"{HERE}/instances/web-1?tab=console", serial_console),
    "screen": (f"{HERE}/instances/web-1?tab=screen", screen),
    "shell": (f"{HERE}/instances/web-1?tab=shell", shell),
    "replay": (f"{HERE}/instances/web-1?tab=recordings", replay),
    "edit": (f"{HERE}/instances/web-1/edit", edit),
    "plan": (f"{HERE}/instances/web-2/edit", plan),
    "topology": (f"{HERE}/topology", topology),
    "firewall": (f"{HERE}/firewall?group=web", firewall),
    "usage": (f"{HERE}/usage", usage),
    "timeline": (f"{HERE}/timeline", timeline),
    "hosts": ("/placement", hosts),
    "access": ("/access", access),
    "audit": ("/audit", audit),
}
"""Where each picture is taken, and what has to be seen before it is."""


def take(page: Page, picture: Picture, folder: Path) -> None:
    """Open the page as it is to be pictured, wait for what makes it worth it, and take the picture."""
    address, prepare = SCENES[picture.name]
    width, height = picture.size
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="dark" if picture.dark else "light")
    kept = {"theme": "system", "language": "zh" if picture.chinese else "en", "project": PROJECT, "letterKeys": True}
    written = json.dumps(json.dumps({"state": kept, "version": 0}))
    page.evaluate(f"localStorage.setItem('vcstack-preferences', {written})")
    page.goto(f"/console{address}")
    prepare(page)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    whole = page.screenshot(animations="disabled", caret="hide")
    content = subprocess.run(SHRINK, input=whole, capture_output=True, check=True).stdout
    (folder / picture.file).write_bytes(content)
    assert size_of(content) == picture.size
    assert len(content) <= LARGEST, f"{picture.name} has {len(content)} bytes"


def test_the_pages_of_the_console_are_pictured_as_a_real_cloud_fills_them(
    shop: Cloud, page: Page, tmp_path: Path
) -> None:
    folder = Path(os.environ.get("VCSTACK_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    before, *others = PICTURES
    for name, spec in PROVIDERS.items():
        shop.apply("identityproviders", None, name, spec)
    take(page, before, folder)
    for name in PROVIDERS:
        shop.delete("identityproviders", None, name)
    until(page, lambda: not is_offered(page), "the provider is still offered")
    log_in(page, OPERATOR)
    for picture in others:
        take(page, picture, folder)
