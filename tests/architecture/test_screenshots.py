"""The documentation shows the pages that there are."""

import re
from pathlib import Path

import pytest

from tests.e2e.pictures import FOLDER, LARGEST, PICTURES, Picture, size_of

ROOT = Path(__file__).resolve().parents[2]


def pages_of_the_navigation() -> set[str]:
    """Return the paths of the pages that stand in the navigation."""
    text = (ROOT / "console" / "src" / "pages" / "index.ts").read_text()
    listed = text[text.index("export const PAGES") :]
    items = re.split(r"\bpath: ", listed)[1:]
    return {item.split('"')[1] for item in items if "entry: {" in item}


def test_every_page_of_the_navigation_has_a_picture() -> None:
    pages = pages_of_the_navigation()
    assert {"/", "/placement", "/projects/:project/topology"} <= pages, "the list of pages is read"
    # A tenant's own audit trail is the same page.
    missing = pages - {picture.page for picture in PICTURES} - {"/projects/:project/audit"}
    assert not missing, f"add them to tests/e2e/pictures.py and run `make screenshots`: {sorted(missing)}"


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_there_of_its_size_and_shown(picture: Picture) -> None:
    content = (FOLDER / picture.file).read_bytes()
    assert size_of(content) == picture.size
    assert len(content) <= LARGEST
    shown = re.findall(r"!\[([^\]]+)\]\(screenshots/([a-z-]+\.png)\)", (ROOT / "docs" / "console.md").read_text())
    assert picture.file in [file for alt, file in shown if alt.strip()]


def test_no_picture_is_left_of_what_is_no_more() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {picture.file for picture in PICTURES}
