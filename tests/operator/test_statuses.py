"""What a custom resource's status says of its object."""

from datetime import UTC, datetime, timedelta
from typing import Any

from vcstack.operator.kubernetes import Key
from vcstack.operator.statuses import Outcome, State, build_status, find_condition

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
THEN = "2026-11-23T08:00:00Z"
KEY = Key("Network", "demo", "web")
APPLIED = Outcome(State.APPLIED)


def custom(generation: int = 3, **status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": generation, "uid": "u"}, "status": status}


def live(ready: str = "True", *, generation: int = 7, observed: int = 7, **status: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "reason": "Because", "message": "it is so"}
    condition |= {"observedGeneration": observed, "lastTransitionTime": THEN}
    meta = {"name": "web", "project": "demo", "uid": "net-1", "generation": generation}
    return {"metadata": meta, "status": {"observedGeneration": observed, "conditions": [condition], **status}}


def status_of(resource: dict[str, Any], found: dict[str, Any] | None, outcome: Outcome = APPLIED) -> dict[str, Any]:
    return build_status(KEY, resource, found, outcome, name="op", now=NOW)


def said(status: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


def test_what_is_well_is_current() -> None:
    status = status_of(custom(), live(mtuBytes=1442))
    assert said(status) == {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
    assert status["observedGeneration"] == 3
    assert status["mtuBytes"] == 1442
    assert {c["observedGeneration"] for c in status["conditions"]} == {3}


def test_what_the_cloud_still_works_on_is_reconciling_with_its_words() -> None:
    for found in (live("False"), live("True", observed=6)):
        status = status_of(custom(), found)
        assert said(status)["Reconciling"] == "True"
        assert find_condition({"status": status}, "Reconciling")["message"] == "it is so"


def test_an_observation_of_an_older_spec_does_not_count_for_the_newest() -> None:
    before = status_of(custom(2), live())
    status = status_of(custom(3, **before), live(observed=6))
    assert find_condition({"status": status}, "Ready")["observedGeneration"] == 2


def test_what_nothing_is_observed_of_yet_is_not_ready() -> None:
    found = live()
    del found["status"]
    assert said(status_of(custom(), found)) == {"Ready": "False", "Reconciling": "True", "Stalled": "False"}


def test_a_refusal_is_stalled_and_not_ready() -> None:
    status = status_of(custom(), live(), Outcome(State.STALLED, "Invalid", "no"))
    assert said(status) == {"Ready": "False", "Reconciling": "False", "Stalled": "True"}
    assert status["observedGeneration"] == 3


def test_a_kind_that_says_itself_that_it_is_stalled_is() -> None:
    found = live("False")
    own = {"type": "Stalled", "status": "True", "reason": "PruneProtected", "message": "", "observedGeneration": 7}
    found["status"]["conditions"].append({**own, "lastTransitionTime": THEN})
    status = status_of(custom(), found)
    assert said(status) == {"Ready": "False", "Reconciling": "False", "Stalled": "True"}
    stalled = find_condition({"status": status}, "Stalled")
    assert (stalled["reason"], stalled["message"]) == ("Because", "it is so")
    # What was said of an older spec does not hold the newest up.
    found["metadata"]["generation"] = 8
    assert said(status_of(custom(), found))["Reconciling"] == "True"


def test_while_the_cloud_is_away_what_was_observed_stays() -> None:
    before = status_of(custom(2), live(mtuBytes=1442))
    status = status_of(custom(3, **before), None, Outcome(State.AWAY, "ServiceUnavailable", "cannot be reached"))
    assert said(status) == {"Ready": "True", "Reconciling": "True", "Stalled": "False"}
    assert status["mtuBytes"] == 1442
    assert status["vcstack"]["uid"] == "net-1"
    # The newest generation has not been worked on.
    assert status["observedGeneration"] == 2


def test_times_change_with_the_answer_only() -> None:
    before = status_of(custom(), live())
    later = build_status(KEY, custom(**before), live(), APPLIED, name="op", now=NOW + timedelta(hours=1))
    assert later == before
