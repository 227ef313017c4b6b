"""Sets of fields in their encoded form."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vcstack.specs.fieldset import (
    MISSING,
    Path,
    changed_leaves,
    from_fields_v1,
    has_path,
    leaves_of,
    overlay_fields_v1,
    to_fields_v1,
)
from vcstack.specs.kinds.instance import Instance

PATHS = st.lists(st.sampled_from(["f:spec", "f:a", "f:b", 'k:{"name":"x"}']), min_size=1, max_size=4).map(tuple)


@given(st.sets(PATHS, max_size=8), PATHS)
def test_a_path_is_found_in_a_tree_exactly_when_it_is_in_the_set(paths: set[Path], path: Path) -> None:
    tree = to_fields_v1(paths)
    assert has_path(tree, path) == (path in paths)
    assert all(has_path(tree, each) for each in from_fields_v1(tree))


@given(st.sets(PATHS, max_size=8), st.sets(PATHS, max_size=4), st.sets(PATHS, max_size=4))
def test_members_are_added_and_removed_in_a_tree_as_in_the_set(
    paths: set[Path], added: set[Path], removed: set[Path]
) -> None:
    tree = to_fields_v1(paths)
    expected = to_fields_v1((paths | added) - removed)
    found = overlay_fields_v1(tree, added, removed)
    assert found == expected
    assert str(found) == str(expected), "the order is the same"


SMALL = st.sampled_from(["a", "b", "c"])
SCALARS = st.one_of(st.none(), st.booleans(), SMALL)


def keyed(key: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    item = st.fixed_dictionaries({key: SMALL}, optional=fields)
    return st.lists(item, max_size=3, unique_by=lambda each: each[key])


NAMES = st.lists(SMALL, max_size=3, unique=True)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {"name": SMALL},
            optional={"labels": st.dictionaries(SMALL, SCALARS, max_size=3), "finalizers": NAMES},
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "flavor": SCALARS,
                "sshKeys": NAMES,
                "networkInterfaces": keyed("name", network=SCALARS, securityGroups=NAMES),
                "placement": st.fixed_dictionaries({}, optional={"zone": SCALARS, "host": SCALARS}),
                "unheardOf": st.one_of(SCALARS, NAMES),
            },
        ),
        "status": st.fixed_dictionaries(
            {}, optional={"host": SCALARS, "conditions": keyed("type", status=SCALARS, reason=SCALARS)}
        ),
    },
)


@given(OBJECTS, OBJECTS, st.booleans())
def test_what_changed_is_what_two_whole_sets_differ_in(old: dict[str, Any], new: dict[str, Any], status: bool) -> None:
    before, after = leaves_of(Instance, old, status=status), leaves_of(Instance, new, status=status)
    changed = {path for path, value in after.items() if before.get(path, MISSING) != value}
    assert changed_leaves(Instance, old, new, status=status) == (changed, before.keys() - after.keys())
