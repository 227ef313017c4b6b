"""What an instance's disks were made from, kept beside them.

It tells a disk that was never made from one that is lost: the first is made, the second is never made
again in silence. It is written as Making before the disk and as Made after it, so wherever the agent is
killed, the next run knows whether a guest can have used the disk.
"""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, ValidationError

from vcstack.nodeagent.backends.files import write_file
from vcstack.specs.model import Model


class Making(StrEnum):
    """How far the disks are."""

    MAKING = "Making"
    """Nothing of value is there: what is there may be replaced."""
    MADE = "Made"
    """The guest may have written to them."""


class Record(Model):
    """What the disks were made from."""

    state: Making
    """How far they are."""
    token: str = ""
    """The uid of the Task that asked for the disks to be made anew."""
    image_digest: str = ""
    """The content that the root disk is an overlay of."""
    size_gib: int = 0
    """Size of the root disk."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Digests of the spec fields that a change of takes Recreate."""


def read_record(path: Path) -> Record | None:
    """Return the record; None when there is none. One that cannot be read counts as Made: no disk is replaced."""
    try:
        return Record.from_wire(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        return Record(state=Making.MADE)


def write_record(path: Path, record: Record) -> None:
    """Keep the record."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_file(path, record.to_json())
