"""What pipelines use: diff for a comment, plans in files, overlays, files encrypted by SOPS, reconcile."""

import asyncio
import json
from pathlib import Path

from tests.fixtures.sops_files import Identity, encrypt
from tests.vcctl.harness import Hands, Vcctl
from tests.vcctl.test_apply import group, network, project
from vcstack.applying.manifests import Manifest
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.gitsource import REQUESTED, GitSource
from vcstack.specs.registry import get_kind
from vcstack.store.actor import Actor
from vcstack.vcctl.errors import ExitCode
from vcstack.vcctl.examining import Examined
from vcstack.vcctl.markdown import render

BOB = Actor("user:bob", "bob")


async def test_a_comment_shows_what_is_made_changed_and_deleted_and_is_the_same_again(vcctl: Vcctl) -> None:
    vcctl.write("set/a.yaml", project(), network("web", mtuBytes=1400), network("old"))
    folder = str(vcctl.folder / "set")
    await vcctl.ok("apply", "-f", folder, "--set", "shop")
    assert (await vcctl("diff", "-f", folder, "-o", "markdown")).code == ExitCode.OK
    vcctl.write("set/a.yaml", project(), network("web", mtuBytes=1300), network("new"))
    words = ("diff", "-f", folder, "--set", "shop", "--prune", "-o", "markdown")
    ended = await vcctl(*words)
    assert ended.code == ExitCode.DIFFERENCE
    assert ended.lines[2] == "1 to be created, 1 to be changed, 1 to be deleted; 1 unchanged."
    assert "### Network `old` in project `demo` **would be deleted**" in ended.lines
    changed = ended.out.partition("### Network `web`")[2]
    assert "```diff\n@@ spec.mtuBytes (needs a stop and start) @@\n- 1400\n+ 1300\n```" in changed
    assert (await vcctl(*words)).out == ended.out
    assert "would be pruned" in (await vcctl(*words[:-2])).out


def test_what_is_hostile_in_names_and_values_is_text_in_a_comment() -> None:
    evil = "`` ``` <img src=x onerror=alert(1)> @everyone ](http://evil) \u202e\x1b[31m\n```\n# Heading"
    wire = {"kind": "Network", "metadata": {"name": evil, "project": "demo"}, "spec": {"mtuBytes": evil}}
    refused = render([Examined(Manifest(get_kind("Network"), wire, "x.yaml"), refusal=Invalid(evil))])
    assert "\x1b" not in refused
    assert "\u202e" not in refused
    lines = refused.splitlines()
    assert lines.count("# Heading") == 0
    fence = next(line for line in lines if line.endswith("text")).removesuffix("text")
    inside = lines[lines.index(f"{fence}text") + 1 :]
    assert len(fence) > 3, "longer than what is inside"
    assert all("<img" not in line or line in inside or line.startswith("### Network ```` ") for line in lines)


async def test_a_plan_does_exactly_what_it_says(vcctl: Vcctl, busy_hands: Hands) -> None:
    vcctl.write("set/a.yaml", project(), network("web", mtuBytes=1400), network("old"))
    file = vcctl.folder / "change.plan"
    folder, plan = str(vcctl.folder / "set"), str(file)
    await vcctl.ok("apply", "-f", folder, "--set", "shop")
    vcctl.write("set/a.yaml", project(), network("web", mtuBytes=1300), network("new"))
    out = await vcctl.ok("plan", "-f", folder, "--set", "shop", "--prune", "-o", plan)
    assert "network/old" in out
    assert file.stat().st_mode & 0o777 == 0o600
    wire = json.loads(file.read_text())
    assert [o["action"] for o in wire["objects"]] == ["Unchanged", "Update", "Create", "Delete"]
    assert wire["objects"][1]["uid"].startswith("net")
    vcctl.write("set/a.yaml", project())
    done = await vcctl.ok("apply", "--plan", plan, "--wait")
    assert "network/web configured" in done
    assert "network/new created" in done
    assert "network/old pruned" in done
    assert "3 objects are Ready" in done
    assert (await vcctl("get", "network", "old")).code == ExitCode.NOT_FOUND
    again = await vcctl("apply", "--plan", plan)
    assert again.code == ExitCode.REFUSED


async def test_a_plan_is_refused_when_the_world_moved_on_and_says_what_moved(vcctl: Vcctl, hands: Hands) -> None:
    file, plan = vcctl.write("a.yaml", project(), network("web", mtuBytes=1400)), str(vcctl.folder / "change.plan")
    await vcctl.ok("apply", "-f", file)
    vcctl.write("a.yaml", project(), network("web", mtuBytes=1300), network("new"))
    await vcctl.ok("plan", "-f", file, "-o", plan)
    await hands.observe_all()  # a status says nothing of what is wanted
    await vcctl.ok("apply", "--plan", plan, "--dry-run")
    store = vcctl.api.store
    await store.merge_patch(get_kind("Network"), "demo", "web", {"spec": {"mtuBytes": 1290}}, actor=BOB)
    await store.create(get_kind("Network"), {"metadata": {"project": "demo", "name": "new"}, "spec": {}}, actor=BOB)
    ended = await vcctl("apply", "--plan", plan)
    assert ended.code == ExitCode.REFUSED
    assert "network/web spec.mtuBytes changed since: 1400 to 1290" in ended.err
    assert "network/new was created since" in ended.err
    assert (await vcctl.ok("get", "network", "web", "-o", "jsonpath={.spec.mtuBytes}")).strip() == "1290"


async def test_a_set_that_is_too_large_for_one_request_is_planned_as_one(vcctl: Vcctl) -> None:
    """What is in the project, and what refers to what, is in other requests than that."""
    for n in range(4):
        large = [
            {"kind": "Secret", "metadata": {"name": f"s{n}{m}"}, "spec": {"data": {"a": "x" * 60_000}}}
            for m in range(6)
        ]
        vcctl.write(f"set/{n}.yaml", *large)
    vcctl.write("set/a.yaml", project())
    subnet = {"kind": "Subnet", "metadata": {"name": "s"}, "spec": {"network": "web", "cidr": "10.0.0.0/24"}}
    vcctl.write("set/z.yaml", network("web"), subnet)
    ended = await vcctl("diff", "-f", str(vcctl.folder / "set"))
    assert (ended.code, ended.err) == (ExitCode.DIFFERENCE, "")
    assert ended.out.count("would be created") == 27


async def test_secret_values_are_in_no_plan_and_come_from_the_manifests(vcctl: Vcctl) -> None:
    secret = {"kind": "Secret", "metadata": {"name": "db"}, "spec": {"data": {"password": "correct horse"}}}
    kept = vcctl.folder / "change.plan"
    file, plan = vcctl.write("a.yaml", project(), secret), str(kept)
    await vcctl.ok("plan", "-f", file, "-o", plan)
    assert "correct" not in kept.read_text()
    alone = await vcctl("apply", "--plan", plan)
    assert alone.code == ExitCode.LOCAL
    assert "secret/db has secret values" in alone.err
    vcctl.write("a.yaml", project(), {**secret, "spec": {"data": {"other": "x"}}})
    assert "something else" in (await vcctl("apply", "--plan", plan, "-f", file)).err
    vcctl.write("a.yaml", project(), secret)
    await vcctl.ok("apply", "--plan", plan, "-f", file)
    assert "correct horse" in (await vcctl.api.store.reveal(get_kind("Secret"), "demo", "db"))["spec"]["data"].values()


async def test_what_is_no_plan_is_refused(vcctl: Vcctl) -> None:
    file = vcctl.folder / "x.plan"
    for text in ("{}", "[1]", "not json", '{"version": "vcstack.io/plan/v1"}'):
        file.write_text(text)
        assert (await vcctl("apply", "--plan", str(file))).code == ExitCode.LOCAL
    assert (await vcctl("apply", "--plan", str(file), "--prune")).code == ExitCode.USAGE


async def test_an_overlay_changes_fields_and_adds_objects(vcctl: Vcctl) -> None:
    ssh = {"name": "ssh", "direction": "Ingress", "protocol": "TCP", "portMin": 22, "portMax": 22}
    web = {"name": "web", "direction": "Ingress", "protocol": "TCP", "portMin": 80, "portMax": 80}
    base = vcctl.write("base/a.yaml", project(), network("web", mtuBytes=1400), group("g", ssh, web))
    labelled = {**network("web"), "metadata": {"name": "web", "labels": {"env": "prod"}}}
    over = vcctl.write("prod/a.yaml", labelled, group("g", {**web, "portMin": 443, "portMax": 443}), network("more"))
    folder, above = str(Path(base).parent), str(Path(over).parent)
    out = await vcctl.ok("apply", "-f", folder, "--overlay", above)
    assert out.count("created") == 4
    found = json.loads(await vcctl.ok("get", "network", "web", "-o", "json"))
    assert (found["spec"]["mtuBytes"], found["metadata"]["labels"]["env"]) == (1400, "prod")
    rules = json.loads(await vcctl.ok("get", "securitygroup", "g", "-o", "json"))["spec"]["rules"]
    assert {r["name"]: r["portMin"] for r in rules} == {"ssh": 22, "web": 443}
    assert (await vcctl("diff", "-f", folder, "--overlay", above)).code == ExitCode.OK


async def test_files_encrypted_by_sops_are_applied_with_the_identities_of_the_environment(vcctl: Vcctl) -> None:
    await vcctl.ok("apply", "-f", "-", stdin="kind: Project\nmetadata: {name: demo}\nspec: {}\n")
    me = Identity()
    secret = {"kind": "Secret", "metadata": {"name": "db"}, "spec": {"data": {"password": "correct horse"}}}
    file, keys = vcctl.folder / "secret.yaml", vcctl.folder / "keys.txt"
    file.write_text(encrypt([secret], me.recipient))
    ended = await vcctl("apply", "-f", str(file))
    assert ended.code == ExitCode.LOCAL
    assert "SOPS_AGE_KEY_FILE" in ended.err
    keys.write_text(me.secret)
    assert "correct" not in await vcctl.ok("apply", "-f", str(file), SOPS_AGE_KEY_FILE=str(keys))
    assert "unchanged" in await vcctl.ok("apply", "-f", str(file), SOPS_AGE_KEY=me.secret)
    found = await vcctl.api.store.reveal(get_kind("Secret"), "demo", "db")
    assert found["spec"]["data"] == {"password": "correct horse"}
    file.write_text(encrypt([{"kind": "List", "items": [secret]}], me.recipient))
    assert "unchanged" in await vcctl.ok("apply", "-f", str(file), SOPS_AGE_KEY=me.secret)


async def test_reconcile_waits_until_the_source_has_looked_and_says_what_came_of_it(vcctl: Vcctl, hands: Hands) -> None:
    account = {"kind": "ServiceAccount", "metadata": {"name": "ci"}, "spec": {}}
    source = {
        "kind": "GitSource",
        "metadata": {"name": "shop"},
        "spec": {"url": "https://git.example.com/x.git", "serviceAccount": "ci"},
    }
    await vcctl.ok("apply", "-f", vcctl.write("a.yaml", project(), account, source))

    async def answer(seen: str, **status: str) -> str:
        """Look, as the controller does, once somebody has asked."""
        while True:
            found = await hands.get(GitSource, "shop")
            asked = found.metadata.annotations.get(REQUESTED, "")
            if asked != seen:
                await hands.observe(found, but={k: (v, "as the test says") for k, v in status.items()},
                                    handledRequest=asked, objects=2, revision="main@0d1a26e67d")  # fmt: skip
                return str(asked)
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(answer(""))
    out = await vcctl.ok("reconcile", "gitsource", "shop")
    assert "gitsource/shop applied main@0d1a26e67d: 2 objects" in out
    looking = asyncio.create_task(answer(await looking, Applied="BadManifest"))
    ended = await vcctl("reconcile", "gitsource", "shop")
    assert ended.code == ExitCode.FAILED
    assert "Applied=False (BadManifest)" in ended.err
    await looking
    assert (await vcctl("reconcile", "network", "web")).code == ExitCode.USAGE
    await vcctl.ok("patch", "gitsource", "shop", "--patch", "spec: {suspend: true}")
    assert "suspended" in (await vcctl("reconcile", "gitsource", "shop")).err
