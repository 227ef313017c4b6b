"""Differences as Markdown, fit for a comment under a pull request. Pure, and the same for the same differences.

Names and values are other people's: they stand in code only, whose fence is longer than any in them, without characters
that turn or hide text, so that nothing in them is read as Markdown or HTML, and nobody is mentioned.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from vcstack.specs.model import Change
from vcstack.specs.plan import FieldChange
from vcstack.vcctl.errors import describe_error
from vcstack.vcctl.examining import Examined
from vcstack.vcctl.printing import to_yaml

LIMIT: Final = 60_000
"""Characters; GitHub and Gitea take 65,536."""
TAKES: Final = {
    Change.LIVE: "",
    Change.REBOOT: " (needs a stop and start)",
    Change.RECREATE: " (needs a rebuild, which loses the root disk)",
    Change.IMMUTABLE: " (is refused: the field never changes)",
}


def render(examined: Sequence[Examined]) -> str:
    """Return the comment."""
    groups: dict[str, list[Examined]] = {"created": [], "changed": [], "deleted": [], "refused": []}
    for each in sorted(examined, key=lambda e: (e.manifest.definition.apply_order, *map(str, e.manifest.key))):
        group = _group_of(each)
        if group:
            groups[group].append(each)
    unchanged = len(examined) - sum(map(len, groups.values()))
    counts = [f"{len(found)} to be {name}" if name != "refused" else f"{len(found)} refused" for name, found in
              groups.items() if found]  # fmt: skip
    lines = ["## VC Stack: what would change", "", f"{', '.join(counts) or 'Nothing'}; {unchanged} unchanged.", ""]
    for found in groups.values():
        for each in found:
            block = _render_one(each)
            if sum(map(len, lines)) + len(block) > LIMIT:
                return "\n".join([*lines, "*There is more than fits here; see `vcctl diff`.*", ""])
            lines.append(block)
    return "\n".join(lines)


def _group_of(each: Examined) -> str:
    if each.error is not None or each.refusal is not None:
        return "refused"
    if each.live is None:
        return "created"
    if each.deleted:
        return "deleted"
    return "changed" if each.changes else ""


def _render_one(each: Examined) -> str:
    kind, project, name = each.manifest.key
    verb = {"created": "would be created", "deleted": "**would be deleted**", "changed": "would be changed"}
    what = verb.get(_group_of(each), "**would be refused**")
    where = f" in project {_code(project)}" if project else ""
    lines = [f"### {kind} {_code(name)}{where} {what}", ""]
    fault = each.error or each.refusal
    if fault is not None:
        lines += _block("text", describe_error(fault))
    if each.changes:
        lines += _block("diff", [line for c in each.changes for line in _lines_of(c, new=each.live is None)])
    return "\n".join(lines)


def _lines_of(change: FieldChange, *, new: bool) -> list[str]:
    found = [f"@@ {change.path}{'' if new else TAKES[change.change]} @@"]
    for sign, value in (("-", change.old), ("+", change.new)):
        if value is not None:
            text = to_yaml(value).rstrip("\n").removesuffix("\n...")
            found += [f"{sign} {line}" for line in text.split("\n")]
    return found


def _block(language: str, lines: Sequence[str]) -> list[str]:
    text = [_plain(line) for line in lines]
    longest = max((len(run) for line in text for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *text, fence, ""]


def _code(text: str) -> str:
    plain = _plain(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    return f"{fence}{plain}{fence}" if len(fence) == 1 else f"{fence} {plain} {fence}"


def _plain(text: str) -> str:
    """Return the text without what is no visible character: line ends, escapes, marks that turn its direction."""
    return "".join(c if c == "\t" or unicodedata.category(c)[0] not in "CZ" or c == " " else "�" for c in text)
