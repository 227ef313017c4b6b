"""What the words KIND NAME..., KIND/NAME..., KIND,KIND on the command line mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from vcstack.applying.manifests import propose_kind
from vcstack.specs.registry import KindDefinition, find_kind, load_kinds
from vcstack.vcctl.errors import CommandError

ALL = "all"
"""Stands for all kinds that users write."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A kind, or one object of it."""

    definition: KindDefinition
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.definition.singular}/{self.name}" if self.name else self.definition.plural


def parse_kind(word: str) -> KindDefinition:
    """Return the kind called so: its name, plural or short name in any case.

    Raises:
        CommandError: if there is none; the hint names similar ones.
    """
    found = find_kind(word)
    if found is not None:
        return found
    raise CommandError(f"there is no kind {word!r}", hint=propose_kind(word))


def parse_selections(words: Sequence[str]) -> list[Selection]:
    """Return what the words select: kinds, or objects of one kind, or KIND/NAME each.

    Raises:
        CommandError: if the forms are mixed or a kind is unknown.
    """
    if not words:
        raise CommandError("name a kind", hint="E.g. vcctl get instances. vcctl api-resources lists all kinds.")
    if any("/" in word for word in words):
        return [_parse_pair(word) for word in words]
    first, *names = words
    definitions = _parse_kinds(first)
    if not names:
        return [Selection(d) for d in definitions]
    if len(definitions) > 1:
        raise CommandError("several kinds and names do not go together", hint="Write KIND/NAME for each object.")
    return [Selection(definitions[0], name) for name in dict.fromkeys(names)]


def parse_one(words: Sequence[str]) -> Selection:
    """Return the one object that the words name: KIND NAME or KIND/NAME.

    Raises:
        CommandError: if they name none or several.
    """
    selections = parse_selections(words)
    if len(selections) != 1 or selections[0].name is None:
        raise CommandError("name one object", hint="Write KIND NAME or KIND/NAME, e.g. instance web-1.")
    return selections[0]


def parse_objects(words: Sequence[str], kind: str) -> list[str]:
    """Return the names of objects of a fixed kind, each given as NAME or KIND/NAME."""
    names = []
    for word in words:
        prefix, slash, name = word.rpartition("/")
        if slash and parse_kind(prefix).kind != kind:
            raise CommandError(f"{word} is no {kind}", hint=f"This command is for objects of kind {kind} only.")
        names.append(name)
    return list(dict.fromkeys(names))


def _parse_pair(word: str) -> Selection:
    kind, slash, name = word.partition("/")
    if not slash or not kind or not name:
        raise CommandError(f"{word!r} is no KIND/NAME", hint="With KIND/NAME write every object so.")
    return Selection(parse_kind(kind), name)


def _parse_kinds(word: str) -> list[KindDefinition]:
    if word.lower() == ALL:
        return sorted((d for d in load_kinds().values() if not d.system_only), key=lambda d: d.apply_order)
    found = [parse_kind(w) for w in word.split(",") if w]
    return list({d.kind: d for d in found}.values())
