"""A chain's files: ``{number of the first record}.jsonl`` in a folder of the chain's name."""

import os
from pathlib import Path
from typing import Final, NamedTuple

SUFFIX: Final = ".jsonl"
DIGITS: Final = 15
READ_BYTES: Final = 1024 * 1024


class Segment(NamedTuple):
    """One file."""

    first: int
    path: Path


class Place(NamedTuple):
    """How far a chain has been read."""

    segment: Segment
    offset: int


def list_segments(folder: Path) -> list[Segment]:
    """Return the chain's segments, oldest first."""
    found = [Segment(int(p.stem), p) for p in folder.glob("*" + SUFFIX) if p.stem.isdigit()]
    return sorted(found)


def segment_path(folder: Path, first: int) -> Path:
    """Return where the segment lies that begins with that record."""
    return folder / f"{first:0{DIGITS}d}{SUFFIX}"


def find_place(folder: Path, after: int) -> tuple[Place, int] | None:
    """Return where the record after that number stands, and its number; None when there are no segments.

    It is a later one when the segments begin later.
    """
    segments = list_segments(folder)
    if not segments:
        return None
    at = max((s for s in segments if s.first <= after + 1), default=segments[0])
    seq, offset = at.first, 0
    with at.path.open("rb") as file:
        while seq <= after and (line := file.readline()).endswith(b"\n"):
            seq, offset = seq + 1, offset + len(line)
    return Place(at, offset), seq


def read_lines(place: Place, limit: int = READ_BYTES) -> tuple[list[bytes], Place]:
    """Return the complete lines from there on, without line feeds, about as many bytes as said, and the place after
    them."""
    segment, offset = place
    with segment.path.open("rb") as file:
        file.seek(offset)
        data = file.read(limit)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == limit:
            data += file.readline()
            end = len(data) if data.endswith(b"\n") else 0
    if end:
        return data[: end - 1].split(b"\n"), Place(segment, offset + end)
    later = [s for s in list_segments(segment.path.parent) if s.first > segment.first]
    return ([], Place(later[0], 0)) if later else ([], place)


def fsync_folder(folder: Path) -> None:
    """Make new names in the folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
