"""Policies: which make sense, and what they report of what exists."""

from typing import Any

import pytest

from tests.fakes.world import PROJECT, World, sweep
from tests.kinds.identities import make_domain, make_project
from vcstack.controllers import policy
from vcstack.controllers.policy import COUNT_SECONDS, EVALUATING
from vcstack.policy.evaluation import show_object
from vcstack.policy.sandbox import SAVED_SECONDS, SHARE, TOO_MUCH, TOO_OFTEN, Sandbox
from vcstack.specs.errors import Invalid
from vcstack.specs.kinds.event import Event
from vcstack.specs.kinds.network import Network, NetworkSpec
from vcstack.specs.kinds.policy import Policy, PolicySpec
from vcstack.specs.kinds.project import Project, ProjectSpec
from vcstack.specs.kinds.secret import Secret
from vcstack.specs.meta import ObjectMeta, OwnerReference
from vcstack.specs.resource import Ref


def build(name: str, project: str | None = None, **spec: Any) -> Policy:
    wire = {"matches": {"kinds": ["Network"]}, "requireLabels": [{"key": "cost"}], **spec}
    return Policy.new(name, PolicySpec.from_wire(wire), project=project)


@pytest.fixture
async def governed(world: World, sandbox: Sandbox) -> World:
    """The project demo, in the domain acme."""
    world.backends[EVALUATING.name] = sandbox
    await make_domain(world)
    await world.admin.create(Project(metadata=ObjectMeta(name=PROJECT), spec=ProjectSpec(domain="acme")))
    return world


async def settle(world: World) -> None:
    """Let the reports be made, which are not made all the time."""
    world.clock.skip(COUNT_SECONDS)
    await world.settle(policy.build)


async def make_network(world: World, name: str, project: str = PROJECT, **labels: str) -> Network:
    made = await world.admin.create(Network.new(name, NetworkSpec(), project=project, labels=labels))
    assert isinstance(made, Network)
    return made


async def report(world: World, name: str, project: str | None = None) -> tuple[int | None, int | None, list[str]]:
    status = (await world.admin.get(Policy, name, project)).status
    return status.checked, status.violations, [f"{v.object} {v.rule}: {v.message}" for v in status.violating]


@pytest.mark.parametrize(
    ("wanted", "field", "word"),
    [
        (build("p", PROJECT, domain="acme"), "spec.domain", "left out"),
        (build("p", domain="nowhere"), "spec.domain", "there is no Domain nowhere"),
        (
            build("p", matches={"kinds": ["Network"], "domains": ["acme", "amce"]}),
            "spec.matches.domains[1]",
            "there is no Domain amce",
        ),
        (build("p", requireLabels=[]), "spec.rules", "nothing to hold"),
        (build("p", matches={"kinds": ["Netwerk"]}), "spec.matches.kinds[0]", "is no kind"),
        (build("p", matches={"kinds": ["Policy"]}), "spec.matches.kinds[0]", "cannot be concerned"),
        (build("p", matches={"kinds": ["Event"]}), "spec.matches.kinds[0]", "cannot be concerned"),
        (
            build("p", PROJECT, matches={"kinds": ["Network"], "domains": ["acme"]}),
            "spec.matches",
            "concerns nothing else",
        ),
        (
            build("p", rules=[{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]),
            "spec.rules[1].name",
            "before it",
        ),
    ],
    ids=[
        "domain-in-project",
        "missing-domain",
        "missing-domains",
        "empty",
        "no-kind",
        "policies",
        "events",
        "domains-in-project",
        "twice",
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, wanted: Policy, field: str, word: str) -> None:
    await make_project(world)
    await make_domain(world)
    with pytest.raises(Invalid) as error:
        await world.admin.create(wanted)
    assert [c.field for c in error.value.causes] == [field]
    assert word in error.value.causes[0].message


@pytest.mark.parametrize(
    "spec",
    [
        {"rules": [{"name": "a", "expression": "x" * 2049}]},
        {"rules": [{"name": "a", "expression": ""}]},
        {"rules": [{"name": f"a{n}", "expression": "true"} for n in range(33)]},
        {"requireLabels": [{"key": "a", "valuePattern": "x" * 257}]},
        {"requireLabels": [{"key": "not a key"}]},
        {"matches": {"kinds": ["Network"], "labelSelector": "a in ("}},
        {"matches": {"kinds": ["Network"], "verbs": ["get"]}},
        {"action": "Explode"},
    ],
)
def test_what_is_too_large_or_of_another_shape_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"validation error"):
        build("p", **spec)


async def test_existing_objects_that_break_it_are_counted_and_named(governed: World) -> None:
    await make_network(governed, "good", cost="1234")
    await make_network(governed, "bad")
    await make_network(governed, "worse", cost="x")
    rules = [{"name": "short", "expression": "size(object.metadata.name) <= 4", "message": "Keep it short."}]
    labels = [{"key": "cost", "valuePattern": "[0-9]{4}"}]
    await governed.admin.create(build("p", PROJECT, action="Audit", requireLabels=labels, rules=rules))
    await settle(governed)
    assert await report(governed, "p", PROJECT) == (
        3,
        2,
        ["bad label cost: the label cost is required", "worse label cost: the label cost must match [0-9]{4}"],
    )
    found = await governed.admin.get(Policy, "p", PROJECT)
    assert found.is_true("Ready")
    compliant = found.find_condition("Compliant")
    assert compliant is not None
    assert (compliant.status, compliant.reason) == ("False", "Violations")
    assert "2 of 3" in compliant.message


async def test_the_report_follows_what_changes_and_says_so_in_events(governed: World) -> None:
    await governed.admin.create(build("p"))
    network = await make_network(governed, "a")
    await settle(governed)
    assert (await report(governed, "p"))[:2] == (1, 1)
    metadata = network.metadata.model_copy(update={"labels": {"cost": "1"}})
    await governed.admin.update(network.model_copy(update={"metadata": metadata}))
    await settle(governed)
    assert await report(governed, "p") == (1, 0, [])
    await make_network(governed, "b")
    await governed.admin.delete(Ref("Network", PROJECT, "a"))
    await governed.remove_finalizers(await governed.get(Network, "a"))
    await settle(governed)
    assert (await report(governed, "p"))[:2] == (1, 1)
    await governed.events.flush()
    reasons = {e.spec.reason for e in (await governed.admin.list(Event)).items if e.spec.regarding.kind == "Policy"}
    assert reasons == {"Violations", "NoViolations"}


async def test_nothing_is_written_while_nothing_changes(governed: World) -> None:
    await governed.admin.create(build("p"))
    await make_network(governed, "a")
    await settle(governed)
    assert await governed.writes_of(policy.build) == 0


async def test_killed_anywhere_the_report_is_made_all_the_same(sandbox: Sandbox) -> None:
    async def scenario(world: World) -> None:
        world.backends[EVALUATING.name] = sandbox
        await make_project(world)
        await world.admin.create(build("p"))
        await make_network(world, "a")
        await settle(world)
        assert (await report(world, "p"))[:2] == (1, 1)

    assert await sweep(scenario) > 0


async def test_a_policy_reports_what_lies_in_its_place_only(governed: World) -> None:
    await governed.admin.create(Project.new("other", ProjectSpec(), labels={"env": "prod"}))
    for project in (PROJECT, "other"):
        await make_network(governed, "net", project)
    places: dict[str, dict[str, Any]] = {
        "cloud": {},
        "acme": {"domain": "acme"},
        "of-acme": {"matches": {"kinds": ["*"], "domains": ["acme"]}},
        "prod": {"matches": {"kinds": ["Network"], "projectSelector": "env=prod"}},
        "labelled": {"matches": {"kinds": ["Network"], "labelSelector": "env"}},
        "deletions": {"matches": {"kinds": ["Network"], "verbs": ["delete"]}},
    }
    for name, spec in places.items():
        await governed.admin.create(build(name, **spec))
    await governed.admin.create(build("demo", PROJECT))
    await settle(governed)
    assert not governed.held
    found = {name: (await report(governed, name))[1] for name in places}
    assert found == {"cloud": 2, "acme": 1, "of-acme": 2, "prod": 1, "labelled": 0, "deletions": 0}
    assert (await report(governed, "demo", PROJECT))[1] == 1


async def test_what_the_cloud_makes_for_others_is_not_reported(governed: World) -> None:
    owner = await make_network(governed, "owner", cost="1")
    owned = Network.new("owned", NetworkSpec(), project=PROJECT)
    reference = OwnerReference(kind="Network", name="owner", uid=owner.uid, controller=True)
    metadata = owned.metadata.model_copy(update={"owner_references": [reference]})
    await governed.system.create(owned.model_copy(update={"metadata": metadata}))
    await governed.admin.create(build("p"))
    await settle(governed)
    assert await report(governed, "p") == (1, 0, [])


async def test_an_expression_that_cannot_be_read_is_a_condition(governed: World) -> None:
    await governed.admin.create(build("p", rules=[{"name": "broken", "expression": "1 +"}]))
    await make_network(governed, "a", cost="1")
    await settle(governed)
    found = await governed.admin.get(Policy, "p")
    accepted = found.find_condition("Accepted")
    assert accepted is not None
    assert (accepted.status, accepted.reason) == ("False", "ExpressionInvalid")
    assert found.status.violating[0].message.startswith("cannot be evaluated: ")


@pytest.mark.parametrize("failure", ["Fail", "Ignore"])
async def test_what_has_to_wait_for_its_turn_is_neither_broken_nor_kept(governed: World, failure: str) -> None:
    sandbox = governed.backends[EVALUATING.name] = Sandbox(monotonic=governed.clock.monotonic)
    governed.restart()
    try:
        for name in ("good", "bad"):
            await make_network(governed, name)
        rules = [{"name": "r", "expression": "object.metadata.name == 'good'"}]
        wanted = build("p", PROJECT, requireLabels=[], rules=rules, failurePolicy=failure)
        await governed.admin.create(wanted)
        sandbox._charge(f"project {PROJECT}", 2 * SAVED_SECONDS)
        await settle(governed)
        assert await report(governed, "p", PROJECT) == (None, None, [])
        assert TOO_OFTEN in str(governed.held[wanted.ref])
        governed.clock.skip(SAVED_SECONDS / SHARE)
        await settle(governed)
        checked, violations, _ = await report(governed, "p", PROJECT)
        assert (checked, violations) == (2, 1)
    finally:
        await sandbox.close()


async def test_an_object_that_takes_too_long_is_reported_alone_and_the_rule_stays_accepted(governed: World) -> None:
    text = "[object.metadata.annotations['a']]" + ".map(x, x + x)" * 17 + ".size() == 1"
    for name, project, size in (("a", PROJECT, 8192), ("b", PROJECT, 1), ("c", "other", 1)):
        if project != PROJECT:
            await governed.admin.create(Project(metadata=ObjectMeta(name=project), spec=ProjectSpec()))
        meta = ObjectMeta(name=name, project=project, annotations={"a": "x" * size})
        await governed.admin.create(Network(metadata=meta, spec=NetworkSpec()))
    await governed.admin.create(build("p", requireLabels=[], rules=[{"name": "r", "expression": text}]))
    await settle(governed)
    assert await report(governed, "p") == (3, 1, [f"a r: cannot be evaluated: {TOO_MUCH}"])
    await make_network(governed, "d")
    await settle(governed)
    [accepted] = [c for c in (await governed.admin.get(Policy, "p")).status.conditions if c.type == "Accepted"]
    assert (accepted.status, accepted.reason) == ("True", "Valid")


async def test_errors_are_no_violations_where_they_are_to_be_ignored(governed: World) -> None:
    rules = [{"name": "absent", "expression": "object.spec.nothing == 1"}]
    await make_network(governed, "a", cost="1")
    await governed.admin.create(build("fail", rules=rules))
    await governed.admin.create(build("ignore", rules=rules, failurePolicy="Ignore"))
    await settle(governed)
    assert (await report(governed, "fail"))[1] == 1
    assert (await report(governed, "ignore"))[1] == 0


def test_expressions_see_defaults_and_no_secrets() -> None:
    secret = Secret.from_wire(
        {"metadata": {"project": "demo", "name": "db"}, "spec": {"data": {"password": "correct horse"}}}
    )
    assert "correct horse" not in str(show_object(secret))
    assert show_object(secret)["spec"]["data"] == {"password": "***"}
    assert show_object(build("p"))["spec"]["action"] == "Deny"
