"""Logging in by a directory, with OpenLDAP's slapd as a process of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from tests.apiserver.auth.world import ADMIN, HOME, PASSWORD, Replica, SkewedClock
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.slapd import CLOUD_PASSWORD, GROUPS, PEOPLE, USERS, Slapd
from vcstack.apiclient.authmessages import ChallengeKind
from vcstack.apiserver.auth.challenges import Challenge
from vcstack.apiserver.auth.external import find_provider
from vcstack.apiserver.auth.ldapdirectory import Account, _fill, normalize_dn
from vcstack.apiserver.auth.ldaplogins import AT_ONCE
from vcstack.apiserver.auth.login import WRONG, Result
from vcstack.apiserver.auth.sessions import Tokens
from vcstack.crypto.envelope import Envelopes
from vcstack.outbound.addresses import AddressPolicy, AllowedTarget
from vcstack.outbound.client import OutboundSettings
from vcstack.specs.errors import Forbidden, Invalid, NotFound, TooManyRequests, Unauthorized, Unavailable
from vcstack.specs.registry import get_kind
from vcstack.store.store import Store

pytestmark = pytest.mark.daemons


class HeldClock(SkewedClock):
    """Moves on when somebody waits, and says how long."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.skip(seconds)


class Office(Replica):
    """With steps of logins by a directory."""

    slapd: Slapd
    clock: HeldClock

    async def name_provider(self, *, ldap: dict[str, Any] | None = None, **spec: Any) -> None:
        section = {name: value for name, value in self.slapd.spec(**(ldap or {})).items() if value is not None}
        wire = {"metadata": {"name": "office"}, "spec": {"type": "LDAP", "ldap": section, **spec}}
        await self.store.create(get_kind("IdentityProvider"), wire, actor=ADMIN)

    async def change_provider(self, **spec: Any) -> None:
        await self.store.merge_patch(get_kind("IdentityProvider"), None, "office", {"spec": spec}, actor=ADMIN)

    async def name_secret(self, **data: str) -> None:
        wire = {"metadata": {"name": "ldap", "project": "office"}, "spec": {"data": data}}
        await self.store.create(get_kind("Secret"), wire, actor=ADMIN)

    async def group(self, *names: str) -> None:
        for name in names:
            await self.store.create(get_kind("Group"), {"metadata": {"name": name}, "spec": {}}, actor=ADMIN)

    async def log_in(self, user: str = "alice", password: str | None = None) -> Tokens:
        found = await self.begin(user, password)
        assert isinstance(found, Tokens)
        return found

    async def begin(self, user: str = "alice", password: str | None = None) -> Result:
        return await self.ldap.login("office", user, USERS[user] if password is None else password, HOME)

    async def challenge(self, kind: ChallengeKind, user: str = "alice") -> str:
        """Log in where more is asked for."""
        found = await self.begin(user)
        assert isinstance(found, Challenge)
        assert found.kind is kind
        return found.token

    async def enrol_at_login(self) -> tuple[str, list[str]]:
        """Enrol the second factor that the login demands; return its secret and the recovery codes."""
        challenge = await self.challenge(ChallengeKind.ENROL_MFA)
        secret = (await self.login.begin_enrolment(challenge)).secret
        done = await self.login.confirm_enrolment(challenge, self.code(secret), HOME)
        assert done.tokens is not None
        assert self.access(done.tokens).methods == ("ldap", "pwd", "otp", "mfa")
        self.clock.skip(60)
        return secret, done.recovery_codes

    async def groups(self, tokens: Tokens) -> list[str]:
        found: list[str] = (await self.spec_of("Session", tokens.session)).get("externalGroups", [])
        return found

    async def spec_of(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.store.get(get_kind(kind), None, name)).wire["spec"]
        return found

    async def refusal(self, user: str, password: str) -> Unauthorized:
        """Return how a login is refused; the next one need not wait."""
        with pytest.raises(Unauthorized) as refused:
            await self.log_in(user, password)
        self.clock.skip(4000)
        return refused.value


def outbound(slapd: Slapd, **more: Any) -> OutboundSettings:
    ports = frozenset({slapd.plain_port, slapd.tls_port})
    target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=ports, **more)
    return OutboundSettings(addresses=AddressPolicy(allowed=[target]), connect_seconds=60, total_seconds=60)


@contextlib.asynccontextmanager
async def opened(
    slapd: Slapd, store: Store, etcd: MemoryEtcd, envelopes: Envelopes, settings: OutboundSettings
) -> AsyncIterator[Office]:
    made = Office(store, etcd, HeldClock(), envelopes, outbound=settings)
    made.slapd = slapd
    await made.start()
    await store.create(get_kind("Project"), {"metadata": {"name": "office"}, "spec": {}}, actor=ADMIN)
    await made.name_secret(password=CLOUD_PASSWORD)
    yield made
    made.close()


@pytest.fixture
async def office(
    slapd: Slapd, memory_store: Store, memory_etcd: MemoryEtcd, envelopes: Envelopes
) -> AsyncIterator[Office]:
    async with opened(slapd, memory_store, memory_etcd, envelopes, outbound(slapd)) as made:
        yield made


@pytest.fixture
async def lab(
    slapd: Slapd, memory_store: Store, memory_etcd: MemoryEtcd, envelopes: Envelopes
) -> AsyncIterator[Office]:
    settings = outbound(slapd, plain_http=True)
    async with opened(slapd, memory_store, memory_etcd, envelopes, settings) as made:
        yield made


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
async def test_a_login_makes_the_user_and_a_session(office: Office, slapd: Slapd, scheme: str) -> None:
    await office.name_provider(ldap={"url": slapd.url if scheme == "ldaps" else slapd.plain_url})
    tokens = await office.log_in()
    access = office.access(tokens)
    assert (access.subject, access.methods) == ("user:office-alice", ("ldap", "pwd"))
    user = await office.spec_of("User", "office-alice")
    assert user["identityProvider"] == "office"
    assert len(user["externalId"]) == 36
    assert (user["displayName"], user["email"]) == ("alice of the tests", "alice@example.org")
    session = await office.spec_of("Session", tokens.session)
    assert session["identityProvider"] == "office"
    again = await office.log_in("ALICE ", USERS["alice"])
    assert office.access(again).uid == access.uid


async def test_all_that_is_wrong_with_a_login_is_told_alike_and_at_the_full_second(office: Office) -> None:
    await office.name_provider()
    attempts = [
        ("alice", "wrong"),
        ("nobody", "wrong"),
        ("nobody", USERS["alice"]),
        ("alice", ""),
        ("", ""),
        ("alice", "blue cats\0"),
        ("a" * 5000, "wrong"),
        ("alice", USERS["bob"]),
    ]
    refusals = [await office.refusal(user, password) for user, password in attempts]
    assert {(str(r), r.REASON) for r in refusals} == {(WRONG, "Unauthorized")}
    assert office.clock.waited == [1.0] * len(attempts)
    await office.user("local")
    with pytest.raises(Unauthorized) as locally:
        await office.login.login("local", "wrong", HOME)
    assert str(locally.value) == WRONG


async def test_an_empty_password_is_no_password_though_the_directory_takes_it_for_one(
    office: Office, slapd: Slapd
) -> None:
    """slapd is told to let binds without a password through, as some directories do (RFC 4513, 5.1.2)."""
    command = ["ldapwhoami", "-H", slapd.plain_url, "-x", "-D", f"uid=alice,{PEOPLE}", "-w", ""]
    found = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert await found.communicate() == (b"anonymous\n", None)
    await office.name_provider()
    assert str(await office.refusal("alice", "")) == WRONG
    with pytest.raises(ValueError, match="empty password"):
        await office._directories.prove(await _directory(office), await _own(office), "alice", "")


async def _directory(office: Office) -> Any:
    return (await find_provider(office.store, "office")).spec.ldap


async def _own(office: Office) -> Any:
    return Account((await _directory(office)).bind_dn, CLOUD_PASSWORD)


INJECTIONS = [
    "*",
    "al*",
    "alice)(uid=*",
    "*)(|(uid=*",
    "alice)(objectClass=*))(&(uid=x",
    "alice\0",
    "\\61lice",
    "(",
    ")",
]


@pytest.mark.parametrize("user", INJECTIONS)
async def test_a_name_is_never_a_part_of_the_filter(office: Office, user: str) -> None:
    await office.name_provider()
    assert str(await office.refusal(user, USERS["alice"])) == WRONG


@pytest.mark.parametrize("user", [name for name in USERS if not name.isascii() or not name.isalnum()])
async def test_names_that_mean_something_in_a_filter_are_names(office: Office, user: str) -> None:
    await office.name_provider()
    tokens = await office.log_in(user)
    spec = await office.spec_of("User", office.access(tokens).subject.removeprefix("user:"))
    assert spec["displayName"].startswith(user)


def test_no_byte_of_a_value_stands_in_a_filter_as_it_is() -> None:
    assert _fill("(|(uid={user})(m={dn}))", user="{dn})(", dn="a*") == "(|(uid=\\7b\\64\\6e\\7d\\29\\28)(m=\\61\\2a))"
    assert normalize_dn("CN=A\\, b, DC=x") == normalize_dn("cn=a\\2C b,dc=X")


async def test_two_entries_of_one_name_are_the_operators_fault(office: Office) -> None:
    await office.name_provider()
    with pytest.raises(Unavailable, match="several entries"):
        await office.log_in("twin")


async def test_a_referral_is_not_followed(office: Office) -> None:
    """Below people there is one to another server; as the base itself the directory answers with nothing else."""
    await office.name_provider(ldap={"userBaseDn": f"ou=elsewhere,{PEOPLE}"})
    with pytest.raises(Unavailable, match="refers to another directory"):
        await office.log_in()


async def test_what_the_directory_says_of_itself_is_for_the_log_only(
    office: Office, capfd: pytest.CaptureFixture[str]
) -> None:
    await office.name_provider(ldap={"userBaseDn": "dc=nowhere"})
    with pytest.raises(Unavailable) as refused:
        await office.log_in()
    assert refused.value.message.endswith("does not work as it should: it answers with NO_SUCH_OBJECT")
    assert "No such object" in "".join(capfd.readouterr())


async def test_one_directory_is_asked_by_a_few_at_once_only(office: Office, slapd: Slapd) -> None:
    await office.name_provider()
    slapd.pause()
    waiting = [asyncio.create_task(office.ldap.login("office", f"user-{i}", "x", HOME)) for i in range(AT_ONCE + 5)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert 1 <= len(done) <= 5  # who came too late is told at once, the others when there is no hope any more
    await slapd.stop()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in found), found
    assert not office.ldap._running


async def test_a_name_that_leads_inside_is_refused_whatever_else_it_leads_to(office: Office) -> None:
    await office.name_provider(ldap={"url": "ldaps://ldap.example.org"})
    for addresses in (["10.1.2.3"], ["93.184.216.34", "127.0.0.1"], ["::ffff:10.1.2.3"], []):
        office._outbound._resolver = _Names(addresses)
        office.clock.skip(10)
        with pytest.raises(Unavailable, match="does not answer"):
            await office.log_in()


async def test_a_directory_that_never_stops_talking_is_cut_off(lab: Office) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            bind = await reader.read(1000)
            writer.write(bytes.fromhex("300c0201") + bind[4:5] + bytes.fromhex("61070a010004000400"))
            search = await reader.read(1000)
            entry = b"\x04\x03a=b" + b"\x30\x00"
            one = b"\x02\x01" + search[4:5] + b"\x64" + bytes([len(entry)]) + entry
            while True:
                writer.write((b"\x30" + bytes([len(one)]) + one) * 10_000)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=frozenset({port}), plain_http=True)
    lab._outbound.settings = OutboundSettings(addresses=AddressPolicy(allowed=[target]), total_seconds=60)
    await lab.name_provider(ldap={"url": f"ldap://127.0.0.1:{port}", "encryption": "None"})
    async with server:
        with pytest.raises(Unavailable, match="does not answer"):
            await lab.log_in()


async def test_groups_there_count_as_mapped_and_follow_at_refresh(office: Office, slapd: Slapd) -> None:
    await office.group("operators", "people")
    mapping = [{"external": "ops", "group": "operators"}, {"external": "a, b", "group": "people"}]
    await office.name_provider(groupMapping=mapping)
    tokens = await office.log_in()
    assert await office.groups(tokens) == ["ops"]
    assert await office.groups(await office.log_in("bob")) == ["a, b"]
    slapd.change(f"dn: cn=ops,{GROUPS}\nchangetype: modify\nreplace: member\nmember: uid=bob,{PEOPLE}\n")
    tokens = await office.login.refresh(tokens.refresh_token, HOME)
    assert await office.groups(tokens) == []
    assert await office.groups(await office.log_in("bob")) == ["a, b", "ops"]


async def test_groups_in_groups_are_followed_as_far_as_is_said(office: Office) -> None:
    await office.group("g")
    names = ("staff", "everybody", "planet", "circle")
    await office.name_provider(groupMapping=[{"external": name, "group": "g"} for name in names])
    for levels, expected in ((0, {"staff"}), (1, {"staff", "everybody"}), (8, set(names))):
        await office.change_provider(ldap={"nestedGroupLevels": levels})
        assert set(await office.groups(await office.log_in())) == expected


async def test_groups_can_be_told_apart_by_their_whole_name(office: Office) -> None:
    await office.group("g")
    mapping = [{"external": f"CN=ops, {GROUPS}", "group": "g"}, {"external": "ops", "group": "g"}]
    await office.name_provider(ldap={"groupNameAttribute": "dn"}, groupMapping=mapping)
    assert await office.groups(await office.log_in()) == [f"CN=ops, {GROUPS}"]


async def test_more_groups_than_anybody_needs_are_refused_and_nothing_is_made(office: Office) -> None:
    await office.name_provider()
    with pytest.raises(Forbidden, match="more than 1000 groups"):
        await office.log_in("huge")
    with pytest.raises(NotFound):
        await office.spec_of("User", "office-huge")


async def test_who_was_removed_there_is_out_at_the_next_refresh(office: Office, slapd: Slapd) -> None:
    await office.name_provider()
    tokens = await office.log_in("bob")
    tokens = await office.login.refresh(tokens.refresh_token, HOME)
    slapd.change(f"dn: uid=bob,{PEOPLE}\nchangetype: delete\n")
    with pytest.raises(Unauthorized, match="does not know the user any more"):
        await office.login.refresh(tokens.refresh_token, HOME)
    assert await office.session_names() == []


async def test_a_filter_that_keeps_somebody_out_ends_the_session_at_refresh(office: Office, slapd: Slapd) -> None:
    await office.name_provider(ldap={"userFilter": "(&(uid={user})(!(description=gone)))"})
    tokens = await office.log_in("bob")
    slapd.change(f"dn: uid=bob,{PEOPLE}\nchangetype: modify\nadd: description\ndescription: gone\n")
    with pytest.raises(Unauthorized):
        await office.login.refresh(tokens.refresh_token, HOME)
    assert str(await office.refusal("bob", USERS["bob"])) == WRONG


async def test_while_the_directory_is_down_sessions_go_on_and_the_login_says_so(office: Office, slapd: Slapd) -> None:
    await office.group("g")
    await office.name_provider(groupMapping=[{"external": "ops", "group": "g"}])
    await office.user("carol")
    tokens = await office.log_in()
    await slapd.stop()
    with pytest.raises(Unavailable, match="identity provider office does not answer"):
        await office.log_in()
    assert await office.tokens_of("carol", PASSWORD)
    tokens = await office.login.refresh(tokens.refresh_token, HOME)
    assert await office.groups(tokens) == ["ops"]
    await slapd.start()
    with pytest.raises(Unavailable):  # asked again after five seconds only
        await office.log_in()
    office.clock.skip(6)
    assert await office.log_in()


async def test_a_directory_that_is_down_is_no_failed_guess(office: Office, slapd: Slapd) -> None:
    await office.name_provider()
    await slapd.stop()
    for _ in range(40):
        with pytest.raises(Unavailable):
            await office.log_in()


async def test_a_directory_that_says_nothing_holds_up_nobody_else(office: Office, slapd: Slapd) -> None:
    await office.name_provider(ldap={"url": slapd.plain_url})
    await office.user("carol")
    slapd.pause()
    waiting = asyncio.create_task(office.log_in())
    while not office.ldap._running:
        await asyncio.sleep(0.01)
    assert await office.tokens_of("carol", PASSWORD)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    office._outbound.settings = replace(office._outbound.settings, total_seconds=0.5)
    with pytest.raises(Unavailable, match="does not answer"):
        await office.log_in()


async def test_guessing_gets_slow_whatever_the_spelling(office: Office) -> None:
    await office.name_provider()
    spellings = ["alice", "ALICE", "alice ", " Alice", "a\N{SOFT HYPHEN}lice", "ali\N{COMBINING ACUTE ACCENT}ce"]
    for spelling in spellings:
        with contextlib.suppress(Unauthorized, TooManyRequests):
            await office.log_in(spelling, "wrong")
    with pytest.raises(TooManyRequests):
        await office.log_in()
    assert await office.log_in("bob")


async def test_a_certificate_of_another_ca_is_not_believed(office: Office) -> None:
    await office.name_provider(ldap={"caCertificates": None})
    with pytest.raises(Unavailable, match="does not answer"):
        await office.log_in()


async def test_a_certificate_for_another_name_is_not_believed(
    slapd: Slapd, memory_store: Store, memory_etcd: MemoryEtcd, envelopes: Envelopes
) -> None:
    settings = outbound(slapd)
    async with opened(slapd, memory_store, memory_etcd, envelopes, settings) as office:
        office._outbound._resolver = _Names(["127.0.0.1"])
        await office.name_provider(ldap={"url": f"ldaps://ldap.example.org:{slapd.tls_port}"})
        with pytest.raises(Unavailable, match="does not answer"):
            await office.log_in()


class _Names:
    """Says of every name that it has these addresses."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str) -> list[str]:
        return self._addresses


async def test_ca_certificates_that_are_none_are_told(office: Office) -> None:
    await office.name_provider(ldap={"caCertificates": "nonsense"})
    with pytest.raises(Unavailable, match="caCertificates"):
        await office.log_in()


async def test_a_password_goes_out_in_the_clear_only_where_the_operator_allows_it(office: Office, slapd: Slapd) -> None:
    await office.name_provider(ldap={"url": slapd.plain_url, "encryption": "None"})
    with pytest.raises(Unavailable, match="does not answer"):
        await office.log_in()


async def test_a_lab_may_do_without_encryption(lab: Office, slapd: Slapd) -> None:
    await lab.name_provider(ldap={"url": slapd.plain_url, "encryption": "None"})
    assert await lab.log_in()


async def test_a_directory_that_knows_no_tls_gets_no_password(office: Office) -> None:
    """It answers the request to begin TLS with a refusal, as one in the middle would."""
    said: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(await reader.read(1000))
        writer.write(bytes.fromhex("300c02010178070a010204000400"))
        said.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = AllowedTarget(network=ip_network("127.0.0.1/32"), ports=frozenset({port}))
    office._outbound.settings = OutboundSettings(addresses=AddressPolicy(allowed=[target]))
    await office.name_provider(ldap={"url": f"ldap://127.0.0.1:{port}"})
    async with server:
        with pytest.raises(Unavailable, match="does not answer"):
            await office.log_in()
    assert [text.endswith(b"1.3.6.1.4.1.1466.20037") for text in said[:1]] == [True]
    assert said[1:] in ([], [b""])


@pytest.mark.parametrize("url", ["ldaps://10.0.0.1", "ldaps://169.254.169.254", "ldap://127.0.0.1:22", "ldaps://[::1]"])
async def test_a_directory_inside_is_not_reached_unless_the_operator_allows_it(office: Office, url: str) -> None:
    await office.name_provider(ldap={"url": url})
    with pytest.raises(Unavailable, match="does not answer"):
        await office.log_in()


@pytest.mark.parametrize(("data", "text"), [({}, "is not there"), ({"password": "wrong"}, "does not accept bindDn")])
async def test_a_password_of_the_clouds_own_that_is_wrong_or_missing_is_told(
    office: Office, data: dict[str, str], text: str
) -> None:
    await office.name_provider()
    spec = {"data": {"password": None, **data}}
    await office.store.merge_patch(get_kind("Secret"), "office", "ldap", {"spec": spec}, actor=ADMIN)
    with pytest.raises(Unavailable, match=text):
        await office.log_in()


async def test_a_disabled_user_stays_out(office: Office) -> None:
    await office.name_provider()
    await office.log_in()
    await office.change_user("office-alice", enabled=False)
    with pytest.raises(Unauthorized, match="may not log in"):
        await office.log_in()


async def test_a_second_factor_of_ours_is_enrolled_at_the_login_that_demands_one_and_asked_for_then(
    office: Office,
) -> None:
    await office.group("operators")
    await office.name_provider(groupMapping=[{"external": "ops", "group": "operators"}])
    await office.log_in()
    await office.change_user("office-alice", mfaRequired=True)
    secret, codes = await office.enrol_at_login()
    assert (await office.status_of("User", "office-alice"))["mfaEnrolled"] is True
    challenge = await office.challenge(ChallengeKind.VERIFY_MFA)
    with pytest.raises(Unauthorized, match="code is wrong"):
        await office.login.verify_mfa(challenge, "12", HOME)
    code = office.code(secret)
    tokens = await office.login.verify_mfa(challenge, code, HOME)
    assert office.access(tokens).methods == ("ldap", "pwd", "otp", "mfa")
    assert await office.groups(tokens) == ["ops"]
    with pytest.raises(Unauthorized, match="code is wrong"):  # a code is good once
        await office.login.verify_mfa(await office.challenge(ChallengeKind.VERIFY_MFA), code, HOME)
    await office.login.verify_mfa(await office.challenge(ChallengeKind.VERIFY_MFA), codes[0], HOME)
    with pytest.raises(Unauthorized, match="code is wrong"):
        await office.login.verify_mfa(await office.challenge(ChallengeKind.VERIFY_MFA), codes[0], HOME)
    assert await office.login.refresh(tokens.refresh_token, HOME)


async def test_a_setting_demands_a_second_factor_of_a_directorys_users_too(office: Office) -> None:
    await office.name_provider()
    wire = {"metadata": {"name": "mfa"}, "spec": {"setting": "login.mfaRequired", "value": True}}
    await office.store.create(get_kind("Setting"), wire, actor=ADMIN)
    await office.enrol_at_login()
    await office.challenge(ChallengeKind.VERIFY_MFA)


async def test_where_theirs_alone_counts_a_directorys_users_have_none(office: Office) -> None:
    await office.name_provider(secondFactor="Theirs")
    await office.log_in()
    await office.change_user("office-alice", mfaRequired=True)
    with pytest.raises(Unauthorized, match="second factor"):
        await office.begin()


async def test_who_wants_a_second_factor_enrols_and_removes_it_just_after_a_login(office: Office) -> None:
    await office.name_provider()
    access = office.access(await office.log_in())
    office.clock.skip(599)
    secret = (await office.login.enrol(access, "", "", HOME)).secret
    await office.login.confirm(access, office.code(secret))
    office.clock.skip(60)
    with pytest.raises(Forbidden, match="log in anew"):
        await office.login.disable_mfa(access, "", office.code(secret), HOME)
    challenge = await office.challenge(ChallengeKind.VERIFY_MFA)
    access = office.access(await office.login.verify_mfa(challenge, office.code(secret), HOME))
    with pytest.raises(Unauthorized):
        await office.login.disable_mfa(access, USERS["alice"], "", HOME)  # and the present factor
    office.clock.skip(60)
    await office.login.disable_mfa(access, "", office.code(secret), HOME)
    assert (await office.status_of("User", "office-alice"))["mfaEnrolled"] is False
    await office.log_in()


async def test_who_lost_the_second_factor_is_helped_by_an_administrator(office: Office) -> None:
    await office.name_provider()
    await office.log_in()
    await office.change_user("office-alice", mfaRequired=True)
    await office.enrol_at_login()
    await office.login.reset_mfa("office-alice")
    assert await office.session_names() == []
    await office.enrol_at_login()


async def test_a_login_does_not_go_on_with_a_code_once_the_user_is_disabled(office: Office) -> None:
    await office.name_provider()
    await office.log_in()
    await office.change_user("office-alice", mfaRequired=True)
    secret, _ = await office.enrol_at_login()
    challenge = await office.challenge(ChallengeKind.VERIFY_MFA)
    await office.change_user("office-alice", enabled=False)
    with pytest.raises(Unauthorized):
        await office.login.verify_mfa(challenge, office.code(secret), HOME)


async def test_what_the_directory_said_last_of_groups_stands_with_the_user(office: Office) -> None:
    await office.group("operators")
    await office.name_provider(groupMapping=[{"external": "ops", "group": "operators"}])
    tokens = await office.log_in()
    seen = await office.status_of("User", "office-alice")
    assert seen["externalGroups"] == ["ops"]
    office.clock.skip(600)
    tokens = await office.login.refresh(tokens.refresh_token, HOME)
    assert await office.status_of("User", "office-alice") == seen  # not written for nothing
    office.clock.skip(3600)
    await office.login.refresh(tokens.refresh_token, HOME)
    later = await office.status_of("User", "office-alice")
    assert later["externalGroups"] == ["ops"]
    assert later["externalGroupsSeenAt"] > seen["externalGroupsSeenAt"]


async def test_a_disabled_provider_lets_nobody_in_and_ends_what_began_there(office: Office) -> None:
    await office.name_provider()
    tokens = await office.log_in()
    await office.change_provider(enabled=False)
    with pytest.raises(NotFound, match="to log in with"):
        await office.log_in()
    with pytest.raises(Unauthorized, match="vouches for nobody"):
        await office.login.refresh(tokens.refresh_token, HOME)


async def test_each_protocol_is_told_from_the_other(office: Office) -> None:
    await office.name_provider()
    with pytest.raises(Invalid) as refused:
        await office.oidc.begin("office", "http://127.0.0.1:5555/oidc/office")
    assert [cause.reason for cause in refused.value.causes] == ["PasswordLogin"]
    oidc = {"type": "OIDC", "oidc": {"issuerUrl": "https://id.example.com", "clientId": "c"}}
    await office.store.create(get_kind("IdentityProvider"), {"metadata": {"name": "web"}, "spec": oidc}, actor=ADMIN)
    with pytest.raises(Invalid, match="with a browser"):
        await office.ldap.login("web", "alice", "x", HOME)
    with pytest.raises(NotFound):
        await office.ldap.login("none", "alice", "x", HOME)


async def test_the_users_password_is_kept_nowhere(
    office: Office, memory_etcd: MemoryEtcd, capfd: pytest.CaptureFixture[str]
) -> None:
    await office.name_provider()
    await office.log_in()
    await office.refusal("alice", "a planted secret")
    kept = b"\n".join(memory_etcd.snapshot().values()) + repr([batch.events for batch in memory_etcd._log]).encode()
    out = "".join(capfd.readouterr())
    for secret in (USERS["alice"], "a planted secret", CLOUD_PASSWORD):
        assert secret.encode() not in kept
        assert secret not in out
