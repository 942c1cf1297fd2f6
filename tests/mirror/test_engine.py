"""The engine alone: which ranges, in which order, how many at once, and waking up."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.engine import MAX_RANGES, CopyEngine, thread_count
from mirrorgui.mirror.operation import Piece, Stall
from mirrorgui.mirror.options import MAX_IN_FLIGHT
from mirrorgui.units import GiB, KiB, MiB
from tests.mirror.harness import CHUNK, Side, content, in_thread, pattern


class Rig:
    """An engine between two images in memory, suspended at first."""

    def __init__(self, size: int, **options: int) -> None:
        self.source, self.target = Side(MemoryNode(pattern(size))), Side(MemoryNode(size))
        self.failed: list[tuple[int, int]] = []
        self.broken: list[BaseException] = []
        self.changed = asyncio.Event()
        self.engine = CopyEngine(
            self.source.node,
            self.target.node,
            granularity=options.get("granularity", CHUNK),
            buf_size=options.get("buf_size", 16 * MiB),
            speed=options.get("speed", 0),
            unmap=True,
            threads=options.get("threads", 2),
            listener=self,
        )

    def piece_failed(self, piece: Piece, error: BlockIOError) -> bool:
        self.failed.append((piece.offset, piece.length))
        return self.engine.failures.defer(piece.offset, piece.length)

    def engine_broken(self, error: BaseException) -> None:
        self.broken.append(error)

    def engine_changed(self) -> None:
        self.changed.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def clean(self) -> None:
        await self.until(lambda: self.engine.is_clean)


@asynccontextmanager
async def engine(size: int, **options: int) -> AsyncIterator[Rig]:
    rig = Rig(size, **options)
    try:
        yield rig
    finally:
        rig.source.node.clear()
        rig.target.node.clear()
        rig.engine.suspend()
        await rig.until(lambda: rig.engine.is_idle)
        await rig.engine.close()


@pytest.mark.asyncio
async def test_it_copies_what_is_dirty_in_order_and_nothing_else() -> None:
    async with engine(4 * MiB, threads=1) as rig:
        rig.engine.dirty.mark(MiB, MiB)
        rig.engine.dirty.mark(3 * MiB + 5, 1)
        assert rig.engine.stall is Stall.SUSPENDED
        rig.engine.resume()
        await rig.clean()
        assert rig.engine.stall is Stall.CLEAN
        places = [(each.offset, each.length) for each in rig.target.probe.of("write")]
        assert places == [(MiB, MiB), (3 * MiB, CHUNK)]
        assert rig.engine.done_bytes == rig.engine.copied_bytes == MiB + CHUNK
        assert rig.engine.copied.dirty_bytes == MiB + CHUNK


@pytest.mark.asyncio
async def test_the_cursor_goes_on_and_wraps_around() -> None:
    async with engine(16 * CHUNK, threads=1, buf_size=CHUNK) as rig:
        rig.engine.dirty.mark_all()
        rule = rig.target.hang("write", 4 * CHUNK)
        rig.engine.resume()
        await rig.target.hanging()
        rig.engine.dirty.mark(0, CHUNK)
        rig.target.let_go(rule)
        await rig.clean()
        order = [each.offset // CHUNK for each in rig.target.probe.of("write")]
        assert order == [*range(16), 0], "a chunk that is written all the time starves no other"


@pytest.mark.asyncio
async def test_scattered_chunks_are_gathered_into_one_operation() -> None:
    async with engine(8 * MiB, threads=1) as rig:
        for chunk in range(0, 128, 2):
            rig.engine.dirty.mark(chunk * CHUNK, 1)
        rig.target.hang("write")
        rig.engine.resume()
        await rig.target.hanging()
        views = rig.engine.operations()
        assert [len(view.ranges) for view in views] == [MAX_RANGES] * 4
        assert [view.offset for view in views] == [0, 2 * MiB, 4 * MiB, 6 * MiB]
        assert rig.engine.in_flight_bytes == 64 * CHUNK


@pytest.mark.asyncio
async def test_no_more_than_16_operations_and_the_buffer_are_claimed() -> None:
    for buf_size, operations in ((0, MAX_IN_FLIGHT), (2 * MiB, 2)):
        async with engine(32 * MiB, buf_size=buf_size or 16 * MiB) as rig:
            rig.engine.dirty.mark_all()
            rig.target.hang("write")
            rig.engine.resume()
            assert rig.engine.in_flight == operations
            assert rig.engine.stall is Stall.FULL
            assert rig.engine.in_flight_bytes == operations * MiB


@pytest.mark.asyncio
async def test_suspending_takes_back_what_has_not_begun() -> None:
    async with engine(32 * MiB, threads=1) as rig:
        rig.engine.dirty.mark_all()
        rig.target.hang("write")
        rig.engine.resume()
        await rig.target.hanging()
        rig.engine.suspend()
        assert rig.engine.in_flight <= 4, "the batch that is being worked on"
        rig.target.node.clear()
        await rig.until(lambda: rig.engine.is_idle)
        assert len(rig.target.probe.of("write")) == 1
        assert rig.engine.dirty_bytes == 31 * MiB
        rig.engine.resume()
        await rig.clean()
        assert content(rig.target.bottom) == pattern(32 * MiB)


@pytest.mark.asyncio
async def test_a_mark_from_any_thread_wakes_a_clean_engine() -> None:
    async with engine(MiB) as rig:
        rig.engine.resume()
        assert rig.engine.stall is Stall.CLEAN
        for number in range(50):

            def mark(number: int = number) -> None:
                rig.engine.dirty.mark(number % 16 * CHUNK, 1)
                rig.engine.kick()

            await in_thread(mark)
            await rig.until(
                lambda number=number: (
                    rig.engine.is_clean and rig.engine.done_bytes >= (number + 1) * CHUNK
                )
            )


@pytest.mark.asyncio
async def test_what_only_waits_for_a_guest_is_copied_when_the_guest_leaves() -> None:
    async with engine(MiB) as rig:
        inside, leave = threading.Event(), threading.Event()

        def guest() -> None:
            with rig.engine.ranges.guest_claim(0, CHUNK):
                inside.set()
                assert leave.wait(10)

        done = in_thread(guest)
        assert inside.wait(10)
        rig.engine.dirty.mark(0, CHUNK)
        rig.engine.resume()
        assert rig.engine.stall is Stall.BUSY and rig.engine.has_guests
        leave.set()
        await done
        await rig.clean()
        assert not rig.engine.has_guests


@pytest.mark.asyncio
async def test_gigabytes_claimed_by_a_guest_are_stepped_over_at_once() -> None:
    size = 4 * GiB
    async with engine(0) as rig:
        wide = CopyEngine(
            MemoryNode(size),
            MemoryNode(size),
            granularity=4 * KiB,
            buf_size=16 * MiB,
            speed=0,
            unmap=True,
            threads=1,
            listener=rig,
        )
        wide.dirty.mark_all()
        claim = wide.ranges.claim_prefix(0, size - 4 * KiB, 4 * KiB)
        assert claim is not None
        began = time.perf_counter()
        wide.resume()
        assert time.perf_counter() - began < 0.2, "a million chunks one by one stop the loop"
        assert wide.in_flight == 1, "and what is free behind them is copied"
        wide.suspend()
        wide.ranges.release(claim)
        await rig.until(lambda: wide.is_idle)
        await wide.close()


@pytest.mark.asyncio
async def test_a_failed_chunk_is_put_aside_and_the_others_go_on() -> None:
    async with engine(4 * MiB) as rig:
        rig.engine.dirty.mark_all()
        rig.source.fail("read", 5 * CHUNK, once=True)
        rig.engine.resume()
        await rig.until(lambda: rig.engine.dirty.is_clean and rig.engine.is_idle)
        assert rig.failed == [(0, MiB)]
        assert rig.engine.done_bytes == 3 * MiB and rig.engine.dirty_bytes == MiB
        assert not rig.engine.is_clean
        rig.engine.retry_deferred()
        await rig.clean()
        assert content(rig.target.bottom) == pattern(4 * MiB)


@pytest.mark.asyncio
async def test_put_aside_chunks_come_back_by_themselves() -> None:
    async with engine(MiB) as rig:
        rig.engine.dirty.mark_all()
        rig.target.fail("write", 0, once=True)
        rig.engine.resume()
        began = time.monotonic()
        await rig.clean()
        assert 0.09 < time.monotonic() - began < 5


@pytest.mark.asyncio
async def test_a_restful_engine_begins_a_pass_ten_times_a_second_unless_it_is_urgent() -> None:
    async with engine(MiB) as rig:
        rig.engine.resume()
        rig.engine.restful = True
        stop = threading.Event()

        def guest() -> None:
            while not stop.wait(0.001):
                rig.engine.dirty.mark(0, 1)
                rig.engine.kick()

        done = in_thread(guest)
        await asyncio.sleep(0.5)
        assert 2 <= rig.engine.done_bytes // CHUNK <= 8
        rig.engine.urgent = True
        before = rig.engine.done_bytes
        rig.engine.pump()
        await asyncio.sleep(0.2)
        assert (rig.engine.done_bytes - before) // CHUNK > 10
        stop.set()
        await done


@pytest.mark.asyncio
async def test_urgent_copies_ignore_the_limit_and_are_not_charged() -> None:
    async with engine(4 * MiB, speed=1) as rig:
        rig.engine.dirty.mark_all()
        rig.engine.resume()
        assert rig.engine.stall is Stall.THROTTLED
        rig.engine.urgent = True
        rig.engine.pump()
        await rig.clean()
        assert rig.engine.limit.delay_ns() < 70_000 * 10**9, "one chunk was charged, before"


@pytest.mark.asyncio
async def test_a_driver_with_a_defect_is_told_and_its_range_is_dirty_again() -> None:
    async with engine(MiB) as rig:

        def broken(offset: int, data: object) -> None:
            raise ZeroDivisionError

        rig.target.probe.write = broken
        rig.engine.dirty.mark(0, CHUNK)
        rig.engine._batch = 1
        rig.engine.resume()
        await rig.until(lambda: rig.broken)
        rig.engine.suspend()
        await rig.until(lambda: rig.engine.is_idle)
        assert isinstance(rig.broken[0], ZeroDivisionError)
        assert rig.engine.dirty_bytes == CHUNK and rig.engine.ranges.held() == ()


@pytest.mark.asyncio
async def test_the_map_for_others_shows_what_is_dirty_failed_or_in_flight() -> None:
    async with engine(MiB, threads=1, buf_size=CHUNK) as rig:
        rig.target.hang("write")
        rig.engine.dirty.mark(0, 2 * CHUNK)
        rig.engine.resume()
        await rig.target.hanging()
        rig.engine.failures.failed.mark(8 * CHUNK, 1)
        runs = rig.engine.dirty_extents(100, MiB - 200)
        merged: list[tuple[int, bool]] = []
        for length, dirty in runs:
            if merged and merged[-1][1] == dirty:
                length += merged.pop()[0]
            merged.append((length, dirty))
        assert merged == [
            (2 * CHUNK - 100, True),
            (6 * CHUNK, False),
            (CHUNK, True),
            (7 * CHUNK - 100, False),
        ]


def test_the_number_of_threads_follows_the_nodes() -> None:
    node = MemoryNode(1)
    assert thread_count(7, node, node) == 7
    assert 1 <= thread_count(0, node, node) <= 4
    far = MemoryNode(1)
    far.limits = replace(far.limits, latency_bound=True)
    assert thread_count(0, node, far) == thread_count(0, far, node) == MAX_IN_FLIGHT
