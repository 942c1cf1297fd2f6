"""The scan: what is to be copied, and what of the target must go."""

import pytest

from mirrorgui.block.blkdebug import InjectError
from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror import scan as scan_module
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.scan import MIN_STEP, Scan, overlaps
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, Side, content, islands, pattern

SIZE = 2 * MiB


def scanned(
    source: MemoryNode,
    target: MemoryNode,
    *,
    top: bool = False,
    clean: bool = True,
    granularity: int = CHUNK,
) -> tuple[Scan, Side, Side]:
    sides = Side(source), Side(target)
    dirty, known = (DirtyBitmap(source.size, granularity) for _ in range(2))
    scan = Scan(
        sides[0].node,
        sides[1].node,
        dirty,
        known,
        top=top,
        clean_target=clean,
        unmap=True,
    )
    return scan, *sides


def dirty_chunks(scan: Scan) -> list[int]:
    return [
        chunk for chunk in range(scan.dirty.chunks) if chunk * scan.dirty.granularity in scan.dirty
    ]


def test_data_is_marked_and_holes_are_not() -> None:
    scan, _, target = scanned(islands(SIZE, (0, 1), (5 * CHUNK, 2 * CHUNK + 1)), MemoryNode(SIZE))
    scan.turn()
    assert scan.finished and scan.done == SIZE
    assert dirty_chunks(scan) == [0, 5, 6, 7]
    assert scan.target_data.is_clean and target.probe.requests == []


def test_what_the_target_must_not_keep_is_removed_and_what_will_be_overwritten_is_not() -> None:
    scan, _, target = scanned(islands(SIZE, (CHUNK, CHUNK)), MemoryNode(pattern(SIZE, 9)))
    scan.turn()
    now = content(target.bottom)
    assert now == bytes(CHUNK) + pattern(SIZE, 9)[CHUNK : 2 * CHUNK] + bytes(SIZE - 2 * CHUNK)
    assert scan.target_data.runs(0, SIZE) == [
        (CHUNK, False),
        (CHUNK, True),
        (SIZE - 2 * CHUNK, False),
    ]
    assert target.probe.of("write") == []


def test_a_target_that_cannot_zero_gets_its_zeroes_from_the_copy() -> None:
    garbage = MemoryNode(SIZE, can_zero=False)
    garbage.write(3 * CHUNK, b"garbage")
    scan, _, target = scanned(islands(SIZE, (0, 1)), garbage)
    scan.turn()
    assert dirty_chunks(scan) == [0, 3]
    assert scan.target_data.touches(3 * CHUNK, 1)
    assert target.probe.requests == []


def test_a_target_known_to_be_zero_is_not_looked_at() -> None:
    scan, _, target = scanned(islands(SIZE, (0, 1)), MemoryNode(pattern(SIZE, 9)), clean=False)
    target.node.add(InjectError("none", iotype="block-status"))
    scan.turn()
    assert target.probe.requests == []
    assert scan.target_data.is_clean


def test_top_marks_what_the_overlay_says_zeroes_included() -> None:
    base = MemoryNode(pattern(SIZE))
    overlay = MemoryNode(SIZE, backing=base)
    overlay.write(CHUNK, b"data")
    overlay.write_zeroes(4 * CHUNK, CHUNK)
    scan, _, _ = scanned(overlay, MemoryNode(SIZE, backing=base), top=True, clean=False)
    scan.turn()
    assert dirty_chunks(scan) == [1, 4]


def test_full_marks_what_the_whole_chain_says() -> None:
    base = MemoryNode(SIZE // 2)
    base.write(CHUNK, b"data")
    overlay = MemoryNode(SIZE, backing=base)
    overlay.write(9 * CHUNK, b"data")
    scan, _, _ = scanned(overlay, MemoryNode(SIZE))
    scan.turn()
    assert dirty_chunks(scan) == [1, 9]


def test_the_targets_map_may_be_unreadable() -> None:
    scan, _, target = scanned(islands(SIZE, (0, 1)), MemoryNode(pattern(SIZE, 9)))
    target.node.add(InjectError("none", iotype="block-status"))
    scan.turn()
    assert content(target.bottom)[CHUNK:] == bytes(SIZE - CHUNK)
    assert scan.target_data.touches(0, 1)


def test_zeroes_that_fail_are_left_to_the_copy_where_a_policy_decides() -> None:
    scan, _, target = scanned(MemoryNode(SIZE), MemoryNode(pattern(SIZE, 9)))
    target.fail("zero")
    scan.turn()
    assert scan.finished
    assert scan.dirty.covers(0, SIZE) and scan.target_data.covers(0, SIZE)


def test_an_unreadable_map_of_the_source_stops_the_turn_which_can_be_repeated_or_skipped() -> None:
    scan, source, _ = scanned(islands(SIZE, (0, 1)), MemoryNode(SIZE))
    rule = source.node.add(InjectError("none", iotype="block-status"))
    for _ in range(2):
        with pytest.raises(BlockIOError) as caught:
            scan.turn()
        assert caught.value.is_read and scan.done == 0
    scan.skip(MIN_STEP)
    assert scan.finished and scan.dirty.covers(0, SIZE)
    source.node.remove(rule)
    other, _, _ = scanned(islands(SIZE, (0, 1)), MemoryNode(SIZE))
    other.turn()
    assert dirty_chunks(other) == [0]


def test_turns_are_short_and_go_on_where_they_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "TURN_S", 0.0)
    size = 5 * MIN_STEP
    scan, _, _ = scanned(islands(size, (0, 1), (4 * MIN_STEP, 1)), MemoryNode(size))
    places = []
    while not scan.finished:
        scan.turn()
        places.append(scan.done)
    assert len(places) > 2 and places == sorted(set(places)) and places[-1] == size
    assert dirty_chunks(scan) == [0, 4 * MIN_STEP // CHUNK]


def test_a_tail_shorter_than_a_chunk_is_cleaned_and_marked() -> None:
    size = CHUNK + 100
    scan, _, target = scanned(MemoryNode(size), MemoryNode(pattern(size, 9)))
    scan.turn()
    assert content(target.bottom) == bytes(size)
    scan, _, _ = scanned(islands(size, (CHUNK, 100)), MemoryNode(size), granularity=512)
    scan.turn()
    assert scan.dirty.dirty_bytes == 100


def test_long_zeroes_are_made_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "ZERO_STEP", 256 * KiB)
    scan, _, target = scanned(MemoryNode(SIZE), MemoryNode(pattern(SIZE, 9)))
    scan.turn()
    assert {each.length for each in target.probe.of("zero")} == {256 * KiB}


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ([], [(0, 9)], []),
        ([(0, 9)], [], []),
        ([(2, 3), (8, 2)], [(0, 20)], [(2, 3), (8, 2)]),
        ([(0, 20)], [(2, 3), (8, 2)], [(2, 3), (8, 2)]),
        ([(0, 4), (6, 4)], [(3, 4), (9, 9)], [(3, 1), (6, 1), (9, 1)]),
        ([(0, 4)], [(4, 4)], []),
        ([(4, 4), (20, 1)], [(0, 4), (8, 4), (12, 9)], [(20, 1)]),
    ],
)
def test_what_two_lists_of_ranges_have_in_common(
    one: list[tuple[int, int]], other: list[tuple[int, int]], common: list[tuple[int, int]]
) -> None:
    assert overlaps(one, other) == common
