"""Fields by the path that people write, with what they may have meant."""

import difflib

from vcstack.specs.fielddocs import FieldDoc, document_tree, find_field
from vcstack.specs.registry import KindDefinition
from vcstack.vcctl.errors import CommandError


def find_known_field(definition: KindDefinition, path: str) -> FieldDoc:
    """Return the field at a dotted path of the kind's objects.

    Raises:
        CommandError: there is none; with the ones that look alike.
    """
    try:
        return find_field(definition.model, path)
    except KeyError as error:
        raise _unknown(definition, path, str(error.args[0])) from None


def _unknown(definition: KindDefinition, path: str, wrong: str) -> CommandError:
    known = [f.path for f in document_tree(definition.model)]
    leaf = {p.rpartition(".")[2]: p for p in known}
    close = difflib.get_close_matches(path, known, n=2) or [
        leaf[name] for name in difflib.get_close_matches(wrong.rpartition(".")[2], leaf, n=2)
    ]
    hint = f"Did you mean {' or '.join(close)}?" if close else f"See vcctl explain {definition.singular} --recursive"
    return CommandError(f"{definition.kind} has no field {wrong!r}", hint=hint)
