"""vcctl auth can-i, plan, key, sessions and reset-user as users of different rights see them."""

import json
import stat
from typing import Any

import pytest
import yaml

from tests.fixtures.api import SYSTEM
from tests.vcctl.harness import Vcctl
from tests.vcctl.test_login import PASSWORD, held, lines
from vcstack.specs.permissions import built_in_roles
from vcstack.specs.registry import Scope, get_kind, load_kinds
from vcstack.vcctl.errors import ExitCode


class Scene:
    """A cloud with two projects in a domain, and people logged in with a folder of their own each."""

    def __init__(self, vcctl: Vcctl) -> None:
        self.vcctl = vcctl

    async def __call__(self, who: str, *words: str, stdin: str | None = None, **environ: str) -> Any:
        return await self.vcctl(*words, stdin=stdin, XDG_CONFIG_HOME=str(self.vcctl.folder / who), **environ)

    async def ok(self, who: str, *words: str, stdin: str | None = None, **environ: str) -> str:
        ended = await self(who, *words, stdin=stdin, **environ)
        assert ended.code == 0, ended
        out: str = ended.out
        return out

    async def apply(self, *documents: dict[str, Any]) -> None:
        await self.ok("admin", "apply", "--no-wait", "-f", self.vcctl.write("given.yaml", *documents))

    async def log_in(self, name: str) -> None:
        secret = (await self.ok("admin", "auth", "reset-user", name, "--yes")).strip()
        await self.ok(name, "login", "--user", name, stdin=lines(secret, PASSWORD))

    def plan(self, *documents: dict[str, Any]) -> str:
        return self.vcctl.write("plan.yaml", *documents)


def thing(kind: str, name: str, spec: dict[str, Any] | None = None, project: str | None = None) -> dict[str, Any]:
    metadata = {"name": name, **({"project": project} if project else {})}
    return {"apiVersion": "vcstack.io/v1", "kind": kind, "metadata": metadata, "spec": spec or {}}


def binding(name: str, subject: str, role: str, project: str | None = None, **spec: Any) -> dict[str, Any]:
    kind, _, who = subject.partition(":")
    return thing("RoleBinding", name, {"subject": {"kind": kind, "name": who}, "role": role, **spec}, project)


@pytest.fixture
async def scene(vcctl: Vcctl) -> Scene:
    found = Scene(vcctl)
    for role in built_in_roles().values():  # as their controller makes them
        spec = {"description": role.description, "rules": [rule.to_wire() for rule in role.rules]}
        wire = {"metadata": {"name": role.name}, "spec": spec}
        await vcctl.api.store.create(get_kind("Role"), wire, actor=SYSTEM)
    await found.apply(
        thing("Domain", "acme"),
        thing("Project", "demo", {"domain": "acme"}),
        thing("Project", "other", {"domain": "acme"}),
        thing("User", "alice", {"domain": "acme"}),
        thing("User", "bob", {"domain": "acme"}),
        thing("User", "zoe"),
        thing("Group", "devs", {"domain": "acme", "members": ["bob"]}),
        thing("ServiceAccount", "ci", project="demo"),
        binding("alice-admin", "User:alice", "project-admin", "demo"),
        binding("devs-read", "Group:devs", "reader", "demo"),
    )
    await found.log_in("alice")
    return found


async def test_can_i_answers_as_the_api_does(scene: Scene) -> None:
    """Asked of every kind: yes means that the route does it, no that it refuses."""
    for definition in load_kinds().values():
        words = () if definition.scope is Scope.GLOBAL else ("-p", "demo")
        ended = await scene("alice", "auth", "can-i", "list", definition.kind, *words)
        listed = await scene("alice", "get", definition.plural, *words)
        assert (ended.code == 0) == (listed.code == 0), (definition.kind, ended, listed)


async def test_what_others_share_is_not_called_deleted_by_who_may_only_use_it(scene: Scene) -> None:
    await scene.apply(thing("Network", "lent", {"sharedWith": [{"project": "demo"}]}, "other"))
    await scene.ok("alice", "get", "network", "lent", "-p", "other")
    refused = await scene("alice", "delete", "network", "lent", "-p", "other")
    assert (refused.code, refused.out) == (ExitCode.REFUSED, "")
    assert "Network other/lent is shared to be used: user:alice may not delete it" in refused.err
    await scene.ok("admin", "get", "network", "lent", "-p", "other")


async def test_can_i_says_yes_and_no_by_text_and_exit_code(scene: Scene) -> None:
    assert "yes: user:alice may create Instance in project demo" in await scene.ok(
        "alice", "auth", "can-i", "create", "instances", "-p", "demo"
    )
    for words in (
        ("create", "instances", "-p", "other"),
        ("get", "instance/web-1", "-p", "other"),
        ("update", "hosts"),
        ("update", "instances", "--subresource", "status", "-p", "demo"),
        ("create", "sessions"),
        ("update", "keys", "--subresource", "policy", "-p", "other"),
    ):
        ended = await scene("alice", "auth", "can-i", *words)
        assert ended.code == ExitCode.DIFFERENCE, ended
        assert ended.out.startswith("no: "), ended
    assert (await scene("alice", "auth", "can-i", "list", "instances", "-p", "demo", "-o", "json")).code == 0
    await scene.ok("alice", "auth", "can-i", "update", "keys", "--subresource", "policy", "-p", "demo")
    for words in (("jump", "hosts"), ("get", "nonsense"), ("get", "hosts/"), ("get",)):
        assert (await scene("alice", "auth", "can-i", *words)).code == ExitCode.USAGE
    ended = await scene("alice", "auth", "can-i", "get", "instances", "--subresource", "nonsense")
    assert ended.code == ExitCode.REFUSED
    assert "console" in ended.err


async def test_across_projects_the_answer_names_where(scene: Scene) -> None:
    scene.vcctl.context.pop("project")
    contexts = {"currentContext": "test", "contexts": [scene.vcctl.context]}
    scene.vcctl.config.write_text(yaml.safe_dump(contexts))
    assert "in project demo" in await scene.ok("alice", "auth", "can-i", "list", "instances")
    assert "its own" in await scene.ok("alice", "auth", "can-i", "list", "sessions")


async def test_about_others_answers_who_sees_the_grants_there(scene: Scene) -> None:
    assert "user:bob may list" in await scene.ok(
        "alice", "auth", "can-i", "list", "instances", "--as", "bob", "-p", "demo"
    )
    assert (await scene("alice", "auth", "can-i", "create", "instances", "--as", "bob", "-p", "demo")).code == 1
    assert (await scene("alice", "auth", "can-i", "get", "ports", "--as", "group:devs", "-p", "demo")).code == 0
    assert (
        await scene("alice", "auth", "can-i", "get", "ports", "--as", "serviceaccount:demo/ci", "-p", "demo")
    ).code == 1
    ended = await scene("alice", "auth", "can-i", "get", "ports", "--as", "bob", "-p", "other")
    assert ended.code == ExitCode.REFUSED
    await scene.log_in("bob")
    assert (await scene("bob", "auth", "can-i", "get", "ports", "--as", "alice", "-p", "demo")).code == ExitCode.REFUSED


async def test_who_is_hidden_and_who_is_not_there_look_alike(scene: Scene) -> None:
    """Zoe is outside of the domain, ghost is nowhere."""
    for words in (("can-i", "get", "ports", "-p", "demo"), ("can-i", "--list", "-p", "demo"), ("can-i", "--list")):
        texts = set()
        for name in ("zoe", "ghost"):
            ended = await scene("alice", "auth", *words, "--as", name)
            texts.add((ended.code, ended.out, ended.err.replace(name, "")))
        assert len(texts) == 1, texts
    plans = set()
    for name in ("zoe", "ghost"):
        given = scene.plan(binding("x", f"User:{name}", "member", "demo"))
        ended = await scene("alice", "auth", "plan", "-f", given)
        plans.add((ended.code, ended.out.replace(name, ""), ended.err.replace(name, "")))
    assert len(plans) == 1, plans
    await scene.log_in("bob")
    refusals = {(await scene("bob", "auth", "can-i", "--list", "--as", name)).err for name in ("alice", "ghost")}
    assert len(refusals) == 1


async def test_all_rights_are_listed(scene: Scene) -> None:
    own = await scene.ok("alice", "auth", "can-i", "--list")
    assert "project demo" in own
    assert "Instance" in own
    rights = json.loads(await scene.ok("alice", "auth", "can-i", "--list", "--as", "bob", "-o", "json"))
    assert {r["project"] for r in rights["rights"]} == {"demo"}
    assert "may nothing" in await scene.ok("alice", "auth", "can-i", "--list", "-p", "other")


async def test_a_plan_says_what_a_binding_and_its_end_would_change(scene: Scene) -> None:
    given = scene.plan(binding("bob-member", "User:bob", "member", "demo"))
    ended = await scene("alice", "auth", "plan", "-f", given)
    assert ended.code == ExitCode.DIFFERENCE
    assert "user:bob in project demo" in ended.out
    changes = json.loads((await scene("alice", "auth", "plan", "-f", given, "-o", "json")).out)
    assert all(c["granted"] and c["subject"] == "user:bob" and c["project"] == "demo" for c in changes)
    instance = next(c for c in changes if c["kind"] == "Instance" and not c.get("subresource"))
    assert instance["verbs"] == ["create", "update", "delete"]  # what the group gives already is not named again
    assert (await scene("alice", "auth", "can-i", "create", "instances", "--as", "bob", "-p", "demo")).code == 1
    await scene.ok("alice", "apply", "--no-wait", "-f", given)
    assert "nobody gains or loses" in await scene.ok("alice", "auth", "plan", "-f", given)


async def test_a_plan_counts_members_of_groups_rules_of_roles_and_disabled_users(scene: Scene) -> None:
    await scene.apply(
        thing("Role", "starter", {"rules": [{"verbs": ["get", "update"], "kinds": ["Instance"]}]}),
        binding("bob-starts", "User:bob", "starter", "other"),
    )
    joins = scene.plan(thing("Group", "devs", {"domain": "acme", "members": ["bob", "alice", "zoe"]}))
    changes = json.loads((await scene("admin", "auth", "plan", "-f", joins, "-o", "json")).out)
    assert {(c["subject"], c["granted"]) for c in changes} == {("user:zoe", True)}  # alice has all of it already
    less = scene.plan(thing("Role", "starter", {"rules": [{"verbs": ["get"], "kinds": ["Instance"]}]}))
    [change] = json.loads((await scene("admin", "auth", "plan", "-f", less, "-o", "json")).out)
    assert (change["subject"], change["granted"], change["verbs"]) == ("user:bob", False, ["update"])
    assert (change["kind"], change["project"]) == ("Instance", "other")
    assert "- may no more update: Instance" in (await scene("admin", "auth", "plan", "-f", less)).out
    gone = scene.plan(thing("User", "bob", {"domain": "acme", "enabled": False}))
    changes = json.loads((await scene("admin", "auth", "plan", "-f", gone, "-o", "json")).out)
    assert {(c["subject"], c["granted"]) for c in changes} == {("user:bob", False)}


async def test_a_plan_writes_nothing_and_leaves_the_real_rights_alone(scene: Scene) -> None:
    before = await scene.ok("admin", "get", "rolebindings", "-A", "-o", "json")
    given = scene.plan(thing("Project", "new", {"domain": "acme"}), binding("x", "User:bob", "admin"))
    assert (await scene("admin", "auth", "plan", "-f", given)).code == 1
    assert await scene.ok("admin", "get", "rolebindings", "-A", "-o", "json") == before
    assert (await scene("admin", "auth", "can-i", "delete", "hosts", "--as", "bob")).code == 1


async def test_a_plan_shows_no_grants_of_places_that_are_not_the_askers(scene: Scene) -> None:
    given = scene.plan(binding("bob-all", "User:bob", "reader", "other"), binding("b", "User:bob", "member", "demo"))
    changes = json.loads((await scene("alice", "auth", "plan", "-f", given, "-o", "json")).out)
    assert {c.get("project") for c in changes} == {"demo"}
    await scene.log_in("bob")
    assert (await scene("bob", "auth", "plan", "-f", given)).code == ExitCode.REFUSED


async def test_a_service_account_acts_with_its_key(scene: Scene) -> None:
    key = scene.vcctl.folder / "ci.key"
    words = ("auth", "key", "create", "ci", "--service-account", "ci", "-p", "demo", "--to", str(key))
    ended = await scene("alice", *words)
    assert (ended.code, ended.out) == (0, "")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    text = key.read_text().strip()
    for environ in ({"VCSTACK_API_KEY": text}, {"VCSTACK_API_KEY_FILE": str(key)}):
        assert "serviceaccount:demo/ci" in await scene.ok("ci", "whoami", **environ)
        assert (await scene("ci", "auth", "can-i", "get", "ports", "-p", "demo", **environ)).code == 1
    await scene.apply(
        thing("RoleBinding", "ci", {"subject": {"kind": "ServiceAccount", "name": "ci"}, "role": "member"}, "demo")
    )
    await scene.ok("ci", "get", "instances", "-p", "demo", VCSTACK_API_KEY=text)
    second = (await scene.ok("alice", "auth", "key", "rotate", "ci", "-p", "demo")).strip()
    assert second.partition(":")[0] == text.partition(":")[0]
    for each in (text, second):
        await scene.ok("ci", "whoami", VCSTACK_API_KEY=each)
    context = {**scene.vcctl.context, "name": "ci", "apiKeyFile": str(key)}
    context.pop("tokenFile")
    scene.vcctl.config.write_text(yaml.safe_dump({"currentContext": "ci", "contexts": [context]}))
    assert "the API key of the context" in await scene.ok("ci", "whoami")


async def test_who_may_make_a_secret_for_a_time_is_told_when_it_ends(scene: Scene) -> None:
    await scene.apply(binding("bob-on-call", "User:bob", "project-admin", "demo", expiresAt="2199-01-02T03:04:05Z"))
    await scene.log_in("bob")
    made = await scene("bob", "auth", "key", "create", "ci", "--service-account", "ci", "-p", "demo")
    assert made.code == 0
    assert "This secret ends at 2199-01-02 03:04 UTC" in made.err
    wire = json.loads(await scene.ok("alice", "get", "apikeys", "ci", "-p", "demo", "-o", "json"))
    assert wire["status"]["secretExpiresAt"] == "2199-01-02T03:04:05Z"
    assert "ends at" not in (await scene("alice", "auth", "key", "rotate", "ci", "-p", "demo")).err


@pytest.mark.parametrize("text", ["nonsense", ":", "a:", ":b", "a:b c"])
async def test_what_is_no_key_is_said_without_being_shown(scene: Scene, text: str) -> None:
    ended = await scene("ci", "whoami", VCSTACK_API_KEY=text)
    assert ended.code == ExitCode.REFUSED
    assert "KEYID:SECRET" in ended.err
    assert text == ":" or text not in ended.err


async def test_a_wrong_key_is_refused(scene: Scene) -> None:
    ended = await scene("ci", "whoami", VCSTACK_API_KEY="ak-000000000000:vck_wrong")
    assert ended.code == ExitCode.REFUSED
    assert "vck_wrong" not in ended.err + ended.out


async def test_a_key_of_ones_own_ends_when_it_is_said_to(scene: Scene) -> None:
    await scene.apply(binding("alice-keys", "User:alice", "domain-admin", domain="acme"))
    text = (
        await scene.ok("alice", "auth", "key", "create", "laptop", "--expires-in", "30d", "--network", "127.0.0.0/8")
    ).strip()
    assert "user:alice" in await scene.ok("laptop", "whoami", VCSTACK_API_KEY=text)
    wire = json.loads(await scene.ok("admin", "get", "apikeys", "laptop", "-o", "json"))
    assert wire["spec"]["user"] == "alice"
    assert wire["spec"]["expiresAt"]
    assert wire["spec"]["sourceNetworks"] == ["127.0.0.0/8"]
    for words in (("--expires-in", "soon"), ("--expires-in", "0d"), ("--user", "a", "--service-account", "b")):
        assert (await scene("alice", "auth", "key", "create", "k", *words)).code == ExitCode.USAGE


async def test_sessions_are_listed_and_revoked(scene: Scene) -> None:
    await scene.ok("alice-2", "login", "--user", "alice", stdin=lines(PASSWORD))
    listed = (await scene.ok("alice", "auth", "sessions", "list")).splitlines()
    assert len(listed) == 3
    assert [line for line in listed if line.startswith("*")]
    await scene.log_in("bob")
    other = next(line.split()[0] for line in listed[1:] if not line.startswith("*"))
    assert (await scene("bob", "auth", "sessions", "revoke", other)).code == ExitCode.NOT_FOUND
    await scene.ok("alice", "auth", "sessions", "revoke", "--others")
    assert (await scene("alice-2", "whoami")).code == ExitCode.REFUSED
    assert "user:alice" in await scene.ok("alice", "whoami")
    await scene.ok("alice-2", "login", "--user", "alice", stdin=lines(PASSWORD))
    await scene.ok("alice", "logout", "--everywhere")
    assert (await scene("alice-2", "whoami")).code == ExitCode.REFUSED
    assert "user:bob" in await scene.ok("bob", "whoami")


async def test_nobody_resets_who_may_more(scene: Scene) -> None:
    ended = await scene("alice", "auth", "reset-user", "zoe", "--yes")
    assert ended.code == ExitCode.NOT_FOUND
    assert (await scene("alice", "auth", "reset-user", "bob", "--yes")).code in (ExitCode.NOT_FOUND, ExitCode.REFUSED)


async def test_whoami_shows_groups_and_roles_by_project(scene: Scene) -> None:
    await scene.log_in("bob")
    text = await scene.ok("bob", "whoami")
    assert "groups: devs" in text
    assert "project demo" in text
    assert "reader" in text
    assert "ends" in text
    assert held(scene.vcctl, "bob")["user"] == "bob"
