"""What words on the command line mean, and how things are printed: pure parts."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from vcstack.specs.kinds.instance import Instance
from vcstack.specs.manifest import load_documents
from vcstack.specs.registry import get_kind
from vcstack.vcctl.commands.change import split_changes
from vcstack.vcctl.commands.wait import parse_goal
from vcstack.vcctl.errors import CommandError
from vcstack.vcctl.printing import Table, parse_output, sort_objects, to_yaml
from vcstack.vcctl.selection import parse_objects, parse_one, parse_selections
from vcstack.vcctl.waiting import condition_goal, deleted, parse_duration


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["instances"], ["instances"]),
        (["vm", "a", "b", "a"], ["instance/a", "instance/b"]),
        (["instance/a", "net/b"], ["instance/a", "network/b"]),
        (["instances,networks"], ["instances", "networks"]),
        (["instances,vm"], ["instances"]),
    ],
)
def test_words_select_kinds_and_objects(words: list[str], meant: list[str]) -> None:
    assert [str(s) for s in parse_selections(words)] == meant


def test_all_stands_for_every_kind_that_users_write() -> None:
    kinds = [s.definition.kind for s in parse_selections(["all"])]
    assert {"Project", "Instance"} <= set(kinds)
    assert "Event" not in kinds


@pytest.mark.parametrize("words", [[], ["nonsense"], ["vm,net", "a"], ["vm", "net/a"], ["vm/"], ["/a"]])
def test_words_that_select_nothing_clear_are_refused_with_a_hint(words: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        parse_selections(words)
    assert caught.value.hint


def test_commands_for_one_object_take_one() -> None:
    assert str(parse_one(["vm", "a"])) == "instance/a"
    for words in (["vm"], ["vm", "a", "b"]):
        with pytest.raises(CommandError):
            parse_one(words)


def test_commands_of_a_fixed_kind_take_names_with_and_without_it() -> None:
    assert parse_objects(["a", "vm/b", "a"], Instance.KIND) == ["a", "b"]
    with pytest.raises(CommandError):
        parse_objects(["net/a"], Instance.KIND)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h", 3600), ("0.5s", 0.5), ("2m5", 125)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "5 m", "-5s", "m", "1d"])
def test_durations_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(CommandError):
        parse_duration(text)


def test_changes_are_told_from_objects() -> None:
    assert split_changes(["vm", "a", "x=1", "y-", "z="]) == (["vm", "a"], {"x": "1", "y": None, "z": ""})
    with pytest.raises(CommandError):
        split_changes(["vm", "a"])


@pytest.mark.parametrize("text", ["", "table=3", "jsonpath", "jsonpath=", "xml", "json=x", "custom-columns"])
def test_output_formats_that_are_not_there_are_refused(text: str) -> None:
    if not text:
        assert parse_output(text).is_table
        return
    with pytest.raises(CommandError):
        parse_output(text)


def test_tables_are_coloured_on_a_terminal_and_plain_elsewhere() -> None:
    for terminal in (True, False):
        out = io.StringIO()
        table = Table(["NAME", "READY"])
        table.add(["a\nb\x1b[31m", "True"])
        colours = "standard" if terminal else "auto"
        table.print(Console(file=out, force_terminal=terminal, width=10, color_system=colours, highlight=False))  # type: ignore[arg-type]
        text = out.getvalue()
        assert ("\x1b[32mTrue" in text) == terminal
        assert "a b [31m" in text
        assert "\x1b[31m" not in text


def test_objects_are_sorted_by_numbers_then_words_then_nothing() -> None:
    items = [{"n": n} for n in ("b", 10, None, 9, "a")]
    assert [i["n"] for i in sort_objects(items, "{.n}")] == [9, 10, "a", "b", None]


def test_yaml_keeps_the_order_and_writes_long_texts_as_blocks() -> None:
    assert to_yaml({"b": "x\ny\n", "a": "yes"}) == "b: |\n  x\n  y\na: 'yes'\n"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.from_regex(r"[0-9.eox+-]{1,6}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(["1e3", "0o7", "<<", "~", "no"]), json_values, max_size=4))
def test_the_yaml_that_is_printed_is_read_back_by_apply(value: dict[str, object]) -> None:
    assert load_documents(to_yaml(value), source="-") == [value]


def wire(**status: object) -> dict[str, object]:
    return {"kind": "Instance", "metadata": {"name": "a", "generation": 2}, "status": status}


def condition(status: str, generation: int = 2) -> dict[str, object]:
    return {"type": "Ready", "status": status, "reason": "R", "message": "m", "observedGeneration": generation}


def test_a_condition_counts_only_for_the_newest_generation() -> None:
    goal, kind = condition_goal("Ready", "True"), get_kind("Instance")
    assert goal(kind, wire(conditions=[condition("True")])) is None
    assert "newest change" in str(goal(kind, wire(conditions=[condition("True", 1)])))
    assert goal(kind, wire(conditions=[condition("False")])) == "Ready=False (R): m"
    assert "not been observed" in str(goal(kind, wire()))
    assert "does not exist" in str(goal(kind, None))


def test_a_deletion_is_reached_when_the_object_is_gone() -> None:
    held = {"kind": "Instance", "metadata": {"name": "a", "finalizers": ["x.io/y"]}, "status": {}}
    assert deleted(get_kind("Instance"), held) == "nobody has asked for its deletion"
    held["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert deleted(get_kind("Instance"), held) == "waits for x.io/y"
    assert deleted(get_kind("Instance"), None) is None


@pytest.mark.parametrize("text", ["condition", "condition=", "nonsense", "jsonpath"])
def test_goals_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(CommandError):
        parse_goal(text)


def test_values_are_goals() -> None:
    goal = parse_goal("jsonpath={.status.host}=h1")
    assert goal(get_kind("Instance"), wire(host="h1")) is None
    assert goal(get_kind("Instance"), wire(host="h2")) == "{.status.host} is h2"
