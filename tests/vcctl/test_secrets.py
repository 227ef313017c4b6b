"""vcctl secrets: key files and ENC(...) values, without any API."""

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.vcctl.harness import Ended
from vcstack.vcctl.application import app
from vcstack.vcctl.errors import ExitCode
from vcstack.vcctl.main import load_commands

VCCTL = str(Path(sys.executable).with_name("vcctl"))


class Secrets:
    """Runs `vcctl secrets` with a key file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key_file = folder / "secrets.key"
        self.environ = {
            "VCSTACK_SECRETS_KEY_FILE": str(self.key_file),
            "VCCTL_CONFIG": str(folder / "absent.yaml"),
            "COLUMNS": "200",
        }
        load_commands(["secrets"])

    def __call__(self, *words: str, stdin: str | bytes = "", **environ: str) -> Ended:
        found = CliRunner().invoke(
            app, ["secrets", *words], input=stdin, env={**self.environ, **environ}, prog_name="vcctl"
        )
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Ended(found.exit_code, found.stdout, found.stderr)

    def ok(self, *words: str, stdin: str | bytes = "") -> str:
        ended = self(*words, stdin=stdin)
        assert ended.code == 0, ended
        return ended.out


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path)


@pytest.fixture
def made(secrets: Secrets) -> Secrets:
    secrets.ok("init")
    return secrets


def test_init_makes_a_private_key_file_and_never_overwrites_one(secrets: Secrets) -> None:
    assert str(secrets.key_file) in secrets.ok("init")
    assert stat.S_IMODE(secrets.key_file.stat().st_mode) == 0o600
    before = secrets.key_file.read_bytes()
    again = secrets("init")
    assert again.code == ExitCode.LOCAL
    assert "exists already" in again.err
    assert secrets.key_file.read_bytes() == before


def test_init_asks_where_when_it_is_not_told(secrets: Secrets) -> None:
    ended = secrets("init", VCSTACK_SECRETS_KEY_FILE="")
    assert ended.code == ExitCode.USAGE
    assert "--key-file" in ended.err


@pytest.mark.parametrize("value", ["s3cret", "", "two\nlines", "päss\twörd [bold] $x", " spaces "])
def test_a_value_from_stdin_is_encrypted_and_comes_back(made: Secrets, value: str) -> None:
    text = made.ok("encrypt", stdin=value + "\n")
    assert text.startswith("ENC(vcs1:1:")
    assert text.count("\n") == 1
    assert made.ok("decrypt", stdin=text) == value + "\n"


def test_another_key_file_can_be_named(made: Secrets) -> None:
    other = str(made.folder / "other.key")
    made.ok("init", "--key-file", other)
    text = made.ok("encrypt", "--key-file", other, stdin="v")
    assert made("decrypt", stdin=text).code == ExitCode.LOCAL
    assert made.ok("decrypt", "--key-file", other, stdin=text) == "v\n"


def test_rotated_keys_still_decrypt_until_they_are_retired(made: Secrets) -> None:
    old = made.ok("encrypt", stdin="v")
    assert "version 2 is active" in made.ok("rotate")
    new = made.ok("encrypt", stdin="v")
    assert new.startswith("ENC(vcs1:2:")
    assert made.ok("decrypt", stdin=old) == made.ok("decrypt", stdin=new) == "v\n"
    refused = made("retire", "1")
    assert refused.code == ExitCode.USAGE
    for said in ("--config", "ENC(vcs1:1:", "--yes"):
        assert said in refused.err.replace("\n", " ")
    made.ok("retire", "1", "--yes")
    gone = made("decrypt", stdin=old)
    assert gone.code == ExitCode.LOCAL
    assert "version 1 is not in the keyring" in gone.err


def test_a_version_is_retired_when_no_value_of_the_configuration_needs_it(made: Secrets) -> None:
    old = made.ok("encrypt", stdin="v").strip()
    made.ok("rotate")
    new = made.ok("encrypt", stdin="v").strip()
    manager, agent, other = (made.folder / name for name in ("management.yaml", "compute.env", "other.yaml"))
    manager.write_text(f"# values are ENC(...)\npostgres: {{dsn: {new}}}\n")
    agent.write_text(f"A={new}\nB='{old}'\n")
    words = ("retire", "1", "--config", str(manager))
    before = made.key_file.read_bytes()
    needed = made(*words, "--config", str(agent))
    assert needed.code == ExitCode.USAGE
    assert f"the ENC(...) values at {agent}:2 need master key version 1" in needed.err
    made.ok("init", "--key-file", str(made.folder / "other.key"))
    foreign = made.ok("encrypt", "--key-file", str(made.folder / "other.key"), stdin="v")
    for text, said in (
        ("plain: text", "no ENC(...) value is in"),
        (foreign, f"{other}:1: this key file is not for that value"),
        ("ENC(vcs1:2:x)", f"{other}:1: this key file is not for that value"),
    ):
        other.write_text(text)
        refused = made("retire", "1", "--config", str(other))
        assert refused.code != 0
        assert said in refused.err.replace("\n", " ")
    assert "absent" in made("retire", "1", "--config", str(made.folder / "absent")).err
    assert made.key_file.read_bytes() == before
    made.ok(*words)
    assert made("decrypt", stdin=old).code == ExitCode.LOCAL
    assert made.ok("decrypt", stdin=new) == "v\n"


def test_a_staged_version_waits_for_its_activation(made: Secrets) -> None:
    assert "not active" in made.ok("rotate", "--stage")
    assert made.ok("encrypt", stdin="v").startswith("ENC(vcs1:1:")
    made.ok("activate", "2")
    assert made.ok("encrypt", stdin="v").startswith("ENC(vcs1:2:")


def test_keys_lists_the_versions_and_shows_no_key(made: Secrets) -> None:
    made.ok("rotate")
    listed = made.ok("keys")
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [["1", listed.split()[5]], ["*", "2"]]
    for entry in json.loads(made.key_file.read_text())["keys"]:
        assert entry["id"] in listed
        assert entry["source"]["key"] not in listed


def test_a_passphrase_in_a_file_gives_the_key(secrets: Secrets) -> None:
    passphrase = secrets.folder / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    passphrase.chmod(0o600)
    secrets.ok("init", "--passphrase-file", str(passphrase))
    assert "Argon2id" in secrets.ok("keys")
    assert secrets.ok("encrypt", stdin="v").startswith("ENC(vcs1:1:")
    passphrase.write_text("wrong horse battery staple\n")
    assert "wrong passphrase" in secrets("encrypt", stdin="v").err


@pytest.mark.parametrize(
    ("words", "stdin", "code", "says"),
    [
        (("decrypt",), "plain text", ExitCode.LOCAL, "ENC(...)"),
        (("decrypt",), "ENC(x)", ExitCode.LOCAL, "no envelope"),
        (("encrypt",), b"\xff\xfe", ExitCode.USAGE, "no text"),
        (("encrypt", "--key-file", "/absent"), "v", ExitCode.LOCAL, "/absent"),
        (("activate", "9"), "", ExitCode.LOCAL, "version 9"),
        (("retire", "1", "--yes"), "", ExitCode.LOCAL, "active"),
        (("init", "--key-file", "k", "--passphrase"), "", ExitCode.USAGE, "nobody can be asked"),
        (("init", "--key-file", "k", "--pkcs11-module", "/m.so"), "", ExitCode.USAGE, "--token"),
        (("rotate", "--passphrase-file", "/absent"), "", ExitCode.LOCAL, "/absent"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    made: Secrets, words: tuple[str, ...], stdin: str | bytes, code: ExitCode, says: str
) -> None:
    before = made.key_file.read_bytes()
    ended = made(*words, stdin=stdin)
    assert ended.code == code
    assert says in ended.err
    assert ended.out == ""
    assert made.key_file.read_bytes() == before


def test_a_key_file_that_others_may_read_is_refused(made: Secrets) -> None:
    made.key_file.chmod(0o644)
    ended = made("encrypt", stdin="v")
    assert ended.code == ExitCode.LOCAL
    assert "chmod 600" in ended.err


def test_at_a_terminal_the_value_is_asked_for_without_echo(made: Secrets) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [VCCTL, "secrets", "encrypt"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        start_new_session=True,  # without a terminal of its own getpass takes stdin
        env={**os.environ, **made.environ},
    )
    os.close(theirs)
    shown = b""
    while b"Value: " not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, b"s3cret\n")
    text, _ = running.communicate(timeout=60)
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert b"s3cret" not in shown
    assert made.ok("decrypt", stdin=text) == "s3cret\n"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1000)
    except OSError:  # EIO: the other end is closed
        return b""
