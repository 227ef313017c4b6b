"""Key files are read only when nobody else could have read or changed them."""

import os
from pathlib import Path

import pytest

from tests.crypto.conftest import write_private
from vcstack.crypto.errors import InsecureKey, KeyUnavailable
from vcstack.crypto.private import MAX_BYTES, read_private

NOBODY = 65534


def test_a_private_file_is_read(tmp_path: Path) -> None:
    assert read_private(write_private(tmp_path / "key", "content")) == b"content"


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o666, 0o777])
def test_any_right_of_others_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    path = write_private(tmp_path / "key", "content")
    path.chmod(mode)
    with pytest.raises(InsecureKey, match="chmod 600"):
        read_private(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = write_private(tmp_path / "key", "content")
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(InsecureKey, match=f"user {NOBODY}"):
        read_private(path)


def test_a_folder_in_which_anybody_may_replace_files_is_refused(tmp_path: Path) -> None:
    path = write_private(tmp_path / "key", "content")
    tmp_path.chmod(0o777)
    with pytest.raises(InsecureKey, match="chmod o-w"):
        read_private(path)
    tmp_path.chmod(0o1777)  # as /tmp: only the owner may replace
    assert read_private(path) == b"content"


def test_only_regular_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    large = tmp_path / "large"
    large.touch(0o600)
    os.truncate(large, MAX_BYTES + 1)
    for path in (fifo, large):
        with pytest.raises(InsecureKey):
            read_private(path)
    for path in (tmp_path, tmp_path / "absent", tmp_path / "fifo" / "below"):
        with pytest.raises((KeyUnavailable, InsecureKey), match=str(path)):
            read_private(path)


def test_a_credential_may_show_the_mask_of_its_acl_but_no_right_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_private(tmp_path / "key", "content")
    path.chmod(0o440)
    with pytest.raises(InsecureKey):
        read_private(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_private(path) == b"content"
    path.chmod(0o444)
    with pytest.raises(InsecureKey):
        read_private(path)
