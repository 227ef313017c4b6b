"""Our Dockerfiles as instructions, for the checks on them and for rehearsing them. No other file's whole syntax."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
PARTS = ("management", "compute", "operator", "etcd", "postgresql", "ovn")
"""All images, vcstack-PART each."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continuation lines joined."""

    name: str
    text: str
    line: int

    def words(self) -> list[str]:
        """Return the arguments: of the JSON form, or split as a shell does."""
        if self.text.startswith("["):
            found: list[str] = json.loads(self.text)
            return found
        return shlex.split(self.text)


@dataclass
class Stage:
    """All from one FROM to the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """Return the instructions of that name."""
        return [each for each in self.instructions if each.name == name]


def path_of(part: str) -> Path:
    """Return the Dockerfile of an image."""
    return FOLDER / f"{part}.Dockerfile"


def parse(text: str) -> tuple[list[Instruction], list[Stage]]:
    """Return what stands before the first FROM, and the stages."""
    before: list[Instruction] = []
    stages: list[Stage] = []
    for each in _instructions(text):
        if each.name == "FROM":
            base, _, name = each.text.partition(" AS ")
            stages.append(Stage(base.strip(), name.strip()))
        elif stages:
            stages[-1].instructions.append(each)
        else:
            before.append(each)
    return before, stages


def _instructions(text: str) -> list[Instruction]:
    found: list[Instruction] = []
    parts: list[str] = []
    begin = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begin = begin if parts else number
        parts.append(line.rstrip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            name, _, rest = " ".join(parts).partition(" ")
            found.append(Instruction(name, rest.strip(), begin))
            parts = []
    return found


def environment(stage: Stage) -> dict[str, str]:
    """Return what ENV sets in a stage."""
    found: dict[str, str] = {}
    for each in stage.all("ENV"):
        found |= dict(re.findall(r'(\w+)=("[^"]*"|\S+)', each.text))
    return {name: value.strip('"') for name, value in found.items()}
