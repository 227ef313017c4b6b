"""Git sources, on a real Git server, a real API and the real git: what is applied, as whom, and what holds it up."""

import asyncio
import base64
import contextlib
import os
import subprocess
import tempfile
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.world import PROJECT, World
from tests.fixtures.api import ISSUER, WORKERS, Api
from tests.fixtures.etcd import eventually
from tests.fixtures.git_server import GitRepository, GitServer, SshGitServer, git
from tests.fixtures.sops_files import Identity, encrypt
from tests.kinds.identities import ACCOUNT, bind, make_account, make_domain, make_project
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.wire import WireClient
from vcstack.clock import SystemClock
from vcstack.controllers import gitsource, gitsource_health, serviceaccount
from vcstack.controllers.backends.git import Commit, GitLimits, GitRepositories, Remote
from vcstack.controllers.gitsource import GIT, SOURCE_ACCESS
from vcstack.controllers.gitsource_health import PACE_SECONDS
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundClient, OutboundSettings
from vcstack.pki.authority import CertificateAuthority
from vcstack.programs.gitsources import ManagedSourceAccess
from vcstack.runtime.context import Build
from vcstack.runtime.manager import Manager
from vcstack.specs.errors import ApiError, Invalid
from vcstack.specs.kinds.gitsource import APPROVED, REQUESTED, GitSource, GitSourceSpec
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.project import Project
from vcstack.specs.kinds.quota import Quota, QuotaSpec
from vcstack.specs.kinds.role import Role, RoleSpec
from vcstack.specs.kinds.rolebinding import RoleBinding
from vcstack.specs.kinds.secret import Secret, SecretSpec, SecretType
from vcstack.specs.kinds.securitygroup import SecurityGroup
from vcstack.specs.kinds.serviceaccount import ServiceAccount
from vcstack.specs.meta import APPLY_SET_LABEL, PRUNE_LABEL, format_time
from vcstack.specs.permissions import built_in_roles
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor

NETWORK = "apiVersion: vcstack.io/v1\nkind: Network\nmetadata: {{name: {0}}}\nspec: {{mtuBytes: {1}}}\n"
BOB = Actor("user:bob", "bob")


def network(name: str, mtu: int = 1400) -> str:
    return NETWORK.format(name, mtu)


def loopback(*ports: int) -> OutboundClient:
    """Return the guard as an operator sets it who allows these ports of this machine."""
    allowed = AllowedTarget(network=ip_network("127.0.0.0/8"), ports=frozenset(ports), plain_http=True)
    return OutboundClient(OutboundSettings(addresses=AddressPolicy(allowed=[allowed])))


@dataclass
class Cloud:
    """A cloud with a project, and a repository that it is to follow."""

    world: World
    api: Api
    server: GitServer
    repository: GitRepository

    async def follow(self, name: str = "shop", **spec: Any) -> GitSource:
        wanted = {"url": self.server.url(), "serviceAccount": "deployer", **spec}
        await self.world.admin.create(GitSource.new(name, GitSourceSpec.from_wire(wanted), project=PROJECT))
        return await self.settle(name)

    async def settle(self, name: str = "shop", *, after: float = 1000.0) -> GitSource:
        """Let the time pass until the server is asked again, and return what became of the source."""
        self.world.clock.skip(after)
        await self.world.settle(gitsource.build)
        for left in (await self.world.admin.list(Network)).items:
            if left.deleting:
                await self.world.remove_finalizers(left)
        return await self.source(name)

    async def settle_gone(self, name: str = "shop") -> None:
        """Be the controllers of networks, and see the source go."""
        for _ in range(3):
            await self.world.settle(gitsource.build)
            for left in (await self.world.admin.list(Network)).items:
                if left.deleting:
                    await self.world.remove_finalizers(left)
            self.world.clock.skip(10)
        assert await self.world.find(GitSource, name) is None

    async def source(self, name: str = "shop") -> GitSource:
        return await self.world.admin.get(GitSource, name, PROJECT)

    async def assert_settled(self, *builds: Build) -> None:
        """A fresh process writes nothing; what the API server's worker says of itself goes on beside it."""

        async def revisions() -> dict[bytes, int]:
            found = (await self.api.etcd.range(b"/vcstack/")).kvs
            return {kv.key: kv.mod_revision for kv in found if not kv.key.startswith(WORKERS)}

        self.world.restart()
        before = await revisions()
        await self.world.settle(*builds)
        assert await revisions() == before

    async def networks(self) -> list[str]:
        return sorted(n.metadata.name for n in (await self.world.admin.list(Network, project=PROJECT)).items)

    async def annotate(self, key: str, value: str, name: str = "shop") -> None:
        await self.patch("GitSource", name, {"metadata": {"annotations": {key: value}}})

    async def patch(self, kind: str, name: str, patch: dict[str, Any], actor: Actor = BOB) -> None:
        await self.world.store.merge_patch(get_kind(kind), PROJECT, name, patch, actor=actor)


def state(source: GitSource, type_: str) -> tuple[str, str]:
    found = source.find_condition(type_)
    assert found is not None, f"{type_} is not there: {source.status}"
    return found.status.value, found.reason


def message(source: GitSource, type_: str) -> str:
    found = source.find_condition(type_)
    assert found is not None
    return found.message


@pytest.fixture
async def cloud(world: World, api: Api, git_server: GitServer, tmp_path: Path) -> AsyncIterator[Cloud]:
    outbound = loopback(git_server.port)
    repositories = GitRepositories(tmp_path / "repositories", outbound)
    world.backends[GIT.name] = repositories
    world.backends[SOURCE_ACCESS.name] = ManagedSourceAccess(
        world.store,
        api.auth.credentials,
        SystemClock(),
        issuer=ISSUER,
        api_url=api.url,
        ca_file=api.installation.ca_cert,
    )
    world.restart()
    await make_project(world)
    await make_account(world, "deployer")
    for role in ("member", "reader", "project-admin"):
        await world.admin.create(Role.new(role, RoleSpec(rules=list(built_in_roles()[role].rules))))
    await bind(world, "deployer", ACCOUNT, "deployer", role="member", project=PROJECT)
    yield Cloud(world, api, git_server, git_server.repository())
    repositories.close()
    outbound.close()


async def test_a_commit_is_applied_and_a_second_look_writes_nothing(cloud: Cloud) -> None:
    cloud.repository.write("cloud/a.yaml", network("web"))
    cloud.repository.write("cloud/deep/b.yaml", network("db"))
    cloud.repository.write("README.md", "nothing for us")
    commit = cloud.repository.commit("Two networks")
    source = await cloud.follow(path="cloud")
    assert await cloud.networks() == ["db", "web"]
    assert source.is_true("Ready")
    status = source.status
    assert (status.commit, status.applied_commit, status.objects, status.failed) == (commit, commit, 2, 0)
    assert status.revision == f"main@{commit[:10]}"
    assert status.commit_subject == "Two networks"
    assert state(source, "Stalled")[0] == state(source, "Reconciling")[0] == "False"
    found = await cloud.world.admin.get(Network, "web", PROJECT)
    assert found.metadata.labels[APPLY_SET_LABEL] == source.set_name == status.apply_set
    assert any(entry.manager == source.manager for entry in found.metadata.managed_fields)
    await cloud.assert_settled(gitsource.build)


async def test_a_new_commit_changes_and_prunes_and_says_what(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.repository.write(f"{name}.yaml", network(name))
    cloud.repository.commit()
    await cloud.follow()
    cloud.repository.remove("c.yaml")
    cloud.repository.write("a.yaml", network("a", 1300))
    cloud.repository.commit()
    source = await cloud.settle()
    assert await cloud.networks() == ["a", "b"]
    assert (await cloud.world.admin.get(Network, "a", PROJECT)).spec.mtu_bytes == 1300
    told = {(d.object, d.result, d.message) for d in source.status.differing}
    assert told == {("a", "Configured", "spec.mtuBytes"), ("c", "Pruned", "")}
    assert (source.status.changed, source.status.pruned) == (1, 1)


async def test_it_acts_with_the_rights_of_the_account_and_no_more(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.write("z.yaml", "kind: Flavor\nmetadata: {name: huge}\nspec: {vcpus: 1, memoryMiB: 128}\n")
    cloud.repository.write("p.yaml", "kind: Network\nmetadata: {name: x, project: other}\nspec: {}\n")
    await make_project(cloud.world, "other")
    cloud.repository.commit()
    source = await cloud.follow()
    assert state(source, "Applied")[0] == "False"
    assert await cloud.networks() == ["a"]
    assert {d.object: d.result for d in source.status.differing} == {"a": "Created", "huge": "Failed", "x": "Failed"}
    assert (await cloud.world.admin.list(Network, project="other")).items == []
    assert not source.status.applied_commit


async def test_what_somebody_changed_is_set_back_and_told(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.follow()
    await cloud.patch("Network", "a", {"spec": {"mtuBytes": 1280}, "metadata": {"labels": {"mine": "yes"}}})
    # The server need not be there for that.
    cloud.server.password = "changed"
    source = await cloud.settle(after=6)
    found = await cloud.world.admin.get(Network, "a", PROJECT)
    assert found.spec.mtu_bytes == 1400
    assert found.metadata.labels["mine"] == "yes", "what the manifest does not say is others'"
    assert [(d.object, d.result, d.message) for d in source.status.differing] == [("a", "Configured", "spec.mtuBytes")]
    assert "Drifted" in await cloud.world.event_reasons()


async def mtu(cloud: Cloud, changed: int | None = None) -> int:
    """Return the MTU of network a; before that somebody changes it."""
    if changed is not None:
        await cloud.patch("Network", "a", {"spec": {"mtuBytes": changed}})
    return (await cloud.world.admin.get(Network, "a", PROJECT)).spec.mtu_bytes


async def test_while_the_server_is_gone_changes_are_set_back_as_the_last_commit_says_and_both_are_told(
    cloud: Cloud,
) -> None:
    cloud.repository.write("a.yaml", network("a"))
    commit = cloud.repository.commit()
    await cloud.follow()
    cloud.server.close()
    await mtu(cloud, 1280)
    source = await cloud.settle()
    assert await mtu(cloud) == 1400
    assert state(source, "Fetched") == ("Unknown", "Unreachable")
    assert f"main@{commit[:10]}, fetched last" in message(source, "Fetched")
    assert state(source, "Applied") == ("True", "Applied")
    assert f"main@{commit[:10]}" in message(source, "Applied")
    assert not source.is_true("Ready")
    assert (state(source, "Reconciling"), state(source, "Stalled")[0]) == (("True", "Unreachable"), "False")
    found = source.find_condition("Fetched")
    assert found is not None
    since = found.last_transition_time
    assert {"Unreachable", "Drifted"} <= set(await cloud.world.event_reasons())
    # Whether it is just being asked again or not, and the outage stays as old as it is.
    for after in (6, 1000):
        await mtu(cloud, 1281)
        source = await cloud.settle(after=after)
        assert await mtu(cloud) == 1400
        found = source.find_condition("Fetched")
        assert found is not None
        assert (found.reason, found.last_transition_time) == ("Unreachable", since)
        assert (source.status.commit, source.status.applied_commit) == (commit, commit)
    # Another process has not got the commit, and says so.
    cloud.world.restart()
    await mtu(cloud, 1282)
    source = await cloud.settle()
    assert await mtu(cloud) == 1282
    assert f"the objects are of main@{commit[:10]}, " in message(source, "Fetched")
    assert "set back only when it could be fetched" in message(source, "Fetched")


async def test_a_server_that_is_away_is_asked_rarely_whatever_changes_meanwhile(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.follow()
    cloud.server.away = True
    source = await cloud.settle()
    assert state(source, "Fetched") == ("Unknown", "Unreachable")
    before = cloud.server.requests
    for changed in range(1300, 1320):
        await mtu(cloud, changed)
        await cloud.settle(after=6)
        assert await mtu(cloud) == 1400
    # Two minutes have passed, and it is asked after 20, 40 and 80 seconds.
    assert 0 < cloud.server.requests - before <= 3
    # So it is for who has nothing to set back by.
    cloud.world.restart()
    await cloud.settle()
    before = cloud.server.requests
    for changed in range(1300, 1320):
        await mtu(cloud, changed)
        await cloud.settle(after=0.5)
    assert cloud.server.requests == before
    cloud.server.away = False
    assert (await cloud.settle(after=20)).is_true("Ready")
    assert await mtu(cloud) == 1400


async def test_a_server_that_refused_is_asked_at_once_when_somebody_did_something(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    cloud.server.password = "s3cret-and-long"
    login = SecretSpec(type=SecretType.BASIC_AUTH, data={"username": "git", "password": "wrong"})
    await cloud.world.admin.create(Secret.new("git", login, project=PROJECT))
    source = await cloud.follow(credentials="git")
    assert state(source, "Fetched") == ("False", "AuthenticationFailed")
    await cloud.patch("Secret", "git", {"spec": {"data": {"password": "s3cret-and-long"}}})
    assert (await cloud.settle(after=1)).is_true("Ready")

    async def refuse() -> None:
        cloud.server.away = True
        assert not (await cloud.settle()).is_true("Ready")
        cloud.server.away = False
        assert not (await cloud.settle(after=1)).is_true("Ready")

    await refuse()
    await cloud.annotate(REQUESTED, "now")
    assert (await cloud.settle(after=1)).is_true("Ready")
    await refuse()
    await cloud.patch("GitSource", "shop", {"spec": {"intervalSeconds": 301}})
    assert (await cloud.settle(after=1)).is_true("Ready")
    await refuse()
    before = cloud.server.requests
    await cloud.patch("ServiceAccount", "deployer", {"spec": {"enabled": False}})
    source = await cloud.settle(after=1)
    assert state(source, "Applied") == ("False", "AccountDisabled")
    assert state(source, "Fetched") == ("Unknown", "Unreachable")
    assert cloud.server.requests == before
    await cloud.patch("ServiceAccount", "deployer", {"spec": {"enabled": True}})
    assert (await cloud.settle(after=1)).is_true("Ready")


async def test_a_fetch_that_fails_half_way_leaves_what_was_fetched_before(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    old = cloud.repository.commit()
    source = await cloud.follow()
    cloud.repository.write("a.yaml", network("a", 1300))
    new = cloud.repository.commit()
    cloud.server.babbles = True
    await mtu(cloud, 1280)
    source = await cloud.settle()
    assert state(source, "Fetched") == ("False", "TooLarge")
    assert (state(source, "Reconciling")[0], state(source, "Stalled")) == ("False", ("True", "TooLarge"))
    assert (source.status.commit, source.status.applied_commit) == (old, old)
    assert await mtu(cloud) == 1400
    folder = cloud.world.backends[GIT.name].path(source.uid)
    assert [found.name for found in folder.parent.iterdir()] == [folder.name]
    # Ended in the midst of it, as well.
    cloud.server.babbles = False
    cloud.server.released.clear()
    before = cloud.server.requests
    asking = asyncio.create_task(cloud.settle())
    await eventually(lambda: cloud.server.requests > before, seconds=60)
    asking.cancel()
    await asyncio.wait([asking])
    cloud.server.away = True
    cloud.server.released.set()
    await mtu(cloud, 1280)
    await cloud.settle()
    assert await mtu(cloud) == 1400
    cloud.server.away = False
    source = await cloud.settle()
    assert source.status.applied_commit == new
    assert await mtu(cloud) == 1300
    await cloud.world.delete(source)
    await cloud.world.settle(gitsource.build)
    assert list(folder.parent.iterdir()) == []


async def test_another_address_or_reference_is_not_answered_with_what_was_fetched_of_the_one_before(
    cloud: Cloud,
) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.write("more/b.yaml", network("b"))
    commit = cloud.repository.commit()
    source = await cloud.follow(path="more")
    cloud.server.away = True
    for change, back in (
        ({"url": cloud.server.url("other")}, {"url": cloud.server.url()}),
        ({"ref": {"branch": "stable"}}, {"ref": {"branch": None}}),
    ):
        await cloud.patch("GitSource", "shop", {"spec": change})
        await cloud.patch("Network", "b", {"spec": {"mtuBytes": 1280}})
        source = await cloud.settle()
        assert (await cloud.world.admin.get(Network, "b", PROJECT)).spec.mtu_bytes == 1280
        assert f"the objects are of main@{commit[:10]}" in message(source, "Fetched")
        await cloud.patch("GitSource", "shop", {"spec": back})
        source = await cloud.settle()
        assert (await cloud.world.admin.get(Network, "b", PROJECT)).spec.mtu_bytes == 1400
        assert f"main@{commit[:10]}, fetched last" in message(source, "Fetched")
    # Another folder of the same commit is in it.
    await cloud.patch("GitSource", "shop", {"spec": {"path": ""}})
    source = await cloud.settle()
    assert await cloud.networks() == ["a", "b"]
    assert state(source, "Applied") == ("True", "Applied")
    assert not source.is_true("Ready")


async def test_where_conflicts_are_reported_others_fields_stay(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.follow(onConflict="Report")
    await cloud.patch("Network", "a", {"spec": {"mtuBytes": 1280}})
    source = await cloud.settle()
    assert (await cloud.world.admin.get(Network, "a", PROJECT)).spec.mtu_bytes == 1280
    assert state(source, "Applied") == ("False", "Conflict")
    assert "bob" in message(source, "Applied")
    assert state(source, "Stalled")[0] == "True"


async def test_how_the_objects_are_is_told_beside_ready_and_never_of_the_commit_before(cloud: Cloud) -> None:
    async def look() -> GitSource:
        cloud.world.clock.skip(PACE_SECONDS)
        await cloud.world.settle(gitsource_health.build)
        return await cloud.source()

    async def make(*true: str) -> None:
        """Do as the controller of networks."""
        found = await cloud.world.admin.get(Network, "a", PROJECT)
        await cloud.world.set_status(found, *true, false=() if true else ("Realized",))

    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    source = await cloud.follow()
    assert state(source, "Healthy") == ("Unknown", "Changed")
    assert source.is_true("Ready"), "what is applied is applied, however it is"
    assert state(await look(), "Healthy") == ("Unknown", "Progressing")
    await make("Realized")
    assert state(await look(), "Healthy") == ("True", "AllReady")
    await make()
    source = await look()
    assert state(source, "Healthy") == ("False", "NotReady")
    assert "Network demo/a (Test)" in message(source, "Healthy")
    assert source.is_true("Ready")
    await make("Realized")
    await look()
    # A commit that changes something is not as well as the one before until somebody has looked.
    cloud.repository.write("a.yaml", network("a", 1300))
    commit = cloud.repository.commit()
    source = await cloud.settle()
    assert source.status.applied_commit == commit
    assert state(source, "Healthy") == ("Unknown", "Changed")
    assert state(await look(), "Healthy") == ("Unknown", "Progressing")
    await make("Realized")
    assert state(await look(), "Healthy") == ("True", "AllReady")
    # One that changes nothing is.
    cloud.repository.write("README.md", "nothing for us")
    cloud.repository.commit()
    assert state(await cloud.settle(), "Healthy") == ("True", "AllReady")
    await cloud.assert_settled(gitsource.build, gitsource_health.build)


async def test_an_object_that_another_source_has_is_missed_and_not_judged(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.follow("first")
    await cloud.follow("second")
    cloud.world.clock.skip(PACE_SECONDS)
    await cloud.world.settle(gitsource_health.build)
    second = await cloud.source("second")
    assert state(second, "Applied") == ("False", "ClaimedByOther")
    assert state(second, "Healthy") == ("Unknown", "Missing")
    assert message(second, "Healthy") == "1 of 1 object is not there; Applied says why if that lasts."


async def test_two_sources_that_claim_one_object_are_told_and_nothing_flaps(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.write("b.yaml", network("b"))
    cloud.repository.commit()
    first = await cloud.follow("first")
    other = cloud.server.repository("other")
    other.write("a.yaml", network("a", 1300))
    other.write("c.yaml", network("c"))
    other.commit()
    second = await cloud.follow("second", url=cloud.server.url("other"))
    assert state(second, "Applied") == ("False", "ClaimedByOther")
    assert "GitSource demo/first" in message(second, "Applied")
    assert await cloud.networks() == ["a", "b", "c"]
    version = (await cloud.world.admin.get(Network, "a", PROJECT)).metadata.resource_version
    assert (await cloud.settle("first")).is_true("Ready")
    await cloud.settle("second")
    found = await cloud.world.admin.get(Network, "a", PROJECT)
    assert (found.spec.mtu_bytes, found.metadata.resource_version) == (1400, version)
    assert found.metadata.labels[APPLY_SET_LABEL] == first.set_name
    # Once the first lets go of it, the second may have it.
    cloud.repository.remove("a.yaml")
    cloud.repository.commit()
    await cloud.settle("first")
    assert (await cloud.settle("second")).is_true("Ready")
    assert (await cloud.world.admin.get(Network, "a", PROJECT)).spec.mtu_bytes == 1300


async def test_others_cannot_put_their_objects_into_its_set(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    # The account may prune everywhere, and somebody elsewhere has seen the label.
    await bind(cloud.world, "everywhere", ACCOUNT, "deployer", role="member", home=PROJECT)
    source = await cloud.follow(deletionPolicy="Delete")
    await make_project(cloud.world, "other")
    for name in ("b", "c", "a"):
        planted = Network.new(name, NetworkSpec(), project="other")
        planted.metadata.labels[APPLY_SET_LABEL] = source.set_name
        await cloud.world.create_freely(planted)
    source = await cloud.settle()
    assert source.is_true("Ready"), message(source, "Applied")
    assert source.status.differing[0].object == "a"
    assert len(source.status.differing) == 1
    await cloud.world.delete(source)
    await cloud.settle_gone()
    left = (await cloud.world.admin.list(Network)).items
    assert [n.ref.project for n in left] == ["other"] * 3
    assert not any(n.deleting for n in left)


async def test_nobody_else_writes_by_the_name_of_a_source(cloud: Cloud, admin: ApiClient) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    source = await cloud.follow()
    wire = {"apiVersion": "vcstack.io/v1", "kind": "Network", "metadata": {"name": "b", "project": PROJECT}, "spec": {}}
    with pytest.raises(ApiError, match="Git sources"):
        await admin.apply_wire(get_kind("Network"), wire, manager=source.manager)
    other = await cloud.follow("other", path="nowhere")
    account = await cloud.world.admin.get(ServiceAccount, "deployer", PROJECT)
    async with cloud.world.backends[SOURCE_ACCESS.name].connect(other, account) as client:
        with pytest.raises(ApiError, match="Git sources"):
            await client.apply_wire(get_kind("Network"), wire, manager=source.manager)
    # What a program calls itself is its manager where it names none.
    async with cloud.api.raw() as client:
        path = f"/api/v1/projects/{PROJECT}/networks"
        answer = await client.post(path, json=wire, headers={"user-agent": f"{source.manager}/1"})
        assert answer.status_code == 201, answer.text
    made = await cloud.world.admin.get(Network, "b", PROJECT)
    assert source.manager not in [entry.manager for entry in made.metadata.managed_fields]


async def test_a_source_that_is_gone_leaves_its_objects_for_another_one(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    first = await cloud.follow("first")
    await cloud.world.delete(first)
    await cloud.world.settle(gitsource.build)
    assert await cloud.world.find(GitSource, "first") is None
    assert await cloud.networks() == ["a"]
    assert (await cloud.follow("second")).is_true("Ready")


async def test_a_source_that_is_to_takes_its_objects_with_it_when_they_are_really_gone(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.repository.write(f"{name}.yaml", network(name))
    cloud.repository.commit()
    source = await cloud.follow(deletionPolicy="Delete", prune="Disabled")
    await cloud.patch("Network", "c", {"metadata": {"labels": {PRUNE_LABEL: "Disabled"}}})
    await cloud.world.create_freely(Network.new("mine", NetworkSpec(), project=PROJECT))
    await cloud.world.delete(source)
    # Whoever holds a network: until its finalizer is gone, it is there, and so is the source.
    await cloud.world.settle(gitsource.build)
    source = await cloud.source()
    assert state(source, "Deletable") == ("False", "NotEmpty")
    assert "Network demo/a, Network demo/b" in message(source, "Deletable")
    await cloud.settle_gone()
    assert await cloud.networks() == ["c", "mine"]


async def test_a_source_whose_account_may_no_more_waits_until_its_objects_are_left(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    source = await cloud.follow(deletionPolicy="Delete")
    binding = await cloud.world.admin.get(RoleBinding, "deployer", PROJECT)
    await cloud.world.admin.delete(binding.ref)
    await cloud.world.remove_finalizers(binding)
    await bind(cloud.world, "reader", ACCOUNT, "deployer", role="reader", project=PROJECT)
    await cloud.world.delete(source)
    await cloud.world.settle(gitsource.build)
    source = await cloud.source()
    assert state(source, "Deletable") == ("False", "Forbidden")
    assert "deletionPolicy: Orphan" in message(source, "Deletable")
    await cloud.patch("GitSource", "shop", {"spec": {"deletionPolicy": "Orphan"}})
    await cloud.settle_gone()
    assert await cloud.networks() == ["a"]


async def test_a_source_whose_account_sees_nothing_any_more_does_not_take_that_for_gone(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    source = await cloud.follow(deletionPolicy="Delete")
    binding = await cloud.world.admin.get(RoleBinding, "deployer", PROJECT)
    await cloud.world.admin.delete(binding.ref)
    await cloud.world.remove_finalizers(binding)
    await cloud.world.delete(source)
    await cloud.world.settle(gitsource.build)
    source = await cloud.source()
    assert state(source, "Deletable") == ("False", "Forbidden")
    assert "ServiceAccount deployer may not see Network demo/a. With" in message(source, "Deletable")
    await bind(cloud.world, "again", ACCOUNT, "deployer", role="member", project=PROJECT)
    await cloud.settle_gone()
    assert await cloud.networks() == []


@pytest.mark.parametrize("ended", ["suspended", "project"])
async def test_a_source_that_is_suspended_or_goes_with_its_project_deletes_nothing(cloud: Cloud, ended: str) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    source = await cloud.follow(deletionPolicy="Delete")
    if ended == "suspended":
        await cloud.patch("GitSource", "shop", {"spec": {"suspend": True}})
    else:
        await cloud.world.delete(await cloud.world.admin.get(Project, PROJECT))
    await cloud.world.delete(source)
    await cloud.settle_gone()
    (found,) = (await cloud.world.admin.list(Network, project=PROJECT)).items
    assert not found.deleting


async def test_what_a_source_needs_itself_does_not_keep_it_from_going(cloud: Cloud) -> None:
    account = "kind: ServiceAccount\nmetadata: {name: deployer}\nspec: {}\n"
    cloud.repository.write("a.yaml", network("a") + "---\n" + account)
    cloud.repository.commit()
    await bind(cloud.world, "self", ACCOUNT, "deployer", role="project-admin", project=PROJECT)
    source = await cloud.follow(deletionPolicy="Delete")
    assert source.is_true("Ready"), source.status
    await cloud.world.delete(source)
    await cloud.settle_gone()
    assert await cloud.networks() == []
    assert not (await cloud.world.admin.get(ServiceAccount, "deployer", PROJECT)).deleting


async def test_pruning_more_than_the_threshold_waits_for_approval_of_that_commit(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.repository.write(f"{name}.yaml", network(name))
    cloud.repository.commit()
    await cloud.follow()
    cloud.repository.remove("a.yaml")
    cloud.repository.remove("b.yaml")
    commit = cloud.repository.commit()
    source = await cloud.settle()
    assert state(source, "Applied") == ("False", "PruneProtected")
    assert commit in message(source, "Applied")
    assert {d.object for d in source.status.differing if d.result == "Held"} == {"a", "b"}
    assert await cloud.networks() == ["a", "b", "c"]
    await cloud.annotate(APPROVED, "0" * 40)
    await cloud.settle()
    assert await cloud.networks() == ["a", "b", "c"]
    await cloud.annotate(APPROVED, commit)
    assert (await cloud.settle(after=6)).is_true("Ready")
    assert await cloud.networks() == ["c"]


async def test_what_waited_for_approval_is_pruned_when_it_is_approved_while_the_server_is_away(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.repository.write(f"{name}.yaml", network(name))
    cloud.repository.commit()
    await cloud.follow()
    for name in ("b", "c"):
        cloud.repository.remove(f"{name}.yaml")
    commit = cloud.repository.commit()
    assert state(await cloud.settle(), "Applied") == ("False", "PruneProtected")
    cloud.server.away = True
    source = await cloud.settle()
    assert state(source, "Applied") == ("False", "PruneProtected")
    assert state(source, "Fetched") == ("Unknown", "Unreachable")
    assert state(source, "Stalled") == ("True", "PruneProtected")
    before = cloud.server.requests
    await cloud.annotate(APPROVED, commit)
    source = await cloud.settle(after=6)
    assert state(source, "Applied") == ("True", "Applied")
    assert await cloud.networks() == ["a"]
    assert cloud.server.requests == before


async def test_a_share_a_little_over_the_threshold_is_over_it(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.repository.write(f"{name}.yaml", network(name))
    cloud.repository.commit()
    await cloud.follow(pruneThresholdPercent=33)
    cloud.repository.remove("a.yaml")
    cloud.repository.commit()
    assert state(await cloud.settle(), "Applied") == ("False", "PruneProtected")
    await cloud.patch("GitSource", "shop", {"spec": {"pruneThresholdPercent": 34}})
    assert (await cloud.settle()).is_true("Ready")
    assert await cloud.networks() == ["b", "c"]


async def test_a_deleted_folder_and_an_empty_one_prune_nothing(cloud: Cloud) -> None:
    cloud.repository.write("cloud/a.yaml", network("a"))
    cloud.repository.write("README.md", "")
    cloud.repository.commit()
    await cloud.follow(path="cloud")
    cloud.repository.remove("cloud")
    cloud.repository.commit()
    source = await cloud.settle()
    assert state(source, "Applied") == ("False", "PathNotFound")
    cloud.repository.write("cloud/note.txt", "empty now")
    cloud.repository.commit()
    assert state(await cloud.settle(), "Applied") == ("False", "NoManifests")
    assert await cloud.networks() == ["a"]


async def test_what_is_labelled_or_where_pruning_is_disabled_stays(cloud: Cloud) -> None:
    for name in ("a", "b", "c", "d"):
        cloud.repository.write(f"{name}.yaml", network(name))
    cloud.repository.commit()
    await cloud.follow()
    await cloud.patch("Network", "d", {"metadata": {"labels": {PRUNE_LABEL: "Disabled"}}})
    cloud.repository.remove("c.yaml")
    cloud.repository.remove("d.yaml")
    cloud.repository.commit()
    for after in (1000, 6):
        source = await cloud.settle(after=after)
        assert await cloud.networks() == ["a", "b", "d"]
        assert {d.object: d.result for d in source.status.differing} == {"c": "Pruned", "d": "Kept"}
    await cloud.patch("GitSource", "shop", {"spec": {"prune": "Disabled"}})
    cloud.repository.remove("b.yaml")
    cloud.repository.commit()
    source = await cloud.settle()
    assert source.is_true("Ready")
    assert await cloud.networks() == ["a", "b", "d"]


async def test_rewritten_history_prunes_only_when_that_is_approved(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    base = cloud.repository.commit()
    for name in ("b", "c", "d"):
        cloud.repository.write(f"{name}.yaml", network(name))
    before = cloud.repository.commit()
    await cloud.follow(pruneThresholdPercent=99)
    git(cloud.repository.work, "reset", "-q", "--hard", base)
    cloud.repository.write("b.yaml", network("b", 1300))
    cloud.repository.write("c.yaml", network("c"))
    commit = cloud.repository.commit("Another history")
    source = await cloud.settle()
    assert state(source, "Applied") == ("False", "HistoryRewritten")
    assert before[:10] in message(source, "Applied")
    assert (await cloud.world.admin.get(Network, "b", PROJECT)).spec.mtu_bytes == 1300, "the rest is applied"
    assert await cloud.networks() == ["a", "b", "c", "d"]
    await cloud.annotate(APPROVED, commit)
    assert (await cloud.settle()).is_true("Ready")
    assert await cloud.networks() == ["a", "b", "c"]


BOMB = "a: &a [x,x]\nb: &b [*a,*a]\n" + "\n".join(
    f"{chr(c + 1)}: &{chr(c + 1)} [{', '.join([f'*{chr(c)}'] * 9)}]" for c in range(98, 110)
)


async def test_a_manifest_that_is_broken_is_named_and_nothing_is_lost(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    good = cloud.repository.commit()
    await cloud.follow()
    for text, reason, word in (
        ("kind: [", "BadManifest", "b.yaml:"),
        ("just text", "BadManifest", "must be an object"),
        ("kind: Netwerk\nmetadata: {name: x}\n", "BadManifest", "there is no kind 'Netwerk'"),
        (network("a"), "BadManifest", "occurs twice"),
        (BOMB, "BadManifest", "values"),
        ("kind: Network\nmetadata: {name: Bad_Name}\nspec: {}\n", "BadManifest", "Bad_Name"),
        ("kind: Network\nmetadata: {name: a/status}\nspec: {}\n", "BadManifest", "a/status"),
        ("kind: Network\nmetadata: {name: x, project: ../etc}\nspec: {}\n", "BadManifest", "../etc"),
        ("kind: Network\nmetadata: {name: x}\nspec: {mtu: 1}\n", "ApplyFailed", "mtu"),
    ):
        cloud.repository.write("b.yaml", text)
        bad = cloud.repository.commit()
        source = await cloud.settle()
        assert state(source, "Applied") == ("False", reason)
        assert word in message(source, "Applied")
        assert state(source, "Stalled")[0] == "True"
        assert (source.status.commit, source.status.applied_commit) == (bad, good)
        assert await cloud.networks() == ["a"]
    cloud.repository.remove("b.yaml")
    cloud.repository.commit()
    assert (await cloud.settle()).is_true("Ready")


async def test_links_are_not_followed_and_submodules_not_fetched(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    git(cloud.repository.work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub.yaml")
    git(cloud.repository.work, "add", "a.yaml")
    git(cloud.repository.work, "commit", "-q", "-m", "With a submodule")
    cloud.repository.push()
    assert (await cloud.follow()).is_true("Ready")
    (cloud.repository.work / "link.yaml").symlink_to("/etc/passwd")
    git(cloud.repository.work, "add", "link.yaml")
    git(cloud.repository.work, "commit", "-q", "-m", "With a link")
    cloud.repository.push()
    source = await cloud.settle()
    assert state(source, "Applied") == ("False", "BadManifest")
    assert "link.yaml is a symbolic link" in message(source, "Applied")


async def test_a_server_that_is_away_or_refuses_changes_nothing(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.follow()
    cloud.server.password = "s3cret-and-long"
    source = await cloud.settle()
    assert state(source, "Fetched") == ("False", "AuthenticationFailed")
    assert state(source, "Stalled")[0] == "True"
    secret = SecretSpec(type=SecretType.BASIC_AUTH, data={"username": "git", "password": "s3cret-and-long"})
    await cloud.world.admin.create(Secret.new("git", secret, project=PROJECT))
    await cloud.patch("GitSource", "shop", {"spec": {"credentials": "git"}})
    assert (await cloud.settle()).is_true("Ready")
    cloud.server.redirect = "http://127.0.0.1:1"
    source = await cloud.settle()
    assert state(source, "Fetched") == ("False", "Redirected")
    assert not source.is_true("Ready")
    assert await cloud.networks() == ["a"]


async def test_where_the_guard_does_not_let_is_not_asked(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    urls = ("http://127.0.0.1:1/shop.git", "http://169.254.169.254/latest", "http://localhost.localdomain:80/x")
    for number, url in enumerate(urls):
        source = await cloud.follow(f"shop-{number}", url=url)
        assert state(source, "Fetched")[1] == "Unreachable"
    assert cloud.server.requests == 0


async def test_a_server_may_be_named_by_an_ipv6_address(cloud: Cloud, tmp_path: Path) -> None:
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "::1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        allowed = AllowedTarget(network=ip_network("::1/128"), ports=frozenset({port}), plain_http=True)
        outbound = OutboundClient(OutboundSettings(addresses=AddressPolicy(allowed=[allowed])))
        cloud.world.backends[GIT.name] = repositories = GitRepositories(tmp_path / "six", outbound)
        cloud.world.restart()
        source = await cloud.follow(url=f"http://[::1]:{port}/shop.git")
    assert state(source, "Fetched") == ("False", "RepositoryNotFound")
    assert asked[0].startswith(b"GET /shop.git/info/refs")
    repositories.close()
    outbound.close()


async def test_a_branch_a_tag_and_a_commit_can_be_asked_for(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    old = cloud.repository.commit()
    git(cloud.repository.work, "tag", "-a", "v1", "-m", "The first")
    git(cloud.repository.work, "push", "-q", "origin", "v1")
    cloud.repository.write("b.yaml", network("b"))
    cloud.repository.commit()
    source = await cloud.follow(ref={"tag": "v1"})
    assert (source.status.commit, source.status.revision) == (old, f"v1@{old[:10]}")
    assert await cloud.networks() == ["a"]
    source = await cloud.follow("pinned", ref={"commit": "0" * 40})
    assert state(source, "Fetched") == ("False", "RefNotFound")
    source = await cloud.follow("gone", ref={"branch": "nowhere"})
    assert state(source, "Fetched") == ("False", "RefNotFound")
    assert "refs/heads/nowhere" in message(source, "Fetched")
    await cloud.patch("GitSource", "shop", {"spec": {"ref": {"tag": None, "commit": old}}})
    assert (await cloud.settle()).status.revision == old[:10]


async def test_it_looks_when_it_is_asked_and_not_while_it_is_suspended(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.follow()
    cloud.repository.write("b.yaml", network("b"))
    cloud.repository.commit()
    await cloud.settle(after=1)
    assert await cloud.networks() == ["a"]
    await cloud.annotate(REQUESTED, "now")
    source = await cloud.settle(after=1)
    assert await cloud.networks() == ["a", "b"]
    assert source.status.handled_request == "now"
    await cloud.patch("GitSource", "shop", {"spec": {"suspend": True}})
    cloud.repository.write("c.yaml", network("c"))
    cloud.repository.commit()
    source = await cloud.settle()
    assert state(source, "Reconciling") == ("False", "Suspended")
    assert source.is_true("Ready")
    assert await cloud.networks() == ["a", "b"]


async def test_a_look_that_is_asked_for_some_seconds_ahead_is_taken_then(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.follow()
    cloud.repository.write("b.yaml", network("b"))
    cloud.repository.commit()
    due = format_time(cloud.world.clock.now() + timedelta(seconds=7))
    await cloud.annotate(REQUESTED, due)
    source = await cloud.settle(after=6)
    assert await cloud.networks() == ["a"]
    assert source.status.handled_request is None
    source = await cloud.settle(after=2)
    assert await cloud.networks() == ["a", "b"]
    assert source.status.handled_request == due
    # Whose clock is wrong by an hour does not wait for it.
    cloud.repository.write("c.yaml", network("c"))
    cloud.repository.commit()
    await cloud.annotate(REQUESTED, format_time(cloud.world.clock.now() + timedelta(hours=1)))
    await cloud.settle(after=1)
    assert await cloud.networks() == ["a", "b", "c"]


async def test_overlays_change_the_base_field_by_field(cloud: Cloud) -> None:
    rules = "kind: SecurityGroup\nmetadata: {name: web}\nspec:\n  rules:\n"
    rule = "  - {{name: {0}, direction: Ingress, protocol: TCP, portMin: {1}, portMax: {1}}}\n"
    cloud.repository.write("base/a.yaml", network("a"))
    cloud.repository.write("base/g.yaml", rules + rule.format("http", 80) + rule.format("ssh", 22))
    cloud.repository.write("prod/a.yaml", "kind: Network\nmetadata: {name: a, labels: {env: prod}}\nspec: {}\n")
    cloud.repository.write("prod/g.yaml", rules + rule.format("http", 8080))
    cloud.repository.write("prod/b.yaml", network("b"))
    cloud.repository.commit()
    assert (await cloud.follow(path="base", overlays=["prod"])).is_true("Ready")
    found = await cloud.world.admin.get(Network, "a", PROJECT)
    assert (found.spec.mtu_bytes, found.metadata.labels["env"]) == (1400, "prod")
    group = await cloud.world.admin.get(SecurityGroup, "web", PROJECT)
    assert {r.name: r.port_min for r in group.spec.rules} == {"http": 8080, "ssh": 22}
    assert await cloud.networks() == ["a", "b"]


async def test_a_repository_that_is_too_large_is_told(cloud: Cloud, tmp_path: Path) -> None:
    cloud.repository.write("a.yaml", network("a"))
    (cloud.repository.work / "blob.bin").write_bytes(os.urandom(3 * 1024 * 1024))
    cloud.repository.commit()
    outbound = loopback(cloud.server.port)
    small = GitRepositories(tmp_path / "small", outbound, GitLimits(pack_bytes=1024 * 1024))
    cloud.world.backends[GIT.name] = small
    cloud.world.restart()
    source = await cloud.follow()
    assert state(source, "Fetched") == ("False", "TooLarge")
    small.close()
    outbound.close()


async def test_a_repository_whose_history_is_replaced_again_and_again_does_not_fill_the_disk(
    cloud: Cloud, tmp_path: Path
) -> None:
    outbound = loopback(cloud.server.port)
    limits = GitLimits(pack_bytes=2 * 1024 * 1024)
    cloud.world.backends[GIT.name] = small = GitRepositories(tmp_path / "small", outbound, limits)
    cloud.world.restart()
    cloud.repository.write("a.yaml", network("a"))
    base = cloud.repository.commit()
    source = await cloud.follow()
    for _ in range(6):
        git(cloud.repository.work, "reset", "-q", "--hard", base)
        (cloud.repository.work / "blob.bin").write_bytes(os.urandom(1024 * 1024))
        commit = cloud.repository.commit()
        source = await cloud.settle()
        assert source.status.applied_commit == commit, message(source, "Fetched")
        kept = sum(file.stat().st_size for file in small.path(source.uid).parent.rglob("*") if file.is_file())
        assert kept < 2 * limits.pack_bytes
        # Whether or not it is to be begun anew.
        cloud.server.away = True
        await mtu(cloud, 1280)
        await cloud.settle()
        assert await mtu(cloud) == 1400
        cloud.server.away = False
    small.close()
    outbound.close()


async def test_a_server_that_never_ends_talking_is_not_listened_to_and_nothing_of_it_is_kept(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    cloud.server.babbles = True
    source = await cloud.follow()
    assert state(source, "Fetched") == ("False", "TooLarge")
    assert not cloud.world.backends[GIT.name].path(source.uid).exists()
    cloud.server.babbles = False
    assert (await cloud.settle()).is_true("Ready")


async def test_manifests_that_a_busy_machine_cannot_read_in_time_are_read_again(cloud: Cloud, tmp_path: Path) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    outbound = loopback(cloud.server.port)
    hasty = GitRepositories(tmp_path / "hasty", outbound, GitLimits(read_seconds=0.001))
    patient, cloud.world.backends[GIT.name] = cloud.world.backends[GIT.name], hasty
    cloud.world.restart()
    source = await cloud.follow()
    assert state(source, "Applied") == ("Unknown", "TimedOut")
    assert state(source, "Stalled")[0] == "False"
    cloud.world.backends[GIT.name] = patient
    cloud.world.restart()
    assert (await cloud.settle()).is_true("Ready")
    hasty.close()
    outbound.close()


async def test_a_server_that_stalls_holds_for_so_long_and_no_longer(cloud: Cloud, tmp_path: Path) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    outbound = loopback(cloud.server.port)
    hasty = GitRepositories(tmp_path / "hasty", outbound, GitLimits(seconds=1.0))
    cloud.world.backends[GIT.name] = hasty
    cloud.world.restart()
    cloud.server.released.clear()
    source = await cloud.follow()
    assert state(source, "Fetched") == ("Unknown", "TimedOut")
    assert state(source, "Reconciling")[0] == "True"
    cloud.server.released.set()
    hasty.close()
    outbound.close()


async def test_a_domain_with_many_slow_sources_leaves_workers_to_others(cloud: Cloud) -> None:
    await make_domain(cloud.world, "acme")
    await make_domain(cloud.world, "acme-shops", "acme")
    spec = GitSourceSpec.from_wire({"url": cloud.server.url(), "serviceAccount": "deployer"})
    projects = [f"acme-{n}" for n in range(gitsource.WORKERS)]
    for n, project in enumerate(projects):
        await make_project(cloud.world, project, domain="acme-shops" if n % 2 else "acme")
        await make_account(cloud.world, "deployer", project)
    sources = [
        await cloud.world.admin.create(GitSource.new("shop", spec, project=project)) for project in (*projects, PROJECT)
    ]
    reconciler = cloud.world.controller(gitsource.build).reconciler
    await cloud.world.informers.relist()
    cloud.server.released.clear()
    # As the controller's workers do, all at once.
    working = [asyncio.create_task(reconciler.reconcile(source, source.ref)) for source in sources]
    try:
        await eventually(lambda: cloud.server.requests == len([t for t in working if not t.done()]), seconds=60)
        assert [t.done() for t in working[:-1]].count(False) == gitsource.WORKERS // 2
        assert not working[-1].done(), "it is fetched, whatever the others do"
    finally:
        for task in working:
            task.cancel()
        await asyncio.wait(working)
        cloud.server.released.set()


async def test_a_disabled_account_applies_nothing(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.patch("ServiceAccount", "deployer", {"spec": {"enabled": False}})
    source = await cloud.follow()
    assert state(source, "Applied") == ("False", "AccountDisabled")
    assert await cloud.networks() == []
    assert (await cloud.world.admin.list(ServiceAccount)).items


async def test_an_account_that_is_enabled_again_wakes_its_sources(cloud: Cloud) -> None:
    async def wait_for(reason: str) -> None:
        async with asyncio.timeout(60):
            while True:
                found = (await cloud.source()).find_condition("Applied")
                if found is not None and found.reason == reason:
                    return
                await asyncio.sleep(0.02)

    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.patch("ServiceAccount", "deployer", {"spec": {"enabled": False}})
    spec = GitSourceSpec.from_wire({"url": cloud.server.url(), "serviceAccount": "deployer"})
    await cloud.world.admin.create(GitSource.new("shop", spec, project=PROJECT))
    builds, backends = {"gitsource": gitsource.build}, cloud.world.backends
    manager = Manager(builds, cloud.world.client, clock=SystemClock(), actor="tests", backends=backends)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await wait_for("AccountDisabled")
        await cloud.patch("ServiceAccount", "deployer", {"spec": {"enabled": True}})
        await wait_for("Applied")
    finally:
        stop.set()
        await running


async def test_manifests_that_need_each_other_come_in_their_order(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", "kind: Subnet\nmetadata: {name: s}\nspec: {network: a, cidr: 10.9.0.0/24}\n")
    cloud.repository.write("b.yaml", network("a"))
    cloud.repository.commit()
    assert (await cloud.follow()).is_true("Ready")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"url": "ssh://git@git.example.com/x"}, "spec.knownHosts"),
        ({"url": "https://user:pw@git.example.com/x"}, "spec.url"),
        ({"ref": {"branch": "a", "tag": "b"}}, "spec.ref"),
        ({"ref": {"branch": "a..b"}}, "spec.ref.branch"),
        ({"verify": {}}, "spec.verify"),
        ({"caSecret": {"name": "a", "key": "b"}, "caCertificates": "x"}, "spec.caSecret"),
        ({"url": "ssh://git@git.example.com/x", "caCertificates": "x"}, "spec.caCertificates"),
        ({"serviceAccount": "nobody"}, "spec.serviceAccount"),
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, spec: dict[str, Any], field: str) -> None:
    await make_project(world)
    await make_account(world, "deployer")
    wanted = {"url": "https://git.example.com/x.git", "serviceAccount": "deployer", **spec}
    with pytest.raises(Invalid) as refused:
        await world.create_freely(GitSource.new("s", GitSourceSpec.from_wire(wanted), project=PROJECT))
    assert field in [c.field for c in refused.value.causes]


@pytest.mark.parametrize(
    "spec",
    [
        {"url": "file:///etc"},
        {"url": "ext::sh -c x"},
        {"path": "../up"},
        {"path": "/etc"},
        {"path": ".git"},
        {"ref": {"branch": "-x"}},
        {"ref": {"commit": "HEAD"}},
    ],
)
def test_what_is_no_address_path_or_name_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="String should match"):
        GitSourceSpec.from_wire({"url": "https://git.example.com/x.git", "serviceAccount": "d", **spec})


async def test_an_account_is_kept_while_a_source_acts_as_it(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    source = await cloud.follow()
    account = await cloud.world.admin.get(ServiceAccount, "deployer", PROJECT)
    await cloud.world.delete(account)
    await cloud.world.settle(serviceaccount.build)
    assert await cloud.world.find(ServiceAccount, "deployer") is not None
    assert state(await cloud.settle(), "Applied") == ("False", "AccountMissing")
    await cloud.world.delete(source)
    await cloud.world.settle(gitsource.build, serviceaccount.build)
    assert await cloud.world.find(ServiceAccount, "deployer") is None


class EndedAt:
    """The access to the API, for a process that ends just before its k-th write there."""

    def __init__(self, inner: ManagedSourceAccess, after: int) -> None:
        self._inner = inner
        self.left = after
        self.process: asyncio.Task[None] | None = None
        self.read_secret = inner.read_secret

    @contextlib.asynccontextmanager
    async def connect(self, source: GitSource, account: ServiceAccount) -> AsyncIterator[WireClient]:
        async with self._inner.connect(source, account) as client:
            yield _Ending(client.connection, self)

    async def count(self) -> None:
        self.left -= 1
        if self.left < 0 and self.process is not None:
            self.process.cancel()
            await asyncio.sleep(3600)


class _Ending(WireClient):
    """One request after the other, so that none is under way when the process ends: half-open sockets are told of."""

    def __init__(self, connection: Any, ending: EndedAt) -> None:
        super().__init__(connection)
        self._ending = ending
        self._lock = asyncio.Lock()

    async def get_wire(self, *args: Any, **options: Any) -> Any:
        async with self._lock:
            return await super().get_wire(*args, **options)

    async def apply_wire(self, *args: Any, **options: Any) -> Any:
        async with self._lock:
            await self._ending.count()
            return await super().apply_wire(*args, **options)

    async def delete_wire(self, *args: Any, **options: Any) -> Any:
        async with self._lock:
            await self._ending.count()
            return await super().delete_wire(*args, **options)


async def test_ended_before_any_write_it_goes_on_where_it_was(cloud: Cloud) -> None:
    inner = cloud.world.backends[SOURCE_ACCESS.name]
    for name in ("a", "b", "c", "x0"):
        cloud.repository.write(f"{name}.yaml", network(name))
    cloud.repository.commit()
    await cloud.follow()
    # Two changes, one new object, one deletion; the fifth never comes.
    for after, ended in ((0, True), (1, True), (2, True), (3, True), (4, False)):
        for name in ("a", "b"):
            cloud.repository.write(f"{name}.yaml", network(name, 1300 + after))
        new = f"x{after + 1}"
        cloud.repository.remove(f"x{after}.yaml")
        cloud.repository.write(f"{new}.yaml", network(new))
        commit = cloud.repository.commit()
        ending = EndedAt(inner, after)
        cloud.world.backends[SOURCE_ACCESS.name] = ending
        cloud.world.restart()
        cloud.world.clock.skip(1000)
        ending.process = asyncio.create_task(cloud.world.settle(gitsource.build))
        await asyncio.wait([ending.process])
        assert ending.process.cancelled() == ended
        cloud.world.backends[SOURCE_ACCESS.name] = inner
        cloud.world.restart()
        source = await cloud.settle()
        assert source.is_true("Ready"), source.status
        assert source.status.applied_commit == commit
        assert await cloud.networks() == ["a", "b", "c", new]
        assert (await cloud.world.admin.get(Network, "b", PROJECT)).spec.mtu_bytes == 1300 + after


async def test_killed_while_it_fetches_it_leaves_no_process_and_begins_anew(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    cloud.server.released.clear()
    waiting = asyncio.create_task(cloud.follow())
    while not cloud.server.requests:
        assert not waiting.done()
        await asyncio.sleep(0.02)
    folder = str(cloud.world.backends[GIT.name].path("x").parent)
    assert processes_of(folder)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    # They were all killed at once, but only git itself was waited for, not what it had started.
    await eventually(lambda: not processes_of(folder), seconds=60)
    cloud.server.released.set()
    cloud.world.restart()
    assert (await cloud.settle()).is_true("Ready")


def processes_of(folder: str) -> list[str]:
    """Return the command lines of processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if folder in (line := path.read_bytes().replace(b"\0", b" ").decode(errors="replace")):
                found.append(line)
    return found


def start_agent(home: Path) -> None:
    """Make a home for gpg with its agent, which gpg itself would give five seconds to come up."""
    home.mkdir(mode=0o700)
    subprocess.run(["gpg-agent", "--homedir", str(home), "--quiet", "--daemon"], check=True, capture_output=True)


async def assert_held(cloud: Cloud, bad: str, reason: str, held: str) -> GitSource:
    """Somebody changes network a, which is set back; the condition tells which commit is refused and which is held."""
    before = await mtu(cloud)
    await mtu(cloud, 1280)
    source = await cloud.settle(after=6)
    assert await mtu(cloud) == before
    assert state(source, "Applied") == ("False", reason)
    assert bad[:10] in message(source, "Applied")
    assert f"meanwhile main@{held[:10]}, applied before, is held in place" in message(source, "Applied")
    assert not source.is_true("Ready")
    return source


async def assert_not_held(cloud: Cloud, why: str) -> None:
    before = await mtu(cloud)
    await mtu(cloud, 1280)
    source = await cloud.settle(after=6)
    assert await mtu(cloud) == 1280
    assert state(source, "Applied")[0] == "False"
    assert "nothing is set back meanwhile" in message(source, "Applied")
    assert why in message(source, "Applied")
    await mtu(cloud, before)


def take_over(cloud: Cloud, folder: Path) -> None:
    """Be another manager, which has fetched nothing."""
    mine = cloud.world.backends[GIT.name]
    cloud.world.backends[GIT.name] = GitRepositories(folder, mine._outbound)
    mine.close()
    cloud.world.restart()


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("cloud/c.yaml", "kind: [", "BadManifest"),
        ("cloud/c.yaml", "\n---\n".join(network(f"n{n}") for n in range(9)), "QuotaExceeded"),
        ("cloud", None, "PathNotFound"),
    ],
)
async def test_while_a_commit_is_refused_as_a_whole_the_one_before_is_held_in_place(
    cloud: Cloud, tmp_path: Path, path: str, text: str | None, reason: str
) -> None:
    await cloud.world.admin.create(Quota.new("few", QuotaSpec(limits={"networks": 5}), project=PROJECT))
    cloud.repository.write("cloud/a.yaml", network("a"))
    cloud.repository.write("cloud/b.yaml", network("b"))
    cloud.repository.write("README.md", "")
    good = cloud.repository.commit()
    await cloud.follow(path="cloud")
    if text is None:
        cloud.repository.remove(path)
    else:
        cloud.repository.write("cloud/a.yaml", network("a", 1300))
        cloud.repository.remove("cloud/b.yaml")
        cloud.repository.write(path, text)
    bad = cloud.repository.commit()
    source = await cloud.settle()
    assert (state(source, "Applied"), source.status.differing[0].result) == (("False", reason), "Created")
    await cloud.world.delete(await cloud.world.admin.get(Network, "b", PROJECT))
    await cloud.settle(after=6)
    source = await assert_held(cloud, bad, reason, good)
    assert await mtu(cloud) == 1400
    assert await cloud.networks() == ["a", "b"], "nothing of the other one is made or pruned"
    assert (source.status.commit, source.status.applied_commit, source.status.objects) == (bad, good, 2)
    assert [(d.object, d.result) for d in source.status.differing] == [("a", "Configured"), ("b", "Created")]
    assert state(source, "Stalled") == ("True", reason)
    assert "Drifted" in await cloud.world.event_reasons()
    await cloud.settle()
    await cloud.assert_settled(gitsource.build)
    # Also of one that has fetched both anew, and while the server is away.
    take_over(cloud, tmp_path / "other")
    await cloud.settle()
    cloud.server.away = True
    await cloud.settle()
    source = await assert_held(cloud, bad, reason, good)
    assert state(source, "Fetched") == ("Unknown", "Unreachable")
    cloud.server.away = False
    # What is good again is applied as ever, and prunes.
    git(cloud.repository.work, "rm", "-q", "--ignore-unmatch", "cloud/c.yaml")
    cloud.repository.write("cloud/a.yaml", network("a", 1310))
    new = cloud.repository.commit()
    source = await cloud.settle()
    assert (source.is_true("Ready"), source.status.applied_commit) == (True, new)
    assert (await cloud.networks(), await mtu(cloud)) == (["a"], 1310)


async def test_how_the_objects_of_the_held_commit_are_is_told(cloud: Cloud) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    await cloud.follow()
    cloud.repository.write("b.yaml", "kind: [")
    cloud.repository.commit()
    await cloud.settle()
    await mtu(cloud, 1280)
    source = await cloud.settle(after=6)
    assert state(source, "Healthy") == ("Unknown", "Changed")
    cloud.world.clock.skip(PACE_SECONDS)
    await cloud.world.settle(gitsource_health.build)
    found = await cloud.world.admin.get(Network, "a", PROJECT)
    await cloud.world.set_status(found, "Realized")
    cloud.world.clock.skip(PACE_SECONDS)
    await cloud.world.settle(gitsource_health.build)
    assert state(await cloud.source(), "Healthy") == ("True", "AllReady")


async def test_a_commit_that_history_was_rewritten_without_is_held_while_it_is_here(
    cloud: Cloud, tmp_path: Path
) -> None:
    cloud.repository.write("README.md", "")
    base = cloud.repository.commit()
    cloud.repository.write("a.yaml", network("a"))
    good = cloud.repository.commit()
    await cloud.follow()
    git(cloud.repository.work, "reset", "-q", "--hard", base)
    cloud.repository.write("a.yaml", "kind: [")
    bad = cloud.repository.commit()
    await cloud.settle()
    await assert_held(cloud, bad, "BadManifest", good)
    take_over(cloud, tmp_path / "other")
    await cloud.settle()
    await assert_not_held(cloud, f"main@{good[:10]}, applied before, is not in what could be fetched")


async def test_a_commit_that_was_accepted_for_something_else_is_not_held(cloud: Cloud) -> None:
    cloud.repository.write("more/a.yaml", network("a"))
    good = cloud.repository.commit()
    await cloud.follow(path="more")
    cloud.repository.write("more/z.yaml", "kind: [")
    bad = cloud.repository.commit()
    git(cloud.repository.work, "push", "-q", "origin", "HEAD:stable")
    await cloud.settle()
    await assert_held(cloud, bad, "BadManifest", good)
    (cloud.server.folder / "served" / "moved.git").symlink_to(cloud.repository.bare)
    for change, back in (
        ({"path": ""}, {"path": "more"}),
        ({"overlays": ["more"]}, {"overlays": []}),
        ({"ref": {"branch": "stable"}}, {"ref": {"branch": None}}),
        ({"url": cloud.server.url("moved")}, {"url": cloud.server.url()}),
    ):
        await cloud.patch("GitSource", "shop", {"spec": change})
        await cloud.settle()
        await assert_not_held(cloud, f"{good[:10]}, applied before, was of another url, ref, path or overlays")
        await cloud.patch("GitSource", "shop", {"spec": back})
        await cloud.settle()
        await assert_held(cloud, bad, "BadManifest", good)
    # Nor is anything while the source is suspended, or the account may do nothing.
    await cloud.patch("ServiceAccount", "deployer", {"spec": {"enabled": False}})
    await mtu(cloud, 1280)
    source = await cloud.settle()
    assert (state(source, "Applied"), await mtu(cloud)) == (("False", "AccountDisabled"), 1280)
    await cloud.patch("GitSource", "shop", {"spec": {"suspend": True}})
    await cloud.patch("ServiceAccount", "deployer", {"spec": {"enabled": True}})
    await cloud.settle()
    assert await mtu(cloud) == 1280
    await cloud.patch("GitSource", "shop", {"spec": {"suspend": False}})
    await cloud.settle()
    assert await mtu(cloud) == 1400


async def test_what_is_held_is_the_commit_that_was_written_last_even_if_not_all_of_it_could_be(cloud: Cloud) -> None:
    for name in ("a", "b", "c"):
        cloud.repository.write(f"{name}.yaml", network(name))
    applied = cloud.repository.commit()
    await cloud.follow()
    cloud.repository.write("a.yaml", network("a", 1300))
    cloud.repository.write("x.yaml", "kind: Flavor\nmetadata: {name: huge}\nspec: {vcpus: 1, memoryMiB: 128}\n")
    for name in ("b", "c"):
        cloud.repository.remove(f"{name}.yaml")
    partly = cloud.repository.commit()
    assert (await cloud.settle()).status.failed == 1
    cloud.repository.write("a.yaml", "kind: [")
    bad = cloud.repository.commit()
    await cloud.settle()
    source = await assert_held(cloud, bad, "BadManifest", partly)
    assert await mtu(cloud) == 1300
    assert "but not all of it: flavor/huge" in message(source, "Applied")
    assert (await cloud.networks(), source.status.applied_commit) == (["a", "b", "c"], applied)


async def test_ended_in_the_midst_of_a_commit_the_one_before_does_not_come_back(cloud: Cloud) -> None:
    inner = cloud.world.backends[SOURCE_ACCESS.name]
    for name in ("a", "b", "c"):
        cloud.repository.write(f"{name}.yaml", network(name))
    cloud.repository.commit()
    await cloud.follow()
    for name in ("a", "b", "c"):
        cloud.repository.write(f"{name}.yaml", network(name, 1300))
    begun = cloud.repository.commit()
    ending = EndedAt(inner, 1)
    cloud.world.backends[SOURCE_ACCESS.name] = ending
    cloud.world.restart()
    cloud.world.clock.skip(1000)
    ending.process = asyncio.create_task(cloud.world.settle(gitsource.build))
    await asyncio.wait([ending.process])
    cloud.world.backends[SOURCE_ACCESS.name] = inner
    cloud.world.restart()
    cloud.repository.write("d.yaml", "kind: [")
    bad = cloud.repository.commit()
    await cloud.settle()
    await assert_held(cloud, bad, "BadManifest", begun)
    found = (await cloud.world.admin.list(Network, project=PROJECT)).items
    assert [n.spec.mtu_bytes for n in found] == [1300, 1300, 1300]


async def test_a_commit_is_held_only_while_its_own_signature_is_good(cloud: Cloud, tmp_path: Path) -> None:
    public = {}
    for name in ("ada", "eve"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name, "-C", name], check=True)
        public[name] = (tmp_path / name).with_suffix(".pub").read_text().strip()
    cloud.repository.write("a.yaml", network("a"))
    git(cloud.repository.work, "add", "-A")
    signing = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={tmp_path / 'ada'}")
    git(cloud.repository.work, *signing, "commit", "-q", "-S", "-m", "Signed")
    good = cloud.repository.push()
    assert (await cloud.follow(verify={"sshKeys": [public["ada"]]})).is_true("Ready")
    cloud.repository.write("a.yaml", network("a", 1300))
    bad = cloud.repository.commit()
    await cloud.settle()
    source = await assert_held(cloud, bad, "NotVerified", good)
    assert state(source, "Verified") == ("False", "NotSigned")
    assert bad[:10] in message(source, "Verified")
    await cloud.patch("GitSource", "shop", {"spec": {"verify": {"sshKeys": [public["eve"]]}}})
    await cloud.settle()
    await assert_not_held(cloud, f"the commit {good[:10]} is signed, but not well")
    # The very commit that was applied may be the one that is not verified any more.
    git(cloud.repository.work, "reset", "-q", "--hard", good)
    cloud.repository.push()
    await cloud.settle()
    await assert_not_held(cloud, "the objects are of this very commit")
    await cloud.patch("GitSource", "shop", {"spec": {"verify": {"sshKeys": [public["ada"]]}}})
    assert (await cloud.settle()).is_true("Ready")
    assert await mtu(cloud) == 1400


async def test_a_commit_that_cannot_be_decrypted_any_more_is_not_held(cloud: Cloud) -> None:
    me, other = Identity(), Identity()
    manifest = {"kind": "Secret", "metadata": {"name": "db"}, "spec": {"data": {"password": "correct horse"}}}
    cloud.repository.write("secret.yaml", encrypt([manifest], me.recipient))
    cloud.repository.write("a.yaml", network("a"))
    good = cloud.repository.commit()
    await cloud.world.admin.create(Secret.new("age", SecretSpec(data={"identity": me.secret}), project=PROJECT))
    assert (await cloud.follow(decryption={"name": "age", "key": "identity"})).is_true("Ready")
    cloud.repository.write("secret.yaml", encrypt([manifest], other.recipient))
    bad = cloud.repository.commit()
    await cloud.settle()
    await assert_held(cloud, bad, "DecryptionFailed", good)
    await cloud.patch("Secret", "age", {"spec": {"data": {"identity": Identity().secret}}})
    await cloud.settle()
    await assert_not_held(cloud, f"main@{good[:10]}, applied before, cannot be held")


async def test_only_commits_that_are_signed_by_a_given_key_are_applied(cloud: Cloud, tmp_path: Path) -> None:
    keys = {}
    for name in ("ada", "eve"):
        file = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file, "-C", name], check=True)
        keys[name] = file
    gnupg = tmp_path / "gnupg"
    start_agent(gnupg)
    gpg = ["gpg", "--homedir", str(gnupg), "--batch", "--quiet"]
    quick = [*gpg, "--passphrase", "", "--quick-generate-key", "Ada <ada@example.org>", "ed25519", "sign", "never"]
    subprocess.run(quick, check=True, capture_output=True)
    armored = subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True, text=True).stdout

    def sign(kind: str, key: str) -> list[str]:
        return ["-c", f"gpg.format={kind}", "-c", f"user.signingkey={key}"]

    def commit(text: str, *config: str) -> str:
        cloud.repository.write("a.yaml", text)
        git(cloud.repository.work, "add", "-A")
        words = (*config, "commit", "-q", "-m", "Change", *(["-S"] if config else []))
        git(cloud.repository.work, *words, GNUPGHOME=str(gnupg))
        return cloud.repository.push()

    verify = {"sshKeys": [keys["ada"].with_suffix(".pub").read_text().strip()], "openPgpKeys": [armored]}
    try:
        commit(network("a", 1301))
        source = await cloud.follow(verify=verify)
        assert state(source, "Verified") == ("False", "NotSigned")
        assert state(source, "Applied") == ("False", "NotVerified")
        commit(network("a", 1302), *sign("ssh", str(keys["eve"])))
        assert state(await cloud.settle(), "Verified") == ("False", "NotVerified")
        assert await cloud.networks() == []
        commit(network("a", 1303), *sign("ssh", str(keys["ada"])))
        source = await cloud.settle()
        assert state(source, "Verified") == ("True", "Signed")
        assert source.is_true("Ready")
        commit(network("a", 1304), *sign("openpgp", "ada@example.org"))
        assert (await cloud.settle()).is_true("Ready")
        # While the server is away it is looked at who signed what is here, too.
        cloud.server.away = True
        await cloud.patch("GitSource", "shop", {"spec": {"verify": {**verify, "openPgpKeys": []}}})
        await mtu(cloud, 1280)
        source = await cloud.settle()
        assert state(source, "Verified") == ("False", "NotVerified")
        assert state(source, "Applied") == ("False", "NotVerified")
        assert state(source, "Fetched") == ("Unknown", "Unreachable")
        assert await mtu(cloud) == 1280
        await cloud.patch("GitSource", "shop", {"spec": {"verify": verify}})
        assert state(await cloud.settle(), "Applied") == ("True", "Applied")
        assert await mtu(cloud) == 1304
        cloud.server.away = False
        # Another one's key of the same name and address is another key.
        subprocess.run([*quick[:-3], "rsa2048", "sign", "never"], check=False, capture_output=True)
        other = tmp_path / "other"
        start_agent(other)
        subprocess.run([*gpg[:1], "--homedir", str(other), *quick[3:]], check=True, capture_output=True)
        gnupg = other
        commit(network("a", 1305), *sign("openpgp", "ada@example.org"))
        assert state(await cloud.settle(), "Verified") == ("False", "NotVerified")
        assert (await cloud.world.admin.get(Network, "a", PROJECT)).spec.mtu_bytes == 1304
        # When nobody's signature is asked for any more, none is spoken of.
        await cloud.patch("GitSource", "shop", {"spec": {"verify": None}})
        source = await cloud.settle()
        assert source.is_true("Ready")
        assert state(source, "Verified") == ("Unknown", "NotAsked")
    finally:
        for home in (tmp_path / "gnupg", tmp_path / "other"):
            subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)


def sign_by_x509(repository: GitRepository, folder: Path, revocations: str) -> None:
    """Push a commit signed by an authority of one's own, whose revocations are said to be at that address."""
    folder.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes", "-batch")
    openssl("req", "-x509", *new, "-subj", "/CN=Eve's authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *new, "-subj", "/CN=Eve", "-keyout", "eve.key", "-out", "eve.csr")
    (folder / "extensions").write_text(f"keyUsage=digitalSignature\ncrlDistributionPoints=URI:{revocations}\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
    openssl("x509", "-req", "-in", "eve.csr", *signing, "-out", "eve.pem")
    raw = git(repository.work, "cat-file", "commit", "HEAD") + "\n"
    (folder / "commit").write_text(raw)
    signer = ("-signer", "eve.pem", "-inkey", "eve.key", "-certfile", "ca.pem")
    openssl("cms", "-sign", "-binary", "-in", "commit", *signer, "-outform", "DER", "-out", "signature")
    body = textwrap.wrap(base64.b64encode((folder / "signature").read_bytes()).decode(), 64)
    head, _, rest = raw.partition("\n\n")
    lines = "\n ".join(["-----BEGIN SIGNED MESSAGE-----", *body, "-----END SIGNED MESSAGE-----"])
    (folder / "signed").write_text(f"{head}\ngpgsig {lines}\n\n{rest}")
    signed = git(repository.work, "hash-object", "-t", "commit", "-w", str(folder / "signed"))
    git(repository.work, "reset", "-q", signed)
    repository.push()


async def test_who_signs_by_x509_has_no_server_asked(cloud: Cloud, tmp_path: Path) -> None:
    asked = []

    def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer.get_extra_info("peername"))
        writer.close()

    key = tmp_path / "ada"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    outbound = loopback(cloud.server.port)
    # The sockets of gpgsm's helpers would not fit into the path of the test's folder.
    with tempfile.TemporaryDirectory() as folder:
        cloud.world.backends[GIT.name] = repositories = GitRepositories(Path(folder) / "r", outbound)
        cloud.world.restart()
        async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            cloud.repository.write("a.yaml", network("a"))
            cloud.repository.commit()
            sign_by_x509(cloud.repository, tmp_path / "x509", f"http://127.0.0.1:{port}/revoked.crl")
            source = await cloud.follow(verify={"sshKeys": [key.with_suffix(".pub").read_text().strip()]})
        assert state(source, "Verified") == ("False", "NotVerified")
        assert asked == [], "past the guard"
        assert processes_of(folder) == []
        repositories.close()
    outbound.close()


async def test_a_signature_that_takes_too_long_is_looked_at_again(cloud: Cloud, tmp_path: Path) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    key = tmp_path / "ada"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    repositories = cloud.world.backends[GIT.name]
    fetch, patient = repositories.fetch, repositories.limits

    async def fetch_and_lose_patience(uid: str, remote: Remote) -> Commit:
        found: Commit = await fetch(uid, remote)
        repositories.limits = GitLimits(seconds=0.001)
        return found

    repositories.fetch = fetch_and_lose_patience
    source = await cloud.follow(verify={"sshKeys": [key.with_suffix(".pub").read_text().strip()]})
    assert state(source, "Verified") == ("Unknown", "TimedOut")
    assert state(source, "Applied") == ("Unknown", "TimedOut")
    assert state(source, "Stalled")[0] == "False"
    repositories.fetch, repositories.limits = fetch, patient
    assert state(await cloud.settle(), "Verified") == ("False", "NotSigned")


async def test_files_encrypted_by_sops_are_read_with_the_identity_of_a_secret(cloud: Cloud) -> None:
    me = Identity()
    manifest = {"kind": "Secret", "metadata": {"name": "db"}, "spec": {"data": {"password": "correct horse"}}}
    cloud.repository.write("secret.yaml", encrypt([manifest], me.recipient))
    cloud.repository.commit()
    source = await cloud.follow()
    assert state(source, "Applied") == ("False", "DecryptionFailed")
    kept = SecretSpec(data={"identity": f"# mine\n{me.secret}\n"})
    await cloud.world.admin.create(Secret.new("age", kept, project=PROJECT))
    await cloud.patch("GitSource", "shop", {"spec": {"decryption": {"name": "age", "key": "identity"}}})
    assert (await cloud.settle()).is_true("Ready")
    found = await cloud.world.store.reveal(get_kind("Secret"), PROJECT, "db")
    assert found["spec"]["data"]["password"] == "correct horse"
    second = {"kind": "Secret", "metadata": {"name": "web"}, "spec": {"data": {"password": "battery staple"}}}
    cloud.repository.write("secret.yaml", encrypt([{"kind": "List", "items": [manifest, second]}], me.recipient))
    cloud.repository.commit()
    assert (await cloud.settle()).is_true("Ready")
    found = await cloud.world.store.reveal(get_kind("Secret"), PROJECT, "web")
    assert found["spec"]["data"]["password"] == "battery staple"
    source = await cloud.settle()
    assert source.is_true("Ready")
    assert "correct" not in source.to_json().decode()


async def test_a_server_is_asked_by_https_only_if_its_authority_is_trusted(
    cloud: Cloud, https_git_server: GitServer, tmp_path: Path
) -> None:
    repository = https_git_server.repository()
    repository.write("a.yaml", network("a"))
    commit = repository.commit()
    https_git_server.password = "s3cret-and-long"
    outbound = loopback(https_git_server.port)
    repositories = GitRepositories(tmp_path / "by-https", outbound)
    cloud.world.backends[GIT.name] = repositories
    cloud.world.restart()
    trusted = {"ca.crt": https_git_server.authority, "other": CertificateAuthority.create("another").cert_pem.decode()}
    await cloud.world.admin.create(Secret.new("trust", SecretSpec(data={**trusted, "empty": "-"}), project=PROJECT))
    login = SecretSpec(type=SecretType.BASIC_AUTH, data={"username": "git", "password": "s3cret-and-long"})
    await cloud.world.admin.create(Secret.new("git", login, project=PROJECT))
    source = await cloud.follow(url=https_git_server.url(), credentials="git")
    assert state(source, "Fetched") == ("False", "CertificateNotTrusted")
    for key, expected in (
        ("other", ("False", "CertificateNotTrusted")),
        ("empty", ("False", "SecretIncomplete")),
        ("none", ("False", "SecretIncomplete")),
        ("ca.crt", ("True", "Fetched")),
    ):
        await cloud.patch("GitSource", "shop", {"spec": {"caSecret": {"name": "trust", "key": key}}})
        assert state(await cloud.settle(), "Fetched") == expected
    source = await cloud.source()
    assert source.is_true("Ready"), source.status
    assert source.status.applied_commit == commit
    # A certificate in the spec will do as well, and the other one's will not.
    for text, reason in ((trusted["other"], "CertificateNotTrusted"), (trusted["ca.crt"], "Fetched")):
        await cloud.patch("GitSource", "shop", {"spec": {"caSecret": None, "caCertificates": text}})
        assert state(await cloud.settle(), "Fetched")[1] == reason
    repositories.close()
    outbound.close()


async def test_a_server_is_asked_by_ssh_only_if_its_key_is_known(
    cloud: Cloud, ssh_git_server: SshGitServer, tmp_path: Path
) -> None:
    cloud.repository.write("a.yaml", network("a"))
    cloud.repository.commit()
    outbound = loopback(ssh_git_server.port)
    repositories = GitRepositories(tmp_path / "by-ssh", outbound)
    cloud.world.backends[GIT.name] = repositories
    cloud.world.restart()
    secret = SecretSpec(type=SecretType.SSH_PRIVATE_KEY, data={"privateKey": ssh_git_server.client_key})
    await cloud.world.admin.create(Secret.new("ssh", secret, project=PROJECT))
    url = ssh_git_server.url(cloud.repository.bare)
    spec = {"url": url, "credentials": "ssh"}
    source = await cloud.follow("unknown", **spec, knownHosts=ssh_git_server.known_hosts(another=True))
    assert state(source, "Fetched") == ("False", "HostKeyUnknown")
    source = await cloud.follow("known", **spec, knownHosts=ssh_git_server.known_hosts())
    assert source.is_true("Ready"), source.status.conditions
    wrong = SecretSpec(type=SecretType.SSH_PRIVATE_KEY, data={"privateKey": ssh_git_server.other_key})
    await cloud.world.admin.create(Secret.new("wrong", wrong, project=PROJECT))
    await cloud.patch("GitSource", "known", {"spec": {"credentials": "wrong"}})
    assert state(await cloud.settle("known"), "Fetched") == ("False", "AuthenticationFailed")
    repositories.close()
    outbound.close()
