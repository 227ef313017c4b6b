"""Fixtures: key files, keyrings, and a SoftHSM token."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vcstack.crypto import keyringfile
from vcstack.crypto.envelope import Envelopes
from vcstack.crypto.hsm import TokenAddress
from vcstack.crypto.keyring import Keyring
from vcstack.crypto.sources import InFile

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN, OFFICER_PIN = "746251", "90210"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A keyring file with one random key."""
    path = tmp_path / "secrets.key"
    keyringfile.create(path, InFile.fresh())
    return path


@pytest.fixture(scope="module")
def envelopes(tmp_path_factory: pytest.TempPathFactory) -> Envelopes:
    path = tmp_path_factory.mktemp("keys") / "secrets.key"
    keyringfile.create(path, InFile.fresh())
    return Envelopes(Keyring(path))


@dataclass(frozen=True)
class Tokens:
    """SoftHSM with two tokens, one of them for tests that spoil it."""

    folder: Path
    address: TokenAddress
    other: TokenAddress


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    """The library reads its configuration once a process, so its tokens are there for the whole session."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    for label in ("vcstack", "spoiled"):
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", OFFICER_PIN],
            check=True,
            capture_output=True,
        )
    yield Tokens(folder, TokenAddress(MODULE, "vcstack"), TokenAddress(MODULE, "spoiled"))
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def write_private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path
