"""Generated files are fresh and complete."""

from vcstack.generate import CHECKOUT, FOLDER, build_files, find_present
from vcstack.specs.registry import load_kinds


def test_the_reference_is_what_make_generate_writes() -> None:
    stale = [
        p for p, text in build_files().items() if not (CHECKOUT / p).exists() or (CHECKOUT / p).read_text() != text
    ]
    assert not stale, f"run make generate: {', '.join(stale)}"


def test_nothing_is_left_of_a_kind_that_is_gone() -> None:
    assert find_present() <= build_files().keys()


def test_every_kind_has_a_page_that_names_all_fields_of_its_spec() -> None:
    files = build_files()
    for definition in load_kinds().values():
        page = files[f"{FOLDER}/{definition.plural}.md"]
        for name in definition.model.model_fields["spec"].annotation.model_fields:  # type: ignore[union-attr]
            alias = definition.model.model_fields["spec"].annotation.model_fields[name].alias  # type: ignore[union-attr]
            assert f"`{alias}`" in page, f"{definition.kind}.spec.{alias}"
