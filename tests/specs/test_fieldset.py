"""Sets of fields in their encoded form."""

from hypothesis import given
from hypothesis import strategies as st

from vcstack.specs.fieldset import Path, from_fields_v1, has_path, to_fields_v1

PATHS = st.lists(st.sampled_from(["f:spec", "f:a", "f:b", 'k:{"name":"x"}']), min_size=1, max_size=4).map(tuple)


@given(st.sets(PATHS, max_size=8), PATHS)
def test_a_path_is_found_in_a_tree_exactly_when_it_is_in_the_set(paths: set[Path], path: Path) -> None:
    tree = to_fields_v1(paths)
    assert has_path(tree, path) == (path in paths)
    assert all(has_path(tree, each) for each in from_fields_v1(tree))
