"""SSH keys: checked, told by their fingerprint, kept while used."""

import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.fakes.world import PROJECT, World
from vcstack.controllers import sshkey
from vcstack.controllers.sshkey import fingerprint_of
from vcstack.runtime.users import DELETABLE
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.sshkey import SSHKey, SSHKeySpec

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS me@example"


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    path = tmp_path / "key.pub"
    path.write_text(KEY + "\n")
    try:
        printed = subprocess.run(["ssh-keygen", "-lf", str(path)], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no ssh-keygen on this machine")
    assert fingerprint_of(KEY) == printed.split()[1]


@pytest.mark.parametrize(
    "value",
    ["", "ssh-ed25519", "ssh-dss AAAA me", "ssh-ed25519 AAAA", KEY + "\nssh-rsa AAAA", 'command="x" ' + KEY],
)
def test_what_is_no_single_key_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        SSHKeySpec(public_key=value)


async def test_a_key_becomes_ready_with_its_fingerprint_and_a_second_run_writes_nothing(world: World) -> None:
    await world.create_basics()
    await world.create(SSHKey.new("me", SSHKeySpec(public_key=KEY), project=PROJECT))
    await world.settle(sshkey.build)
    made = await world.get(SSHKey, "me")
    assert made.is_true("Ready")
    assert made.status.fingerprint == fingerprint_of(KEY)
    assert await world.writes_of(sshkey.build) == 0


async def test_a_used_key_stays_until_its_user_no_longer_names_it(world: World) -> None:
    await world.create_basics()
    key = await world.create(SSHKey.new("me", SSHKeySpec(public_key=KEY), project=PROJECT))
    instance = await world.create_instance("web-1", ssh_keys=["me"])
    await world.delete(key)
    await world.settle(sshkey.build)
    held = (await world.get(SSHKey, "me")).find_condition(DELETABLE)
    assert held is not None
    assert "Instance demo/web-1" in held.message
    instance = await world.get(type(instance), "web-1")
    instance.spec.ssh_keys = []
    await world.admin.update(instance)
    await world.settle(sshkey.build)
    assert await world.find(SSHKey, "me") is None


async def test_a_key_of_the_same_name_in_another_project_is_not_mixed_up(world: World) -> None:
    await world.create_basics()
    await world.create(Project.new("other", ProjectSpec()))
    await world.create(SSHKey.new("me", SSHKeySpec(public_key=KEY), project=PROJECT))
    unused = await world.create(SSHKey.new("me", SSHKeySpec(public_key=KEY), project="other"))
    await world.create_instance("web-1", ssh_keys=["me"])
    await world.delete(unused)
    await world.settle(sshkey.build)
    assert await world.find(SSHKey, "me", "other") is None
