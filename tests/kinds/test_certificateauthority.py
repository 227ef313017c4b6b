"""The internal authority: rotated step by step, none of them before everybody is seen to be ready for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from tests.fakes.crash import Killed
from tests.fakes.master_keys import credentials_on
from tests.fakes.world import World, sweep
from vcstack.controllers import certificateauthority as controller
from vcstack.controllers.certificateauthority import AUTHORITIES, WITNESSES
from vcstack.pki.authority import CertificateAuthority as Authority
from vcstack.pki.authority import Issued, find_issuer, load_certificate
from vcstack.pki.probe import Endpoint, Seen
from vcstack.pki.rotation import Authorities, Report
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.certificateauthority import (
    DISTRIBUTED,
    EXPIRING,
    INTERNAL,
    REISSUED,
    RETIRED,
    AuthorityState,
    CertificateAuthority,
    CertificateAuthoritySpec,
)
from vcstack.specs.kinds.host import ALIVE, Host, HostSpec
from vcstack.specs.meta import format_time
from vcstack.specs.resource import Ref
from vcstack.store.authorities import AuthorityRecords

DAY = 86_400


@dataclass
class Machine:
    """A manager's machine and a server on it: they do what the record says when ``catch_up`` is called."""

    record: Authorities
    refuses: bool = False
    late: frozenset[str] = frozenset()
    seen: list[str] = field(default_factory=list)

    @property
    def certificate(self) -> x509.Certificate:
        return load_certificate(self.record.current.issue_server("etcd", ["127.0.0.1"], hours=1).cert)

    async def reports(self) -> Sequence[Report]:
        trusted = frozenset(v.fingerprint for v in self.record.versions)
        return [Report("manager-1", trusted, frozenset({self.record.current.fingerprint}), self.late)]

    def endpoints(self) -> Sequence[Endpoint]:
        return [Endpoint("etcd 127.0.0.1:2379", "127.0.0.1", 2379, b"")]

    async def probe(self, endpoint: Endpoint, credential: Issued) -> Seen:
        if self.refuses:
            raise ConnectionRefusedError("Connection refused")
        shown = load_certificate(credential.cert)
        return Seen(find_issuer(shown, [v.x509 for v in self.record.versions]) is not None, self.certificate)


class Mortal:
    """The records as the controller reaches them: each call is one at which it may be killed."""

    def __init__(self, world: World, records: AuthorityRecords) -> None:
        self._world, self._records = world, records

    def __getattr__(self, name: str) -> Any:
        crasher = self._world.crasher
        return getattr(self._records if crasher is None else crasher.wrap(self._records), name)


class Cloud:
    """The authority's record, a manager's machine, hosts that do as they are told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.records = AuthorityRecords(credentials_on(world.etcd, clock=world.clock))
        self.machine = Machine(Authorities.first(Authority.create()))
        self.first = self.machine.record.current
        world.backends[AUTHORITIES.name] = Mortal(world, self.records)
        world.backends[WITNESSES.name] = self.machine
        world.restart()

    async def start(self, **spec: int) -> None:
        await self.records.ensure(INTERNAL, lambda: self.machine.record)
        reconciler = self.world.controller(controller.build).reconciler
        try:
            await reconciler.reconcile(None, Ref("CertificateAuthority", None, INTERNAL))
        except Killed:
            self.world.crasher = None
            self.world.restart()
            reconciler = self.world.controller(controller.build).reconciler
            await reconciler.reconcile(None, Ref("CertificateAuthority", None, INTERNAL))
        await self.change(overlap_seconds=0, **spec)

    async def change(self, **spec: int) -> CertificateAuthority:
        found = await self.get()
        changed = found.spec.model_copy(update=spec)
        return await self.world.admin.update(found.model_copy(update={"spec": changed}))

    async def get(self) -> CertificateAuthority:
        return await self.world.get(CertificateAuthority, INTERNAL)

    async def record(self) -> Authorities:
        found = await self.records.find(INTERNAL)
        assert found is not None
        return found

    async def catch_up(self) -> None:
        self.machine.record = await self.record()

    async def settle(self) -> CertificateAuthority:
        await self.world.settle(controller.build)
        return await self.get()

    async def add_host(self, name: str, *, alive: bool = True, days: int = 1) -> Host:
        host = await self.world.create(Host.new(name, HostSpec()))
        await self.host_follows(name, days=days)
        return await self.world.set_status(host, *([ALIVE] if alive else []), false=() if alive else [ALIVE])

    async def host_follows(self, name: str, days: int = 1) -> None:
        """The host reports what it holds, as the record says now."""
        record = await self.record()
        await self.world.set_status(
            await self.world.get(Host, name),
            certificateExpiresAt=format_time(self.world.clock.now() + timedelta(days=days)),
            certificateAuthority=record.current.fingerprint,
            trustedAuthorities=[v.fingerprint for v in record.versions],
        )


def states(authority: CertificateAuthority) -> list[tuple[int, AuthorityState]]:
    return [(v.version, v.state) for v in authority.status.versions or ()]


async def test_the_authority_shows_what_the_cloud_began_with_and_a_second_run_writes_nothing(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    shown = await cloud.settle()
    assert shown.is_true("Ready")
    assert not shown.is_true(EXPIRING)
    assert states(shown) == [(1, AuthorityState.ISSUING)]
    assert shown.status.bundle == cloud.first.bundle.decode()
    assert "PRIVATE" not in shown.to_json().decode()
    assert await world.writes_of(controller.build) == 0


async def test_each_step_waits_until_it_is_seen_that_nobody_would_be_cut_off(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    await cloud.add_host("h1")
    await cloud.settle()

    await cloud.change(version=2)
    shown = await cloud.settle()
    assert states(shown) == [(1, AuthorityState.ISSUING), (2, AuthorityState.TRUSTED)]
    waiting = shown.status.waiting_for or []
    assert [w.split(" (")[0] for w in waiting] == ["manager manager-1", "host h1", "etcd 127.0.0.1:2379"]
    condition = shown.find_condition(DISTRIBUTED)
    assert condition is not None
    assert (condition.reason, "host h1" in condition.message) == ("Waiting", True)

    await cloud.catch_up()
    assert (await cloud.settle()).status.waiting_for == ["host h1"]
    assert (await cloud.record()).issuing == 1
    await cloud.host_follows("h1")
    shown = await cloud.settle()
    assert states(shown) == [(1, AuthorityState.TRUSTED), (2, AuthorityState.ISSUING)]
    assert shown.is_true(DISTRIBUTED)
    assert not shown.is_true(REISSUED)
    assert len(shown.status.waiting_for or ()) == 3

    await cloud.host_follows("h1")
    assert "shows a certificate of the former" in str((await cloud.settle()).status.waiting_for)
    await cloud.catch_up()
    shown = await cloud.settle()
    assert states(shown) == [(1, AuthorityState.RETIRING), (2, AuthorityState.ISSUING)]
    assert shown.is_true(REISSUED)
    assert "still trusts the former" in str(shown.status.waiting_for)
    assert cloud.first.key_pem in (await cloud.record()).to_json().replace(b"\\n", b"\n")

    await cloud.host_follows("h1")
    await cloud.catch_up()
    shown = await cloud.settle()
    assert shown.is_true("Ready")
    assert shown.is_true(RETIRED)
    assert shown.status.waiting_for is None
    assert states(shown) == [(2, AuthorityState.ISSUING)]
    assert cloud.first.key_pem not in (await cloud.record()).to_json().replace(b"\\n", b"\n")
    assert (await world.event_reasons()).count("RotationStep") >= 4
    assert await world.writes_of(controller.build) == 0


async def test_the_overlap_gives_those_time_whom_nobody_observes(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    await cloud.change(version=2, overlap_seconds=7 * DAY)
    await cloud.settle()
    await cloud.catch_up()
    shown = await cloud.settle()
    assert "the overlap, which ends at" in str(shown.status.waiting_for)
    assert (await cloud.record()).issuing == 1
    made = (await cloud.record()).newest.created_at
    world.clock.skip((made - world.clock.now()).total_seconds() + 7 * DAY + 1)
    await cloud.settle()
    assert (await cloud.record()).issuing == 2


async def test_a_host_out_of_service_is_not_waited_for(world: World) -> None:
    """Whoever has its machine is to be trusted no more, and gets no new certificate."""
    cloud = Cloud(world)
    await cloud.start()
    await cloud.add_host("h1", alive=False, days=1)
    await cloud.change(version=2)
    await cloud.settle()
    await cloud.catch_up()
    assert "host h1" in str((await cloud.settle()).status.waiting_for)
    host = await world.get(Host, "h1")
    host.spec.out_of_service = True
    await world.admin.update(host)
    for _ in range(4):
        await cloud.settle()
        await cloud.catch_up()
    assert (await cloud.settle()).is_true(RETIRED)


async def test_a_host_that_is_away_is_waited_for_until_its_certificate_has_run_out(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    await cloud.add_host("h1", alive=False, days=1)
    await world.create(Host.new("h2", HostSpec()))  # made, never joined: it has nothing that could be cut off
    await cloud.change(version=2)
    await cloud.settle()
    await cloud.catch_up()
    assert "host h1 (not alive; its certificate runs out at" in str((await cloud.settle()).status.waiting_for)
    world.clock.skip(2 * DAY)
    assert (await cloud.settle()).status.version == 2


async def test_a_server_that_does_not_answer_holds_it_up_and_is_named(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    await cloud.change(version=2)
    await cloud.settle()
    await cloud.catch_up()
    cloud.machine.refuses = True
    shown = await cloud.settle()
    assert shown.status.waiting_for == ["etcd 127.0.0.1:2379 (does not answer: Connection refused)"]
    cloud.machine.refuses = False
    assert (await cloud.settle()).status.version == 2


async def test_an_authority_that_ends_soon_says_so(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    await cloud.settle()
    ends = (await cloud.record()).newest.x509.not_valid_after_utc
    world.clock.skip((ends - world.clock.now()).total_seconds() - 100 * DAY)
    shown = await cloud.settle()
    assert shown.is_true(EXPIRING)
    assert shown.is_true("Ready")


async def test_a_certificate_of_a_service_that_is_not_renewed_is_named(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    cloud.machine.late = frozenset({"etcd"})
    shown = await cloud.settle()
    condition = shown.find_condition(EXPIRING)
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "ServiceCertificateLate")
    assert "manager manager-1: etcd" in (condition.message or "")
    cloud.machine.late = frozenset()
    assert not (await cloud.settle()).is_true(EXPIRING)


async def test_versions_come_one_after_the_other_and_never_go_back(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    await cloud.settle()
    with pytest.raises(Invalid, match="next one is 2"):
        await cloud.change(version=3)
    await cloud.change(version=2)
    await cloud.settle()
    with pytest.raises(Invalid, match="never comes back"):
        await cloud.change(version=1)
    with pytest.raises(Invalid, match="one authority"):
        await world.create(CertificateAuthority.new("mine", CertificateAuthoritySpec()))


async def test_one_that_was_deleted_comes_back_with_the_version_it_had(world: World) -> None:
    cloud = Cloud(world)
    await cloud.start()
    await cloud.change(version=2)
    await cloud.settle()
    await world.delete(await cloud.get())
    reconciler = world.controller(controller.build).reconciler
    await reconciler.reconcile(None, Ref("CertificateAuthority", None, INTERNAL))
    assert (await cloud.get()).spec.version == 2
    await cloud.change(overlap_seconds=0)
    await cloud.catch_up()
    assert (await cloud.settle()).status.version == 2


async def test_a_rotation_ends_alike_killed_before_or_after_any_step() -> None:
    async def scenario(world: World) -> None:
        cloud = Cloud(world)
        await cloud.start()
        await cloud.add_host("h1")
        await cloud.change(version=2)
        for _ in range(8):
            shown = await cloud.settle()
            await cloud.host_follows("h1")
            await cloud.catch_up()
        assert shown.is_true("Ready")
        record = await cloud.record()
        assert record.at_rest
        assert [v.number for v in record.versions] == [2]
        assert record.current.fingerprint != cloud.first.fingerprint

    assert await sweep(scenario) > 12
