"""vcctl login by a directory: a real slapd."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pyotp
import pytest

from tests.apiserver.test_accounts import ADMIN, put
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import serving
from tests.fixtures.slapd import CLOUD_PASSWORD, USERS, Slapd
from tests.vcctl.harness import Vcctl
from vcstack.apiserver.auth.directory import Account
from vcstack.apiserver.auth.secondfactor import SecondFactors
from vcstack.clock import SystemClock
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundSettings
from vcstack.pki.installation import Installation
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons


@pytest.fixture
async def cloud(
    memory_store: Store, memory_etcd: MemoryEtcd, pki_installation: Installation, tmp_path: Path, slapd: Slapd
) -> AsyncIterator[Vcctl]:
    target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=frozenset({slapd.tls_port}))
    outbound = OutboundSettings(addresses=AddressPolicy(allowed=[target]))
    async with serving(memory_store, memory_etcd, pki_installation, tmp_path, outbound=outbound) as api:
        await put(api, "Project", "office", {})
        vcctl = Vcctl(api, tmp_path)
        head = {"apiVersion": "vcstack.io/v1"}
        manifest = vcctl.write(
            "office.yaml",
            {
                **head,
                "kind": "Secret",
                "metadata": {"name": "ldap", "project": "office"},
                "spec": {"data": {"password": CLOUD_PASSWORD}},
            },
            {**head, "kind": "Group", "metadata": {"name": "operators"}, "spec": {}},
            {
                **head,
                "kind": "IdentityProvider",
                "metadata": {"name": "office"},
                "spec": {
                    "type": "LDAP",
                    "ldap": slapd.spec(),
                    "groupMapping": [{"external": "ops", "group": "operators"}],
                },
            },
        )
        await vcctl.ok("apply", "--no-wait", "-f", manifest)
        yield vcctl


async def test_a_login_by_a_directory_takes_the_password_there(cloud: Vcctl) -> None:
    ended = await cloud("login", "--provider", "office", "--user", "alice", stdin=f"{USERS['alice']}\n")
    assert ended.code == 0, ended
    assert "as office-alice" in ended.err
    shown = await cloud.ok("whoami")
    assert shown.startswith("user:office-alice at ")
    assert "groups: operators" in shown


async def test_who_logs_in_is_asked_for_and_not_with_a_browser(cloud: Vcctl) -> None:
    ended = await cloud("login", "--provider", "office", stdin="x\n")
    assert "who logs in?" in ended.err
    assert "--user" in ended.err


async def test_a_wrong_password_is_told_as_always_and_whom_to_ask(cloud: Vcctl) -> None:
    ended = await cloud("login", "--provider", "office", "--user", "alice", stdin="wrong\n")
    assert ended.code
    assert "the user or the password is wrong" in ended.err
    assert "is the one at office" in ended.err
    assert "reset-user" not in ended.err


async def test_a_directory_that_is_down_is_named(cloud: Vcctl, slapd: Slapd) -> None:
    await slapd.stop()
    ended = await cloud("login", "--provider", "office", "--user", "alice", stdin="x\n")
    assert ended.code
    assert "identity provider office does not answer" in ended.err


async def test_a_second_factor_of_ours_is_enrolled_and_asked_for_behind_a_directory(cloud: Vcctl) -> None:
    who = ("login", "--provider", "office", "--user", "alice")
    assert (await cloud(*who, stdin=f"{USERS['alice']}\n")).code == 0
    user = get_kind("User")
    await cloud.api.store.merge_patch(user, None, "office-alice", {"spec": {"mfaRequired": True}}, actor=ADMIN)
    unfinished = await cloud(*who, stdin=f"{USERS['alice']}\n")
    assert unfinished.code
    assert "enrol one now" in unfinished.err
    wire = (await cloud.api.store.get(user, None, "office-alice")).wire
    account = Account(name="office-alice", uid=wire["metadata"]["uid"], local=False)
    factors = SecondFactors(cloud.api.auth.credentials, SystemClock())
    secret = (await factors.begin(account)).secret
    codes = await factors.confirm(account, pyotp.TOTP(secret).now())
    ended = await cloud(*who, stdin=f"{USERS['alice']}\n{codes[0]}\n")
    assert ended.code == 0, ended
    assert "as office-alice" in ended.err
    printed = await cloud("auth", "mfa", "recovery-codes", stdin=f"{codes[1]}\n")  # no password is asked for
    assert printed.code == 0, printed
    assert len(printed.out.split()) == len(codes)
