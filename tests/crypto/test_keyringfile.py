"""The keyring on disk: made once, changed whole or not at all, refused when it must not be trusted."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.crypto.conftest import PIN, Tokens, write_private
from vcstack.crypto import keyringfile
from vcstack.crypto.errors import CryptoError, InsecureKey, KeyUnavailable, MalformedText, UnknownKeyVersion
from vcstack.crypto.masterkey import Argon2Parameters, LocalMasterKey
from vcstack.crypto.sources import FromPassphrase, InFile, InToken

CHEAP = Argon2Parameters(memory_kib=64 * 1024, passes=3)
PASSPHRASE = "correct horse battery staple"


def test_a_new_keyring_is_private_and_has_one_active_version(key_file: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    contents = keyringfile.read(key_file)
    assert contents.active == 1
    assert [entry.version for entry in contents.entries] == [1]


def test_its_folder_is_made_private_when_it_is_missing(tmp_path: Path) -> None:
    keyringfile.create(tmp_path / "new" / "secrets.key", InFile.fresh())
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_an_existing_file_is_never_overwritten(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(KeyUnavailable, match="exists already"):
        keyringfile.create(key_file, InFile.fresh())
    assert key_file.read_bytes() == before


def test_a_plain_key_file_is_version_1_and_stays_so_when_it_is_rotated(tmp_path: Path) -> None:
    key = os.urandom(32)
    path = write_private(tmp_path / "key", base64.b64encode(key).decode() + "\n")
    assert keyringfile.read(path).entry(1).id == LocalMasterKey(key).id
    assert keyringfile.add(path, InFile.fresh(), activate=True) == 2
    after = keyringfile.read(path)
    assert after.active == 2
    assert after.entry(1).id == LocalMasterKey(key).id
    assert after.entry(1).source == InFile(key)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", MalformedText),
        ("no base64", MalformedText),
        (base64.b64encode(os.urandom(16)).decode(), MalformedText),
        (base64.b64encode(os.urandom(33)).decode(), MalformedText),
        (os.urandom(32).hex(), MalformedText),
        ("ü" * 44, MalformedText),
        (base64.b64encode(bytes(32)).decode(), InsecureKey),
    ],
    ids=["empty", "words", "too short", "too long", "hex", "not ASCII", "zeros"],
)
def test_a_plain_key_file_of_other_content_is_refused_without_being_quoted(
    tmp_path: Path, content: str, error: type[Exception]
) -> None:
    path = write_private(tmp_path / "key", content)
    with pytest.raises(error) as refused:
        keyringfile.read(path)
    assert not content or content not in str(refused.value)


def test_an_absent_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable, match="absent"):
        keyringfile.read(tmp_path / "absent")


def test_versions_are_staged_activated_and_retired(key_file: Path) -> None:
    assert keyringfile.add(key_file, InFile.fresh(), activate=False) == 2
    assert keyringfile.read(key_file).active == 1
    keyringfile.make_active(key_file, 2)
    assert keyringfile.read(key_file).active == 2
    with pytest.raises(InsecureKey, match="active"):
        keyringfile.retire(key_file, 2)
    keyringfile.retire(key_file, 1)
    assert [entry.version for entry in keyringfile.read(key_file).entries] == [2]
    for call in (keyringfile.retire, keyringfile.make_active):
        with pytest.raises(UnknownKeyVersion, match="version 1 is not in the keyring, which has 2"):
            call(key_file, 1)


def test_a_number_is_not_used_again_while_a_later_version_lives(key_file: Path) -> None:
    keyringfile.add(key_file, InFile.fresh(), activate=True)
    keyringfile.retire(key_file, 1)
    assert keyringfile.add(key_file, InFile.fresh(), activate=True) == 3


def test_the_same_key_twice_is_no_rotation(key_file: Path) -> None:
    source = keyringfile.read(key_file).entry(1).source
    with pytest.raises(InsecureKey, match="already"):
        keyringfile.add(key_file, source, activate=True)


def test_a_weak_key_is_not_added(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(InsecureKey):
        keyringfile.add(key_file, InFile(bytes(32)), activate=True)
    assert key_file.read_bytes() == before


def test_all_kinds_of_sources_survive_the_file(key_file: Path, tokens: Tokens) -> None:
    folder = key_file.parent
    write_private(folder / "pass", PASSPHRASE + "\n")
    write_private(folder / "pin", PIN + "\n")
    passphrase = FromPassphrase.fresh("pass", CHEAP)
    token = InToken(tokens.address.module, tokens.address.token, "sources", "pin")
    keyringfile.add(key_file, passphrase, activate=True)
    keyringfile.add(key_file, token, activate=True)
    contents = keyringfile.read(key_file)
    assert [entry.source for entry in contents.entries[1:]] == [passphrase, token]
    for entry in contents.entries:
        key = entry.open(folder, None)
        assert key.id == entry.id
        assert key.unwrap(key.wrap(b"x" * 32, b"a"), b"a") == b"x" * 32
    text = key_file.read_text()
    assert PASSPHRASE not in text
    assert PIN not in text
    described = " ".join(entry.source.describe() for entry in contents.entries) + repr(contents)
    key_text = json.loads(text)["keys"][0]["source"]["key"]
    assert key_text not in described
    assert repr(base64.b64decode(key_text)) not in described


def test_what_is_typed_is_asked_for_and_a_wrong_answer_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    asked: list[str] = []

    def answer(with_text: str) -> Any:
        return lambda what: asked.append(what) or with_text

    keyringfile.create(path, FromPassphrase.fresh("", CHEAP), answer(PASSPHRASE))
    entry = keyringfile.read(path).entry(1)
    assert entry.open(tmp_path, answer(PASSPHRASE)).id == entry.id
    with pytest.raises(KeyUnavailable, match="wrong passphrase"):
        entry.open(tmp_path, answer("wrong horse battery staple"))
    with pytest.raises(KeyUnavailable, match="passphraseFile"):
        entry.open(tmp_path, None)
    with pytest.raises(KeyUnavailable, match="pinFile"):
        InToken("module", "token", "label").open(tmp_path, None)
    assert all("assphrase" in what for what in asked)


def test_a_version_whose_token_is_lost_can_be_retired(key_file: Path) -> None:
    wire = json.loads(key_file.read_text())
    gone = {"type": "pkcs11", "module": "/usr/lib/gone.so", "token": "gone", "label": "gone", "pinFile": "gone"}
    wire["keys"].append({"version": 2, "id": "pkcs11:00", "source": gone})
    write_private(key_file, json.dumps(wire))
    with pytest.raises(KeyUnavailable):
        keyringfile.make_active(key_file, 2)
    keyringfile.retire(key_file, 2)
    assert len(keyringfile.read(key_file).entries) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o666])
def test_a_keyring_that_others_may_read_is_refused_by_everything(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    for call in (
        lambda: keyringfile.read(key_file),
        lambda: keyringfile.add(key_file, InFile.fresh(), activate=True),
        lambda: keyringfile.retire(key_file, 1),
    ):
        with pytest.raises(InsecureKey):
            call()
    assert stat.S_IMODE(key_file.stat().st_mode) == mode


@pytest.fixture(scope="module")
def two_keys(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a keyring with a key in the file and one from a passphrase."""
    folder = tmp_path_factory.mktemp("keyring")
    write_private(folder / "pass", PASSPHRASE)
    keyringfile.create(folder / "keyring", InFile.fresh())
    keyringfile.add(folder / "keyring", FromPassphrase.fresh("pass", CHEAP), activate=False)
    return (folder / "keyring").read_text()


def changed(wire: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner: Any = wire
    for step in steps:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return wire


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "vcstack-keyring-9"),
        ("format", None),
        ("active", 3),
        ("active", "1"),
        ("active", True),
        ("active", None),
        ("keys", []),
        ("keys", "x"),
        ("keys", None),
        ("keys.0", "x"),
        ("keys.0.version", 0),
        ("keys.0.version", 2),
        ("keys.0.version", 1.0),
        ("keys.0.id", None),
        ("keys.0.source", None),
        ("keys.0.source", []),
        ("keys.0.source.type", "magic"),
        ("keys.0.source.type", ["file"]),
        ("keys.0.source.key", None),
        ("keys.0.source.key", 7),
        ("keys.0.source.key", "AAAA"),
        ("keys.1.source.salt", "!"),
        ("keys.1.source.kdf", "pbkdf2"),
        ("keys.1.source.memoryKiB", "65536"),
        ("keys.1.source.memoryKiB", 1 << 50),
        ("keys.1.source.passes", 1),
        ("keys.1.source.passphraseFile", 5),
    ],
)
def test_a_damaged_keyring_is_refused_without_a_word_of_its_keys(
    two_keys: str, tmp_path: Path, path: str, value: Any
) -> None:
    key_file, wire = tmp_path / "keyring", json.loads(two_keys)
    key = wire["keys"][0]["source"]["key"]
    write_private(key_file, json.dumps(changed(wire, path, value)))
    with pytest.raises(CryptoError) as refused:
        keyringfile.read(key_file)
    assert key not in str(refused.value)
    assert str(key_file) in str(refused.value)


@pytest.mark.parametrize("cut", [1, 20, 60, 200])
def test_a_keyring_that_is_cut_off_is_refused(key_file: Path, cut: int) -> None:
    write_private(key_file, key_file.read_text()[:cut])
    with pytest.raises(MalformedText) as refused:
        keyringfile.read(key_file)
    assert refused.value.__cause__ is None  # the parser's error would carry the text


def test_rotations_at_once_lose_no_key(key_file: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(lambda _: keyringfile.add(key_file, InFile.fresh(), activate=True), range(40)))
    contents = keyringfile.read(key_file)
    assert sorted(versions) == list(range(2, 42))
    assert [entry.version for entry in contents.entries] == list(range(1, 42))


def test_a_rotation_killed_at_any_moment_leaves_the_old_keyring_or_the_new(key_file: Path) -> None:
    code = """
import sys
from pathlib import Path
from vcstack.crypto import keyringfile
from vcstack.crypto.sources import InFile
while True:
    print(keyringfile.add(Path(sys.argv[1]), InFile.fresh(), activate=True), flush=True)
"""
    told = 1
    for number in range(8):
        rotating = subprocess.Popen([sys.executable, "-c", code, str(key_file)], stdout=subprocess.PIPE, text=True)
        assert rotating.stdout is not None
        told = int(rotating.stdout.readline())
        time.sleep(0.003 * number)  # nothing waits for it: only where the kill falls
        rotating.send_signal(signal.SIGKILL)
        rest = [line for line in rotating.communicate()[0].split("\n")[:-1] if line]
        told = int(rest[-1]) if rest else told
        contents = keyringfile.read(key_file)
        assert [entry.version for entry in contents.entries] == list(range(1, contents.active + 1))
        assert contents.active >= told
