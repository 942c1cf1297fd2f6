"""What a copy thread does with one range."""

import errno
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError, RequestCancelled
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.copy import MAP_FROM, PIECE, ZERO_BLOCK, Copier, Moved
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, Side, content, islands, pattern

SIZE = 4 * MiB


class Rig:
    def __init__(
        self, source: MemoryNode, target: MemoryNode | None = None, *, granularity: int = CHUNK
    ) -> None:
        self.source = Side(source)
        self.target = Side(target or MemoryNode(source.size, cluster_size=4 * KiB))
        self.known = DirtyBitmap(source.size, granularity)
        self.copier = Copier(self.source.node, self.target.node, self.known, unmap=True)

    def copy(self, offset: int, length: int) -> Moved:
        return self.copier.copy(offset, length)

    def assert_equal(self, offset: int, length: int) -> None:
        ours = content(self.source.bottom)[offset : offset + length]
        assert content(self.target.bottom)[offset : offset + length] == ours


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, CHUNK),
        (0, MAP_FROM),
        (CHUNK, 5 * PIECE // 2),
        (3 * CHUNK, CHUNK + 1000),
        (SIZE - CHUNK, CHUNK),
        (0, SIZE),
    ],
)
def test_a_range_of_data_is_copied_and_nothing_beside_it(offset: int, length: int) -> None:
    rig = Rig(MemoryNode(pattern(SIZE)))
    assert rig.copy(offset, length) == Moved(length, 0)
    expected = bytes(offset) + pattern(SIZE)[offset : offset + length]
    assert content(rig.target.bottom) == expected + bytes(SIZE - len(expected))
    assert rig.known.covers(offset, length)
    assert max(each.length for each in rig.target.probe.requests) <= PIECE


@pytest.mark.parametrize("length", [CHUNK, MAP_FROM, SIZE])
def test_zeroes_need_no_write_where_the_target_is_known_zero(length: int) -> None:
    for source in (MemoryNode(SIZE), MemoryNode(bytes(SIZE))):
        rig = Rig(source)
        assert rig.copy(0, length) == Moved(0, length)
        assert rig.target.probe.requests == []


@pytest.mark.parametrize("length", [CHUNK, MAP_FROM, SIZE])
def test_zeroes_are_written_as_zeroes_where_the_target_may_hold_something(length: int) -> None:
    rig = Rig(MemoryNode(bytes(SIZE)), MemoryNode(pattern(SIZE, 9)))
    rig.known.mark_all()
    assert rig.copy(0, length) == Moved(0, length)
    rig.assert_equal(0, length)
    assert rig.target.probe.of("write") == []
    assert rig.known.dirty_bytes == SIZE - length and not rig.known.touches(0, length)
    rig.target.probe.forget()
    rig.copy(0, length)
    assert rig.target.probe.requests == [], "known zero now"


@pytest.mark.parametrize("granularity", [512, 4096, CHUNK, MiB])
def test_every_mixture_of_holes_zeroes_and_data_arrives(granularity: int) -> None:
    places = [(0, 512), (5000, 4096), (CHUNK, CHUNK), (3 * CHUNK - 1, 2), (MiB, MiB // 2 + 5)]
    for target in (MemoryNode(SIZE), MemoryNode(pattern(SIZE, 9))):
        rig = Rig(islands(SIZE, *places), target, granularity=granularity)
        rig.source.bottom.write(2 * MiB, bytes(MiB))
        if target.allocated_bytes():
            rig.known.mark_all()
        for start in range(0, SIZE, 3 * MiB):
            rig.copy(start, min(3 * MiB, SIZE - start))
        rig.assert_equal(0, SIZE)


def test_holes_within_a_chunk_stay_holes() -> None:
    rig = Rig(islands(SIZE, (0, 4 * KiB), (40 * KiB, 8 * KiB)))
    assert rig.copy(0, CHUNK) == Moved(12 * KiB, CHUNK - 12 * KiB)
    assert [(each.offset, each.length) for each in rig.target.probe.of("write")] == [
        (0, 4 * KiB),
        (40 * KiB, 8 * KiB),
    ]


def test_short_zeroes_over_old_data_are_written_with_the_data_around_them() -> None:
    rig = Rig(islands(SIZE, (0, 4 * KiB), (40 * KiB, 8 * KiB)), MemoryNode(pattern(SIZE, 9)))
    rig.known.mark_all()
    rig.copy(0, CHUNK)
    rig.assert_equal(0, CHUNK)


@pytest.mark.parametrize("tail", [1, 511, ZERO_BLOCK - 1, ZERO_BLOCK + 1, CHUNK + 7])
@pytest.mark.parametrize("data", [True, False])
def test_a_tail_of_any_length_arrives_exactly(tail: int, data: bool) -> None:
    size = 2 * CHUNK + tail
    image = pattern(size) if data else pattern(2 * CHUNK) + bytes(tail)
    rig = Rig(MemoryNode(image), MemoryNode(pattern(size, 9)))
    rig.known.mark_all()
    rig.copy(2 * CHUNK, tail)
    rig.copy(0, 2 * CHUNK)
    rig.assert_equal(0, size)
    assert rig.target.bottom.size == size


def test_one_byte_in_a_sea_of_zeroes_is_found_wherever_it_is() -> None:
    for place in (0, 7, 8, 4095, 4096, CHUNK - 1):
        image = bytearray(CHUNK)
        image[place] = 1
        rig = Rig(MemoryNode(bytes(image)))
        rig.copy(0, CHUNK)
        rig.assert_equal(0, CHUNK)


def test_the_buffer_forgets_what_was_in_it() -> None:
    rig = Rig(MemoryNode(pattern(SIZE - CHUNK) + bytes(CHUNK)), MemoryNode(SIZE))
    rig.copy(0, PIECE)
    rig.copy(SIZE - CHUNK, CHUNK)
    rig.copy(SIZE - CHUNK - 100, 50)
    assert content(rig.target.bottom)[SIZE - CHUNK :] == bytes(CHUNK)


def test_a_failed_write_may_have_left_anything_and_is_remembered() -> None:
    rig = Rig(MemoryNode(pattern(SIZE)))
    rig.target.fail("write")
    with pytest.raises(BlockIOError) as caught:
        rig.copy(0, CHUNK)
    assert not caught.value.is_read and caught.value.errno == errno.EIO
    assert rig.known.touches(0, CHUNK), "zeroes must be written there from now on"


def test_failed_zeroes_are_not_taken_for_zeroes() -> None:
    rig = Rig(MemoryNode(SIZE))
    rig.known.mark_all()
    rig.target.fail("zero")
    with pytest.raises(BlockIOError):
        rig.copy(0, MAP_FROM)
    assert rig.known.covers(0, MAP_FROM)


def test_a_failed_read_is_the_sources() -> None:
    rig = Rig(MemoryNode(pattern(SIZE)))
    rig.source.fail("read")
    with pytest.raises(BlockIOError) as caught:
        rig.copy(0, CHUNK)
    assert caught.value.is_read
    assert rig.target.probe.requests == []


def test_what_the_backing_chain_holds_is_copied() -> None:
    base = MemoryNode(pattern(2 * MiB))
    overlay = MemoryNode(SIZE, backing=base)
    overlay.write(MiB, pattern(CHUNK, 2))
    overlay.write_zeroes(0, CHUNK)
    for length in (CHUNK, SIZE):
        rig = Rig(overlay)
        rig.copy(0, length)
        rig.assert_equal(0, length)


def test_without_unmap_zeroes_keep_their_storage() -> None:
    seen = []

    class Watched(MemoryNode):
        def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
            seen.append(may_unmap)

    known = DirtyBitmap(SIZE, CHUNK)
    known.mark_all()
    for unmap in (True, False):
        Copier(MemoryNode(SIZE), Watched(SIZE), known, unmap=unmap).copy(0, MAP_FROM)
        known.mark_all()
    assert seen == [True, False]


class Gathering(MemoryNode):
    """An image that says that several ranges at once are cheap, and remembers who asked so."""

    def __init__(self, content: int | bytes) -> None:
        super().__init__(content, cluster_size=4 * KiB)
        self.limits = replace(self.limits, gathers=True)
        self.together: list[list[tuple[int, int]]] = []
        self.zeroed: list[tuple[int, int]] = []

    def read_ranges(self, ranges: Sequence[tuple[int, int]], buffer: memoryview) -> None:
        self.together.append(list(ranges))
        super().read_ranges(ranges, buffer)

    def write_ranges(self, ranges: Sequence[tuple[int, int]], data: memoryview) -> None:
        self.together.append(list(ranges))
        super().write_ranges(ranges, data)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        self.zeroed.append((offset, length))
        super().write_zeroes(offset, length, may_unmap=may_unmap)


def gathering(
    source: BlockNode, target: BlockNode, granularity: int = CHUNK
) -> tuple[Copier, DirtyBitmap]:
    known = DirtyBitmap(SIZE, granularity)
    return Copier(source, target, known, unmap=True), known


def every_other(count: int, first: int = 0) -> list[tuple[int, int]]:
    return [(2 * number * CHUNK, CHUNK) for number in range(first, first + count)]


def test_short_ranges_are_copied_together_where_that_is_cheap() -> None:
    source, target = Gathering(pattern(SIZE)), Gathering(SIZE)
    copier, known = gathering(source, target)
    ranges = every_other(20)
    assert copier.copy_all(ranges) == [Moved(CHUNK)] * 20
    # As many as fit into the buffer.
    assert source.together == target.together == [ranges[:16], ranges[16:]]
    for offset, length in ranges:
        assert content(target)[offset : offset + length] == pattern(SIZE)[offset : offset + length]
        assert known.covers(offset, length)
        assert not any(content(target)[offset + length : offset + 2 * length])


def test_elsewhere_each_range_is_copied_alone() -> None:
    rig = Rig(MemoryNode(pattern(SIZE)))
    ranges = every_other(3)
    assert rig.copier.copy_all(ranges) == [Moved(CHUNK)] * 3
    assert [(each.offset, each.length) for each in rig.target.probe.of("write")] == ranges


def test_zeroes_among_ranges_that_are_copied_together_are_found() -> None:
    image = bytearray(pattern(SIZE))
    image[2 * CHUNK : 3 * CHUNK] = bytes(CHUNK)
    image[4 * CHUNK : 4 * CHUNK + 8 * KiB] = bytes(8 * KiB)
    source, target = Gathering(bytes(image)), Gathering(SIZE)
    copier, _ = gathering(source, target)
    ranges = every_other(5)
    moved = copier.copy_all(ranges)
    assert moved == [
        Moved(CHUNK),
        Moved(0, CHUNK),
        Moved(CHUNK - 8 * KiB, 8 * KiB),
        *[Moved(CHUNK)] * 2,
    ]
    assert target.together == [[(4 * CHUNK + 8 * KiB, CHUNK - 8 * KiB), *ranges[3:]]]
    assert all(content(target)[at : at + CHUNK] == image[at : at + CHUNK] for at, _ in ranges)


@pytest.mark.parametrize("length", [0, 100, ZERO_BLOCK, ZERO_BLOCK + 1, MAP_FROM, 3 * MiB])
def test_ranges_of_any_length_arrive_in_any_company(length: int) -> None:
    source, target = Gathering(pattern(SIZE)), Gathering(SIZE)
    copier, known = gathering(source, target, granularity=ZERO_BLOCK)
    start = SIZE - length
    ranges = [(0, CHUNK), (CHUNK, 0), (start, length), (2 * CHUNK, ZERO_BLOCK), (4 * CHUNK, CHUNK)]
    assert copier.copy_all(ranges) == [Moved(length) for _, length in ranges]
    for offset, count in ranges:
        assert content(target)[offset : offset + count] == pattern(SIZE)[offset : offset + count]
        assert not count or known.touches(offset, count)


@pytest.mark.parametrize(("side", "kind"), [("source", "read"), ("target", "write")])
def test_of_ranges_copied_together_those_fail_that_cannot_be_copied(side: str, kind: str) -> None:
    rig = Rig(Gathering(pattern(SIZE)), Gathering(SIZE))
    getattr(rig, side).fail(kind, 4 * CHUNK)
    ranges = every_other(4)
    first, second, third, fourth = rig.copier.copy_all(ranges)
    assert first == second == fourth == Moved(CHUNK)
    assert isinstance(third, BlockIOError)
    assert third.is_read == (kind == "read")
    assert (third.offset, third.length) == ranges[2]
    for offset, length in (ranges[0], ranges[1], ranges[3]):
        rig.assert_equal(offset, length)


@pytest.mark.parametrize(("side", "kind"), [("source", "read"), ("target", "write")])
def test_a_fault_that_is_gone_when_each_is_copied_alone_is_told_all_the_same(
    side: str, kind: str
) -> None:
    rig = Rig(Gathering(pattern(SIZE)), Gathering(SIZE))
    getattr(rig, side).fail(kind, once=True)
    first, *others = rig.copier.copy_all(every_other(3))
    assert isinstance(first, BlockIOError)
    assert first.is_read == (kind == "read")
    assert others == [Moved(CHUNK)] * 2


def test_ranges_whose_request_was_given_up_are_not_tried_again() -> None:
    class GivenUp(Gathering):
        def read_ranges(self, ranges: Sequence[tuple[int, int]], buffer: memoryview) -> None:
            self.together.append(list(ranges))
            raise RequestCancelled("read", 0, len(buffer))

        def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
            raise AssertionError

    source = GivenUp(pattern(SIZE))
    copier, _ = gathering(source, Gathering(SIZE))
    results = copier.copy_all(every_other(3))
    assert all(isinstance(each, RequestCancelled) for each in results)
    assert len(source.together) == 1


def striped() -> Gathering:
    """Data and holes by turns, 64 KiB each."""
    source = Gathering(SIZE)
    for offset, length in every_other(SIZE // CHUNK // 2):
        source.write(offset, pattern(length, start=offset))
    return source


def test_zeroes_between_data_are_one_request_where_the_target_is_empty() -> None:
    source, target = striped(), Gathering(SIZE)
    copier, known = gathering(source, target)
    known.mark_all()
    assert copier.copy(0, MiB) == Moved(MiB // 2, MiB // 2)
    assert target.zeroed == [(CHUNK, MiB - CHUNK)]
    assert content(target)[:MiB] == content(source)[:MiB]
    for offset, length in every_other(8):
        assert known.covers(offset, length)
        assert not known.touches(offset + length, length)


def test_zeroes_between_data_leave_the_data_of_the_target_alone() -> None:
    source, target = striped(), Gathering(pattern(SIZE, 9))
    copier, known = gathering(source, target)
    known.mark_all()
    copier.copy(0, MiB)
    assert target.zeroed == [(offset + CHUNK, CHUNK) for offset, _ in every_other(8)]
    assert content(target)[:MiB] == content(source)[:MiB]
    assert content(target)[MiB:] == pattern(SIZE, 9)[MiB:]
