"""The settings file that is looked at again."""

import os
from pathlib import Path

from tests.programs.test_settings import write
from vcstack.programs.rereading import SettingsFile


def touch_later(path: Path) -> None:
    """Two writes within one tick of the file system's clock would look alike."""
    at = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(at, at))


def test_a_file_that_was_not_written_says_nothing_new(tmp_path: Path) -> None:
    file = SettingsFile(write(tmp_path))
    assert file.read_changed() is None


def test_what_was_written_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path)
    file = SettingsFile(path)
    write(tmp_path, audit={"writes": "Request", "kinds": [{"kind": "Network", "reads": "Metadata"}]})
    touch_later(path)
    changed = file.read_changed()
    assert changed is not None
    assert changed.audit.writes.value == "Request"
    assert file.read_changed() is None


def test_a_wrong_file_changes_nothing_until_it_is_right(tmp_path: Path) -> None:
    path = write(tmp_path)
    file = SettingsFile(path)
    path.write_text("audit: {writes: Sometimes}")
    assert file.read_changed() is None
    path.unlink()
    assert file.read_changed() is None
    touch_later(write(tmp_path, audit={"writes": "None"}))
    assert file.read_changed() is not None
