"""What an apply says that it did."""

from typing import Any

import pytest

from vcstack.applying.sets import Result, result_of

LIVE = {"metadata": {"uid": "net-1", "generation": 1, "resourceVersion": "5"}, "spec": {"mtu": 1400}, "status": {}}


def changed(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {**LIVE["metadata"], **metadata}, "spec": {**LIVE["spec"], **(spec or {})}}


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("wire", "result"),
    [
        (changed(resourceVersion="6"), Result.UNCHANGED),  # a status was written meanwhile
        (changed({"mtu": 1300}, generation=2), Result.CONFIGURED),
        (changed(labels={"a": "b"}), Result.CONFIGURED),
        (changed(uid="net-2"), Result.CONFIGURED),
    ],
)
def test_an_object_is_configured_when_it_was_changed_and_not_when_its_status_was(
    wire: dict[str, Any], result: Result, dry_run: bool
) -> None:
    assert result_of(LIVE, wire, dry_run=dry_run) is result
    assert result_of(None, wire, dry_run=dry_run) is Result.CREATED


def test_a_secret_value_that_nobody_sees_is_a_change_too() -> None:
    assert result_of(LIVE, changed(generation=2), dry_run=False) is Result.CONFIGURED
