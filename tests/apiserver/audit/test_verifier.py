"""Whatever is done to a chain shows."""

from collections.abc import Callable

import pytest

from tests.apiserver.audit.trails import verified
from vcstack.specs.audit import GENESIS, Anchor, Damaged, Problem, Verifier, read_line, seal

CHAIN = "h1-00000000"


def chain_of(count: int, name: str = CHAIN) -> list[bytes]:
    lines, head = [], GENESIS
    for seq in range(1, count + 1):
        line, head = seal({"verb": "create", "name": f"web-{seq}"}, name, seq, head)
        lines.append(line)
    return lines


def anchor_of(line: bytes) -> Anchor:
    record = read_line(line)
    return Anchor(chain=record.chain, seq=record.seq, hash=record.hash)


def problems(lines: list[bytes], *anchors: Anchor) -> set[tuple[Problem, int]]:
    return {(f.problem, f.seq) for f in verified(lines, anchors).findings}


def resealed(line: bytes, name: str) -> bytes:
    """The record with another name and a hash that fits: done by somebody who knows how."""
    record = read_line(line)
    payload = {k: v for k, v in record.payload.items() if k not in ("chain", "seq", "previous")}
    return seal({**payload, "name": name}, record.chain, record.seq, record.previous)[0]


def test_an_untouched_chain_is_intact() -> None:
    lines = chain_of(5)
    report = verified(lines, [anchor_of(lines[2]), anchor_of(lines[4])])
    assert report.intact
    assert (report.records, report.chains[0].last, report.chains[0].anchored) == (5, 5, 5)


def test_a_changed_letter_shows() -> None:
    lines = chain_of(5)
    lines[2] = lines[2].replace(b"web-3", b"web-9")
    assert (Problem.CHANGED, 3) in problems(lines)


def test_a_changed_record_with_a_new_hash_shows_at_the_next_one() -> None:
    lines = chain_of(5)
    lines[2] = resealed(lines[2], "evil")
    assert problems(lines) == {(Problem.CHANGED, 3)}


def test_a_chain_that_is_rewritten_to_its_end_shows_by_its_anchor() -> None:
    lines = chain_of(5)
    anchor, forged, head = anchor_of(lines[4]), lines[:2], read_line(lines[1]).hash
    for seq in range(3, 6):
        line, head = seal({"verb": "create", "name": "evil", "time": ""}, CHAIN, seq, head)
        forged.append(line)
    assert verified(forged).intact
    assert problems(forged, anchor) == {(Problem.CHANGED, 5)}


def test_a_removed_record_shows() -> None:
    lines = chain_of(5)
    del lines[2]
    assert problems(lines) == {(Problem.REMOVED, 3)}


def test_a_removed_beginning_shows() -> None:
    assert problems(chain_of(5)[2:]) == {(Problem.REMOVED, 1)}


def test_a_beginning_that_retention_told_of_is_no_finding() -> None:
    lines = chain_of(5)
    cut = read_line(lines[1])
    told, _ = seal({"verb": "expire", "cuts": [{"chain": CHAIN, "seq": 2, "hash": cut.hash}]}, "h2", 1, GENESIS)
    assert verified([*lines[2:], told]).intact
    assert problems([*lines[3:], told]) == {(Problem.REMOVED, 1)}


def test_a_chain_that_is_wholly_beyond_retention_is_no_finding() -> None:
    lines = chain_of(3)
    cut = read_line(lines[2])
    told, _ = seal({"verb": "expire", "cuts": [{"chain": CHAIN, "seq": 3, "hash": cut.hash}]}, "h2", 1, GENESIS)
    assert verified([told], [anchor_of(lines[2])]).intact


def test_swapped_records_show() -> None:
    lines = chain_of(5)
    lines[1], lines[2] = lines[2], lines[1]
    assert {p for p, _ in problems(lines)} >= {Problem.REORDERED}


def test_a_repeated_record_shows() -> None:
    lines = chain_of(3)
    assert problems([*lines[:2], lines[1], lines[2]]) == {(Problem.REORDERED, 2)}


def test_a_cut_off_end_shows_by_its_anchor_only() -> None:
    lines = chain_of(5)
    assert verified(lines[:3]).intact
    assert problems(lines[:3], anchor_of(lines[4])) == {(Problem.TRUNCATED, 4)}


def test_a_chain_that_is_gone_shows_by_its_anchor() -> None:
    assert problems([], anchor_of(chain_of(5)[4])) == {(Problem.TRUNCATED, 1)}


def test_an_inserted_record_shows() -> None:
    lines = chain_of(4)
    extra, _ = seal({"verb": "create", "name": "evil"}, CHAIN, 3, read_line(lines[1]).hash)
    assert {p for p, _ in problems([*lines[:2], extra, *lines[2:]])} >= {Problem.REORDERED}


def test_a_record_of_another_chain_does_not_hide_a_gap() -> None:
    one, other = chain_of(4), chain_of(4, "h2-00000000")
    assert verified([*one, *other]).intact
    assert problems([*one[:1], *one[2:], *other]) == {(Problem.REMOVED, 2)}


def test_anchors_that_contradict_each_other_show() -> None:
    lines = chain_of(2)
    false = anchor_of(lines[1]).model_copy(update={"hash": "f" * 64})
    assert (Problem.CHANGED, 2) in problems(lines, anchor_of(lines[1]), false)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: b"",
        lambda line: line[:40],
        lambda line: line[:-2],
        lambda line: b" " + line,
        lambda line: line.replace(b'","', b'", "', 1),
        lambda line: line[:75] + b'"seq":9,' + line[75:],
        lambda line: bytes(reversed(line)),
    ],
    ids=["empty", "head only", "cut", "indented", "reformatted", "key added", "reversed"],
)
def test_what_is_no_record_is_damaged(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Damaged):
        read_line(spoil(chain_of(1)[0].rstrip(b"\n")))


def test_files_may_begin_anywhere() -> None:
    verifier = Verifier(partial=True)
    for line in chain_of(5)[2:]:
        verifier.add(line)
    assert verifier.finish().intact
