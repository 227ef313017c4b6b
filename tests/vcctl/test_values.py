"""Secret values at the command line: shown by reveal only."""

from pathlib import Path

import pytest
import yaml

from tests.fixtures.api import create_samples
from tests.vcctl.harness import Vcctl

VALUE, OTHER = "correct horse", "hunter2 of old"


def manifest(folder: Path, value: str) -> str:
    path = folder / "secret.yaml"
    meta = {"project": "demo", "name": "db"}
    path.write_text(
        yaml.safe_dump(
            {"apiVersion": "vcstack.io/v1", "kind": "Secret", "metadata": meta, "spec": {"data": {"p": value}}}
        )
    )
    return str(path)


@pytest.fixture
async def ready(vcctl: Vcctl) -> Vcctl:
    await create_samples(vcctl.api, "Project")
    return vcctl


async def test_no_command_but_reveal_shows_a_value(ready: Vcctl, tmp_path: Path) -> None:
    file = manifest(tmp_path, VALUE)
    for words in (
        ("diff", "-f", file),
        ("apply", "-f", file, "--dry-run", "-o", "yaml"),
        ("apply", "-f", file, "-o", "yaml"),
        ("diff", "-f", file),
        ("get", "secrets", "-o", "yaml"),
        ("describe", "secret", "db"),
    ):
        ended = await ready(*words)
        assert VALUE not in ended.out + ended.err, words
    assert (await ready("reveal", "db", "p")).out == VALUE + "\n"
    assert VALUE in (await ready("reveal", "db")).out
    assert "It has: p" in (await ready("reveal", "db", "q")).err


async def test_diff_and_apply_tell_the_same_value_from_another(ready: Vcctl, tmp_path: Path) -> None:
    file = manifest(tmp_path, VALUE)
    await ready("apply", "-f", file)
    assert "unchanged" in (await ready("apply", "-f", file)).out
    assert (await ready("diff", "-f", file)).code == 0
    manifest(tmp_path, OTHER)
    shown = await ready("diff", "-f", file)
    assert shown.code == 1
    assert "spec.data.p" in shown.out
    assert OTHER not in shown.out
    assert "configured" in (await ready("apply", "-f", file)).out


async def test_what_get_printed_can_be_applied_again(ready: Vcctl, tmp_path: Path) -> None:
    await ready("apply", "-f", manifest(tmp_path, VALUE))
    printed = await ready("get", "secret", "db", "-o", "yaml")
    again = tmp_path / "again.yaml"
    again.write_text(printed.out)
    ended = await ready("apply", "-f", str(again))
    assert ended.code == 0, ended.err
    assert (await ready("reveal", "db", "p")).out == VALUE + "\n"


async def test_status_counts_and_retire_asks_it(ready: Vcctl, tmp_path: Path) -> None:
    key_file = str(tmp_path / "keyring")
    await ready("secrets", "init", "--key-file", key_file)
    await ready("secrets", "rotate", "--key-file", key_file)
    shown = await ready("secrets", "status")
    assert shown.code == 0
    refused = await ready("secrets", "retire", "1", "--key-file", key_file)
    assert refused.code != 0
    assert "is not the keyring of this cloud" in refused.err, "whatever the cloud needs of its own version 1"
    assert "--config" in refused.err
    assert (await ready("secrets", "retire", "1", "--yes", "--key-file", key_file)).code == 0


async def test_of_the_clouds_keyring_nothing_is_retired_that_the_store_needs(ready: Vcctl, tmp_path: Path) -> None:
    await ready("apply", "-f", manifest(tmp_path, VALUE))
    key_file = tmp_path / "keyring"
    key_file.write_bytes(ready.api.installation.admin_token.with_name("keyring.json").read_bytes())
    key_file.chmod(0o600)
    await ready("secrets", "rotate", "--key-file", str(key_file))  # of a copy: the cloud does not know of it
    refused = await ready("secrets", "retire", "1", "--key-file", str(key_file))
    assert refused.code != 0
    assert "master key version 1 is the active one of the cloud" in refused.err
    staged = await ready("secrets", "rotate", "--stage", "--key-file", str(key_file))
    assert staged.code == 0
    assert (await ready("secrets", "retire", "3", "--key-file", str(key_file))).code == 0, "nothing needs that"
