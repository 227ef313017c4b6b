"""The keyring in use: it follows the file, and keeps good keys when the file goes bad."""

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crypto.conftest import PIN, Tokens, write_private
from vcstack.crypto import keyringfile
from vcstack.crypto.errors import InsecureKey, KeyUnavailable, Tampered, UnknownKeyVersion
from vcstack.crypto.keyring import Keyring
from vcstack.crypto.masterkey import Argon2Parameters
from vcstack.crypto.sources import FromPassphrase, InFile, InToken

DATA = os.urandom(32)


def test_a_rotation_is_taken_over_without_a_restart_and_old_keys_still_unwrap(key_file: Path) -> None:
    keyring = Keyring(key_file)
    old = keyring.wrap(keyring.active, DATA, b"a")
    keyringfile.add(key_file, InFile.fresh(), activate=True)
    assert keyring.active == 2
    new = keyring.wrap(2, DATA, b"a")
    assert keyring.unwrap(1, old, b"a") == keyring.unwrap(2, new, b"a") == DATA
    with pytest.raises(Tampered):
        keyring.unwrap(2, old, b"a")


def test_a_staged_version_unwraps_what_another_machine_wrapped_with_it(key_file: Path, tmp_path: Path) -> None:
    keyringfile.add(key_file, InFile.fresh(), activate=False)
    copy = write_private(tmp_path / "copy", key_file.read_text())
    here, there = Keyring(key_file), Keyring(copy)
    keyringfile.make_active(key_file, 2)
    wrapped = here.wrap(here.active, DATA, b"a")
    assert there.active == 1
    assert there.unwrap(2, wrapped, b"a") == DATA


def test_a_retired_version_is_gone_at_once_and_its_number_is_named(key_file: Path) -> None:
    keyring = Keyring(key_file)
    old = keyring.wrap(1, DATA, b"a")
    keyringfile.add(key_file, InFile.fresh(), activate=True)
    keyringfile.retire(key_file, 1)
    with pytest.raises(UnknownKeyVersion, match="version 1 is not in the keyring, which has 2"):
        keyring.unwrap(1, old, b"a")


def test_a_bad_file_leaves_the_good_keys_in_force_and_says_so(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keyring = Keyring(key_file)
    wrapped, text = keyring.wrap(1, DATA, b"a"), key_file.read_text()
    for spoil in (
        lambda: key_file.write_text("{"),
        lambda: key_file.unlink(),
        lambda: write_private(key_file, text).chmod(0o644),
    ):
        caplog.clear()
        spoil()
        with caplog.at_level(logging.ERROR):
            assert keyring.unwrap(1, wrapped, b"a") == DATA
        assert str(key_file) in keyring.problem
        assert len(caplog.records) == 1
        assert keyring.wrap(1, DATA, b"a")
        assert len(caplog.records) == 1  # told once, not at every use
    key_file.chmod(0o600)
    assert keyring.unwrap(1, wrapped, b"a") == DATA
    assert not keyring.problem


def test_reload_raises_what_is_wrong(key_file: Path) -> None:
    keyring = Keyring(key_file)
    key_file.chmod(0o604)
    with pytest.raises(InsecureKey):
        keyring.reload()
    assert keyring.active == 1


def test_without_its_active_key_nothing_starts(key_file: Path) -> None:
    write_private(key_file.parent / "pass", "correct horse battery staple")
    keyringfile.add(key_file, FromPassphrase.fresh("pass", Argon2Parameters(65536, 3)), activate=True)
    write_private(key_file.parent / "pass", "wrong horse battery staple")
    with pytest.raises(KeyUnavailable, match="wrong passphrase"):
        Keyring(key_file)


def test_an_older_key_out_of_reach_costs_only_what_it_wrapped(key_file: Path) -> None:
    wire = json.loads(key_file.read_text())
    gone = {"type": "pkcs11", "module": "/usr/lib/gone.so", "token": "gone", "label": "gone", "pinFile": "pin"}
    wire["keys"].append({"version": 2, "id": "pkcs11:00", "source": gone})
    write_private(key_file, json.dumps(wire))
    keyring = Keyring(key_file)
    assert keyring.unwrap(1, keyring.wrap(1, DATA, b"a"), b"a") == DATA
    with pytest.raises(KeyUnavailable):
        keyring.unwrap(2, b"x" * 60, b"a")


def test_the_master_key_moves_from_a_file_into_a_token(key_file: Path, tokens: Tokens) -> None:
    keyring = Keyring(key_file)
    old = keyring.wrap(1, DATA, b"a")
    write_private(key_file.parent / "pin", PIN)
    source = InToken(tokens.address.module, tokens.address.token, "moved", "pin")
    keyringfile.add(key_file, source, activate=True)
    assert keyring.active == 2
    wrapped = keyring.wrap(2, keyring.unwrap(1, old, b"a"), b"a")
    keyringfile.retire(key_file, 1)
    assert Keyring(key_file).unwrap(2, wrapped, b"a") == DATA
    assert '"key":' not in key_file.read_text()


def test_threads_use_it_while_it_rotates(key_file: Path) -> None:
    keyring = Keyring(key_file)

    def work(number: int) -> None:
        for _ in range(100):
            version = keyring.active
            assert keyring.unwrap(version, keyring.wrap(version, DATA, b"a"), b"a") == DATA
            if number == 0:
                keyringfile.add(key_file, InFile.fresh(), activate=True)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert keyring.active == 101
