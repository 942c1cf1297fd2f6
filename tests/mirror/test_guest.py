"""The hooks: what is marked, what reaches the target, and above all when."""

import errno
import threading
from collections.abc import Callable

import pytest

from mirrorgui.block.filter import FilterNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode, Buffer
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.guest import Tracking, WriteBlocking
from mirrorgui.mirror.ranges import RangeLock
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, Side, content, pattern

SIZE = 8 * CHUNK


class Order(FilterNode):
    """Says what the bitmap held when a changing request began and when it had ended."""

    def __init__(self, child: BlockNode, look: Callable[[], int]) -> None:
        super().__init__(child)
        self.look = look
        self.seen: list[tuple[int, int]] = []

    def _note(self, request: Callable[[], None]) -> None:
        before = self.look()
        try:
            request()
        finally:
            self.seen.append((before, self.look()))

    def write(self, offset: int, data: Buffer) -> None:
        self._note(lambda: self.child.write(offset, data))

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        self._note(lambda: self.child.write_zeroes(offset, length, may_unmap=may_unmap))

    def discard(self, offset: int, length: int) -> None:
        self._note(lambda: self.child.discard(offset, length))


class Rig:
    """A drive with a hook over a source that looks at the bitmap."""

    def __init__(self, *, blocking: bool) -> None:
        self.dirty, self.known = DirtyBitmap(SIZE, CHUNK), DirtyBitmap(SIZE, CHUNK)
        self.ranges = RangeLock()
        image = pattern(SIZE)
        self.source = Side(MemoryNode(image, cluster_size=4 * KiB))
        self.target = Side(MemoryNode(image, cluster_size=4 * KiB))
        self.order = Order(self.source.node, lambda: self.dirty.dirty_bytes)
        self.dirtied: list[int] = []
        self.mirrored: list[tuple[int, int]] = []
        self.failed: list[BlockIOError] = []
        self.marked_when_told: list[int] = []
        self.hook: Tracking | WriteBlocking
        if blocking:
            self.hook = WriteBlocking(self.dirty, self.known, self.ranges, self.target.node, self)
        else:
            self.hook = Tracking(self.dirty, self)
        self.drive = Drive(self.order)
        self.drive.attach(self.hook)

    def guest_dirtied(self, length: int) -> None:
        self.dirtied.append(length)

    def guest_mirrored(self, offset: int, length: int) -> None:
        self.mirrored.append((offset, length))

    def guest_target_failed(self, error: BlockIOError) -> None:
        self.failed.append(error)
        self.marked_when_told.append(self.dirty.dirty_bytes)

    def assert_equal(self) -> None:
        assert content(self.source.bottom) == content(self.target.bottom)


CHANGES: dict[str, Callable[[Drive, int, int], None]] = {
    "write": lambda drive, offset, length: drive.write(offset, pattern(length, 7)),
    "zero": lambda drive, offset, length: drive.write_zeroes(offset, length),
    "discard": lambda drive, offset, length: drive.discard(offset, length),
}
EVENTS = {"write": "write", "zero": "zero"}


# Background mode.


@pytest.mark.parametrize("kind", list(CHANGES))
def test_a_chunk_is_marked_after_the_write_and_before_the_answer(kind: str) -> None:
    rig = Rig(blocking=False)
    CHANGES[kind](rig.drive, CHUNK + 1, CHUNK)
    assert rig.order.seen == [(0, 0)], "a mark that came earlier could be cleared by a copy"
    assert rig.dirty.dirty_bytes == 2 * CHUNK
    assert rig.dirtied == [2 * CHUNK]
    assert rig.target.probe.requests == []


@pytest.mark.parametrize("kind", list(EVENTS))
@pytest.mark.parametrize("blocking", [False, True])
def test_a_failed_write_marks_too(kind: str, blocking: bool) -> None:
    rig = Rig(blocking=blocking)
    rig.source.fail(EVENTS[kind])
    with pytest.raises(BlockIOError):
        CHANGES[kind](rig.drive, 10, 10)
    assert rig.order.seen == [(0, 0)]
    assert rig.dirty.dirty_bytes == CHUNK and rig.dirtied == [CHUNK]
    assert rig.target.probe.requests == [] and not rig.ranges.held()


def test_a_chunk_that_is_dirty_already_wakes_nobody_with_a_number() -> None:
    rig = Rig(blocking=False)
    for _ in range(2):
        rig.drive.write(0, b"x")
    assert rig.dirtied == [CHUNK, 0]


@pytest.mark.parametrize("blocking", [False, True])
def test_a_request_of_no_length_changes_nothing(blocking: bool) -> None:
    rig = Rig(blocking=blocking)
    for change in CHANGES.values():
        change(rig.drive, 5, 0)
    assert rig.dirty.is_clean and rig.target.probe.of("write") == []


# Write-blocking mode.


@pytest.mark.parametrize("kind", list(CHANGES))
@pytest.mark.parametrize(
    ("offset", "length"), [(0, SIZE), (CHUNK, CHUNK), (5, 1), (CHUNK - 1, 2), (100, 3 * CHUNK)]
)
def test_a_change_is_on_both_images_when_it_returns(kind: str, offset: int, length: int) -> None:
    rig = Rig(blocking=True)
    CHANGES[kind](rig.drive, offset, length)
    rig.assert_equal()
    assert rig.dirty.is_clean and rig.dirtied == []
    assert rig.mirrored == [(offset, length)]
    assert rig.known.touches(offset, length), "the target is no longer known to be zero there"
    assert not rig.ranges.held()


def test_whole_chunks_become_clean_and_edges_stay_as_they_were() -> None:
    rig = Rig(blocking=True)
    rig.dirty.mark(0, 4 * CHUNK)
    rig.drive.write(100, pattern(3 * CHUNK, 7))
    assert rig.dirty.runs(0, SIZE) == [
        (CHUNK, True),
        (2 * CHUNK, False),
        (CHUNK, True),
        (SIZE - 4 * CHUNK, False),
    ]


def test_a_target_that_fails_marks_outward_first_and_then_tells() -> None:
    for kind in EVENTS:
        rig = Rig(blocking=True)
        rig.target.fail(EVENTS[kind], number=errno.ENOSPC)
        CHANGES[kind](rig.drive, CHUNK - 1, 2)
        assert [error.errno for error in rig.failed] == [errno.ENOSPC]
        assert rig.marked_when_told == [2 * CHUNK]
        assert rig.dirtied == [2 * CHUNK] and rig.mirrored == []


def test_a_discard_that_cannot_be_brought_over_marks_and_succeeds() -> None:
    rig = Rig(blocking=True)
    rig.target.fail("zero")
    rig.drive.discard(0, CHUNK)
    assert rig.dirty.dirty_bytes == CHUNK and len(rig.failed) == 1
    rig = Rig(blocking=True)
    rig.source.bottom.limits = MemoryNode(1, can_discard=False).limits
    rig.source.fail("read")
    rig.drive.discard(100, 512)  # less than a cluster: what it reads as has to be read
    assert rig.dirty.dirty_bytes == CHUNK and rig.failed[0].is_read


def test_a_discard_of_a_source_that_keeps_its_bytes_brings_those() -> None:
    rig = Rig(blocking=True)
    source = MemoryNode(pattern(4 * MiB, 3), can_discard=False)
    target = MemoryNode(4 * MiB)
    hook = WriteBlocking(
        DirtyBitmap(4 * MiB, CHUNK), DirtyBitmap(4 * MiB, CHUNK), RangeLock(), target, rig
    )
    drive = Drive(source)
    drive.attach(hook)
    drive.discard(5, 3 * MiB)
    assert target.content() == bytes(5) + source.content()[5 : 5 + 3 * MiB] + bytes(MiB - 5)


def test_a_defect_of_a_driver_marks_and_goes_up() -> None:
    class Broken(MemoryNode):
        def write(self, offset: int, data: Buffer) -> None:
            raise ZeroDivisionError

    rig = Rig(blocking=True)
    hook = WriteBlocking(rig.dirty, rig.known, rig.ranges, Broken(SIZE), rig)
    rig.drive.attach(hook)
    with pytest.raises(ZeroDivisionError):
        rig.drive.write(0, b"x")
    assert rig.dirty.dirty_bytes == CHUNK and not rig.ranges.held()


@pytest.mark.parametrize("kind", list(CHANGES))
def test_passive_only_tracks(kind: str) -> None:
    rig = Rig(blocking=True)
    assert isinstance(rig.hook, WriteBlocking)
    rig.hook.passive = True
    CHANGES[kind](rig.drive, 0, CHUNK)
    assert rig.order.seen == [(0, 0)]
    assert rig.dirty.dirty_bytes == CHUNK and rig.dirtied == [CHUNK]
    assert rig.target.probe.requests == [] and rig.failed == []


def test_a_guest_that_became_passive_while_it_wrote_leaves_the_target_alone() -> None:
    rig = Rig(blocking=True)
    assert isinstance(rig.hook, WriteBlocking)
    rule = rig.source.hang("write")
    guest = threading.Thread(target=lambda: rig.drive.write(0, b"x"))
    guest.start()
    assert rig.source.node.wait_for_waiting(1, 10)
    rig.hook.passive = True
    rig.source.let_go(rule)
    guest.join(10)
    assert rig.target.probe.requests == [] and rig.dirty.dirty_bytes == CHUNK


def test_the_range_is_claimed_from_before_the_source_until_after_the_target() -> None:
    rig = Rig(blocking=True)
    for side in (rig.source, rig.target):
        rule = side.hang("write")
        guest = threading.Thread(target=lambda: rig.drive.write(10, b"x" * 20))
        guest.start()
        assert side.node.wait_for_waiting(1, 10)
        assert [(claim.offset, claim.length) for claim in rig.ranges.held()] == [(10, 20)]
        assert rig.ranges.claim_prefix(0, CHUNK, CHUNK) is None
        side.let_go(rule)
        guest.join(10)
    assert rig.ranges.held() == ()
