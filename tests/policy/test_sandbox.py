"""The process of expressions: right ones are evaluated, wrong ones explained, hostile ones end only themselves."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.manual_clock import ManualClock
from vcstack.policy.sandbox import CUSTOMER_PAYERS, SAVED_SECONDS, TOO_MUCH, TOO_OFTEN, Outcome, Sandbox
from vcstack.specs.errors import Unavailable

OBJECT: dict[str, Any] = {
    "kind": "Instance",
    "metadata": {"name": "web-1", "project": "demo", "labels": {"cost": "1234"}},
    "spec": {"flavor": "small", "count": 3, "names": ["a", "b"], "text": "a" * 500_000, "many": list(range(2000))},
}
REQUEST = {"verb": "create", "subject": "user:alice", "project": "demo"}


@pytest.fixture
async def in_no_time() -> AsyncIterator[Sandbox]:
    """One for which time stands still, so that nothing is made up for while a busy machine lets it wait."""
    made = Sandbox(monotonic=ManualClock().monotonic)
    yield made
    await made.close()


async def ask(
    sandbox: Sandbox, *texts: str, old: dict[str, Any] | None = None, whose: str = "project demo"
) -> list[Outcome]:
    return await sandbox.evaluate(texts, OBJECT, old, REQUEST, whose=whose)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("object.spec.count < 5", True),
        ("object.spec.count > 5", False),
        ("object.metadata.labels.cost.matches('^[0-9]{4}$')", True),
        ("'owner' in object.metadata.labels", False),
        ("has(object.spec.image)", False),
        ("object.spec.names.all(n, size(n) == 1)", True),
        ("oldObject == null || oldObject.spec.count <= object.spec.count", True),
        ("request.verb == 'create' && request.subject.startsWith('user:') && request.project == 'demo'", True),
        ("duration('90m') > duration('1h')", True),
    ],
)
async def test_an_expression_says_yes_or_no(sandbox: Sandbox, text: str, value: bool) -> None:
    assert await ask(sandbox, text) == [Outcome(value)]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("object.spec.image == 'x'", "Key not found"),
        ("object.spec.count + 'a' == 'b'", "No matching overload"),
        ("object.spec.count", "true or false is needed"),
        ("'yes'", "true or false is needed"),
        ("1 / 0 == 1", "divide by zero"),
        ("9223372036854775807 + 1 > 0", "overflow"),
        ("object.spec.(", "cannot stand here"),
        ("open('/etc/passwd') == ''", "no function open"),
        ("object.__class__ == 1", "Key not found"),
        ("object.spec.text.matches('(')", "missing )"),
        ("(" * 1000 + "true" + ")" * 1000, "recursion limit"),
        ("+".join(["1"] * 1000) + " > 0", "recursion"),
        ("object.spec.many.all(a, object.spec.many.all(b, a + b >= 0))", "budget"),
    ],
)
async def test_what_is_wrong_is_said_in_a_line(sandbox: Sandbox, text: str, word: str) -> None:
    [outcome] = await ask(sandbox, text)
    assert word in outcome.error
    assert "\n" not in outcome.error
    assert len(outcome.error) <= 300


def doubling(times: int) -> str:
    text = "[object.spec.text]"
    for _ in range(times):
        text = f"{text}.map(x, x + x)"
    return f"{text}.size() == 1"


LOOPS = "[0,1,2,3,4,5,6,7,8,9]"
HOSTILE = [
    doubling(16),
    f"{LOOPS}.all(a, {LOOPS}.all(b, {LOOPS}.all(c, object.spec.text.matches('(a|b)*c') || true)))",
]


@pytest.mark.parametrize("text", HOSTILE, ids=["memory", "time"])
async def test_what_takes_too_much_ends_only_itself_and_is_not_tried_again_at_once(sandbox: Sandbox, text: str) -> None:
    expected = [Outcome(True), Outcome(error=TOO_MUCH), Outcome(True)]
    assert await ask(sandbox, "true", text, "object.spec.count == 3") == expected
    process = sandbox._process
    assert await ask(sandbox, "true", text, "object.spec.count == 3") == expected
    assert sandbox._process is process


async def test_what_takes_too_much_on_ones_objects_is_tried_on_anothers_and_can_be_read(sandbox: Sandbox) -> None:
    text = HOSTILE[0]
    small = {**OBJECT, "spec": {"text": ""}}
    assert await ask(sandbox, text) == [Outcome(error=TOO_MUCH)]
    assert await sandbox.evaluate([text], small, None, REQUEST, whose="project demo") == [Outcome(error=TOO_MUCH)]
    assert await sandbox.evaluate([text], small, None, REQUEST, whose="project other") == [Outcome(True)]
    assert await sandbox.evaluate([text], small, None, REQUEST, "domain acme", "project demo") == [Outcome(True)]
    assert await sandbox.evaluate([text], small, None, REQUEST) == [Outcome(True)]
    assert await sandbox.compile([text]) == [Outcome()]


async def test_who_takes_too_much_for_long_waits_and_others_do_not(in_no_time: Sandbox) -> None:
    slow = f"{LOOPS}.all(a, {LOOPS}.all(b, object.spec.text.matches('(a|b)*c') || true))"

    async def pay(payer: str, text: str) -> str:
        [outcome] = await in_no_time.evaluate([text], OBJECT, None, REQUEST, payer)
        return outcome.error

    hungry = 0
    while await pay("project mine", f"{slow} && {hungry} >= 0") != TOO_OFTEN:
        hungry += 1
        assert hungry < 1000
    assert hungry > 1
    assert await pay("project theirs", "true") == ""
    assert await pay("", "true") == ""


async def test_whose_many_projects_take_too_much_together_waits_and_others_do_not(in_no_time: Sandbox) -> None:
    async def pay(payer: str, customer: str) -> str:
        [outcome] = await in_no_time.evaluate(["true"], OBJECT, None, REQUEST, payer, customer=customer)
        return outcome.error

    for n in range(CUSTOMER_PAYERS):
        assert await pay(f"project evil{n}", "customer evil") == ""
        in_no_time._charge("customer evil", SAVED_SECONDS, CUSTOMER_PAYERS)
    assert await pay("project evil-more", "customer evil") == TOO_OFTEN
    assert await pay("project acme", "customer acme") == ""
    assert await pay("project free", "") == ""
    assert await pay("", "customer evil") == "", "the cloud's own cost nobody anything"


async def test_texts_are_compiled_without_an_object(sandbox: Sandbox) -> None:
    found = await sandbox.compile(["object.a.b.c", "1 +", "'a'"])
    assert [bool(outcome.error) for outcome in found] == [False, True, True]


async def test_many_at_once_get_their_own_answers(sandbox: Sandbox) -> None:
    async def one(number: int) -> bool:
        found = await sandbox.evaluate(["object.n == int(request.n)"], {"n": number}, None, {"n": str(number)})
        return found == [Outcome(True)]

    assert all(await asyncio.gather(*(one(n) for n in range(100))))


async def test_who_gives_up_waiting_leaves_no_answer_for_the_next(sandbox: Sandbox) -> None:
    await ask(sandbox, "true")
    task = asyncio.create_task(ask(sandbox, *["false"] * 50))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ask(sandbox, "true") == [Outcome(True)]


async def test_a_killed_process_is_replaced(sandbox: Sandbox) -> None:
    assert await ask(sandbox, "true") == [Outcome(True)]
    assert sandbox._process is not None
    sandbox._process.kill()
    await sandbox._process.wait()
    assert await ask(sandbox, "true") == [Outcome(True)]


async def test_the_process_knows_neither_our_environment_nor_our_folder(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VCSTACK_PLANTED", "hunter2")
    await ask(sandbox, "true")
    assert sandbox._process is not None
    pid = sandbox._process.pid
    with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: ASYNC230 (of /proc)
        assert b"hunter2" not in file.read()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    with open(f"/proc/{pid}/limits") as file:  # noqa: ASYNC230 (of /proc)
        limits = {line.rsplit("  ", 3)[0].strip()[:25].strip(): line for line in file}
    assert limits["Max core file size"].split()[4:6] == ["0", "0"]


async def test_closed_it_leaves_no_process(sandbox: Sandbox) -> None:
    await ask(sandbox, "true")
    process = sandbox._process
    assert process is not None
    await sandbox.close()
    assert process.returncode is not None


async def test_where_no_process_starts_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    broken = Sandbox()
    with pytest.raises(Unavailable):
        await ask(broken, "true")


WORDS = ["object", "spec", "oldObject", "request", ".", "[", "]", "(", ")", "'a'", "1", "0", "&&", "||", "!", "==", "<"]
WORDS += [
    "+",
    "-",
    "/",
    "%",
    "?",
    ":",
    "in",
    ".all(x, x)",
    ".map(x, x)",
    ".size()",
    "has(",
    "null",
    "{",
    "}",
    ",",
    "\n",
]
pieces = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)


@given(st.lists(st.one_of(pieces, st.text(min_size=1, max_size=200)), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
async def test_whatever_is_written_there_is_one_answer_for_each_and_the_process_lives(
    sandbox: Sandbox, texts: list[str]
) -> None:
    found = await ask(sandbox, *texts, "true")
    assert len(found) == len(texts) + 1
    assert found[-1] == Outcome(True)
    assert all(isinstance(o.value, bool) and isinstance(o.error, str) for o in found)
