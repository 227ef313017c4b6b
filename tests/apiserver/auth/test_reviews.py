"""What a plan of access costs: any project's administrator may ask, for a thousand objects at once."""

from collections import Counter
from typing import Any

import pytest

from tests.apiserver.test_accounts import as_, log_in, put
from tests.apiserver.test_tenancy import bind, put_roles
from tests.fixtures.api import Api
from vcstack.apiserver.auth import reviews


async def test_rules_are_spelt_out_once_and_the_asker_is_looked_at_once_a_place(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_roles(api)
    await put(api, "Project", "mine", {})
    await put(api, "User", "paul", {})
    await bind(api, "paul", "paul", "project-admin", "mine")
    robots = [f"robot-{n}" for n in range(5)]
    for name in robots:
        await put(api, "ServiceAccount", name, {}, "mine")
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        original = getattr(reviews, name)

        def counted(*given: Any, **named: Any) -> Any:
            calls[name] += 1
            return original(*given, **named)

        monkeypatch.setattr(reviews, name, counted)

    count("expand")
    count("find_hidden")
    wanted = [
        {
            "kind": "RoleBinding",
            "metadata": {"name": name, "project": "mine"},
            "spec": {"subject": {"kind": "ServiceAccount", "name": name}, "role": "member"},
        }
        for name in robots
    ]
    async with as_(api, await log_in(api, "paul")) as paul:
        answer = await paul.post("/api/v1/access/plan", json={"objects": wanted})
    assert answer.status_code == 200, answer.text
    assert {change["subject"] for change in answer.json()["changes"]} == {f"serviceaccount:mine/{n}" for n in robots}
    assert calls == {"expand": 1, "find_hidden": len(robots)}
