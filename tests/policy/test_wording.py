"""What is told about expressions that are none, by the library's real messages."""

from collections.abc import AsyncIterator

import pytest

from vcstack.policy.sandbox import Sandbox
from vcstack.policy.wording import LONGEST, explain


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox()
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("object.spec.flavor = 'x'", "character 20: = compares nothing; write =="),
        ("object.spec.flavor == 'x", "character 23: the text that begins here does not end; a quote is missing"),
        ("obj.spec.x == 1", "character 9: there is no obj; expressions know object, oldObject and request"),
        ("size(object.spec", "character 17: ) is missing"),
        ("object.a.startWith('a')", "character 19: there is no function startWith; did you mean startsWith?"),
        ("object.a.exist(i, i == 1)", "character 15: there is no function exist; did you mean exists?"),
        ("foo(2) == 1", "character 4: there is no function foo"),
        ("1 + 'a' == 2", "character 3: + does not take (int, string)"),
        ("object.spec.x ==", "character 17: the expression ends in the middle"),
        ("true and true", "character 6: and cannot stand here; an operator such as && || ! == != < > in is expected"),
        ("true &&\n&& true", "line 2, character 1: && cannot stand here; a value is expected"),
        ("object.spec.(", "character 13: .( cannot stand here"),
        ("if (true) {}", "character 1: if is a reserved word; there are no statements, only one value: true or false"),
        ("!@", "character 2: @ means nothing here"),
        ("'x'", "gives a value of type string; true or false is needed"),
    ],
)
async def test_it_is_told_where_and_what_to_write(sandbox: Sandbox, text: str, told: str) -> None:
    [outcome] = await sandbox.compile([text])
    assert outcome.error == told


async def test_what_comes_of_an_object_is_told_as_it_is(sandbox: Sandbox) -> None:
    [outcome] = await sandbox.evaluate(["object.spec.x == 1"], {"spec": {}}, None, {})
    assert outcome.error == 'Key not found in map : "x"'


@pytest.mark.parametrize("text", ["<input>:9:9: Syntax error: x\x1b[31m" + "y" * 999, "\0", "<input>:1:1: undeclared"])
def test_whatever_the_library_says_is_one_short_line(text: str) -> None:
    told = explain("true", text)
    assert len(told) <= LONGEST
    assert told.isprintable()
