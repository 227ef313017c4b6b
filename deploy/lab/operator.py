"""Who logs in to the console first: made once, with a one-time secret that only root of this machine can read."""

from dataclasses import dataclass
from pathlib import Path

from deploy.lab.layout import BIN, Layout, write
from deploy.lab.shell import run

USER = "operator"
MADE = "operator"
"""In lab.json: it was made. Who deletes the user, or takes its rights, finds it so after the next `up`."""
MANIFEST = f"""
kind: User
metadata: {{name: {USER}}}
spec: {{displayName: Made by make up}}
---
kind: RoleBinding
metadata: {{name: {USER}-admin}}
spec: {{subject: {{kind: User, name: {USER}}}, role: admin}}
"""


@dataclass(frozen=True)
class FirstLogin:
    """How a person logs in."""

    user: str
    secret_file: Path | None
    """Holds the one-time secret; None: the user has a password, or is gone."""
    secret: str | None
    """The one-time secret, when it was made just now: it is shown once."""


def ensure(layout: Layout) -> FirstLogin:
    """Makes the user at the first call, and tells how to log in; the secret goes when it was used."""
    file = layout.state / "operator-secret"
    if layout.load().get(MADE):
        if file.exists() and _has_logged_in(layout):
            file.unlink()
        return FirstLogin(USER, file if file.exists() else None, None)
    _vcctl(layout, "apply", "-f", "-", stdin=MANIFEST)
    secret = _vcctl(layout, "auth", "reset-user", USER, "--yes").strip()
    write(file, secret + "\n", mode=0o600)
    layout.save(**{MADE: True})
    return FirstLogin(USER, file, secret)


def _has_logged_in(layout: Layout) -> bool:
    """Tells whether the secret is of no use any more: a password was set, or there is no such user."""
    found = _vcctl(layout, "get", "users", "-o", "jsonpath={.items[?(@.metadata.name=='operator')].status}")
    return "passwordSetAt" in found or not found.strip()


def _vcctl(layout: Layout, *args: str, stdin: str | None = None) -> str:
    config = f"VCCTL_CONFIG={layout.state / 'vcctl.yaml'}"
    return run(["env", config, BIN / "vcctl", *args], stdin=stdin).stdout
