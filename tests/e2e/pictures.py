"""The pictures of the console in docs/screenshots: which page each shows, and how large it is.

`make screenshots` makes them, by a test that any run of the end-to-end tests runs too; another test fails when a page
of the navigation has none, or the documentation does not show it.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
LARGEST: Final = 100_000
"""Bytes: pictures stay in the repository for ever."""
WINDOW: Final = (1280, 800)
PHONE: Final = (390, 844)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One of them."""

    name: str
    page: str
    """As console/src/pages/index.ts has it, less parameters."""
    size: tuple[int, int] = WINDOW
    dark: bool = False
    chinese: bool = False

    @property
    def file(self) -> str:
        return f"{self.name}.png"


PICTURES: Final[Sequence[Picture]] = (
    Picture(name="login", page="/login"),
    Picture(name="overview", page="/"),
    Picture(name="overview-dark", page="/", dark=True),
    Picture(name="overview-chinese", page="/", chinese=True),
    Picture(name="launch", page="/projects/:project/launch"),
    Picture(name="instances", page="/projects/:project/:plural"),
    Picture(name="instance", page="/projects/:project/instances/:name"),
    Picture(name="instance-phone", page="/projects/:project/instances/:name", size=PHONE),
    Picture(name="serial-console", page="/projects/:project/instances/:name", dark=True),
    Picture(name="screen", page="/projects/:project/instances/:name"),
    Picture(name="shell", page="/projects/:project/instances/:name", dark=True),
    Picture(name="replay", page="/projects/:project/instances/:name"),
    Picture(name="edit", page="/projects/:project/:plural/:name/edit"),
    Picture(name="plan", page="/projects/:project/:plural/:name/edit"),
    Picture(name="topology", page="/projects/:project/topology"),
    Picture(name="firewall", page="/projects/:project/firewall"),
    Picture(name="usage", page="/projects/:project/usage"),
    Picture(name="timeline", page="/projects/:project/timeline"),
    Picture(name="hosts", page="/placement", dark=True),
    Picture(name="access", page="/access"),
    Picture(name="audit", page="/audit"),
)


def size_of(png: bytes) -> tuple[int, int]:
    """Return width and height (PNG, 11.2.2). Raises ValueError for what is no PNG."""
    if png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR":
        raise ValueError("this is no PNG")
    width, height = struct.unpack(">II", png[16:24])
    return width, height
