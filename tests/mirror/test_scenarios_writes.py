"""Guests that write while the job copies, in background mode: S34 to S42."""

import asyncio
import threading

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.mirror.guest import WriteBlocking
from mirrorgui.mirror.options import CopyMode
from mirrorgui.units import MiB
from tests.mirror.harness import CHUNK, Mirror, content, in_thread, islands, mirroring, pattern

NEW = pattern(CHUNK, 7)


@pytest.mark.asyncio
async def test_s34_a_write_while_its_chunk_is_read_is_copied_again() -> None:
    async with mirroring(
        pattern(CHUNK), arm=lambda source, _: source.hang("read", once=True)
    ) as mirror:
        await mirror.source.hanging()
        await mirror.write(100, b"newest data")
        mirror.source.node.release()
        end = await mirror.complete()
        mirror.assert_equal()
        assert end.offset == end.length == 2 * CHUNK, "copied twice"


@pytest.mark.asyncio
async def test_s34_a_write_between_read_and_write_of_the_copy_is_copied_again() -> None:
    async with mirroring(pattern(CHUNK), arm=lambda _, to: to.hang("write", once=True)) as mirror:
        await mirror.target.hanging()
        await mirror.write(0, NEW)
        assert mirror.check().dirty_bytes == CHUNK
        mirror.target.node.release()
        await mirror.complete()
        mirror.assert_equal()
        assert content(mirror.target.bottom) == NEW


@pytest.mark.asyncio
async def test_s35_the_second_copy_of_a_chunk_starts_when_the_first_has_ended() -> None:
    async with mirroring(
        pattern(4 * CHUNK), arm=lambda _, to: to.hang("write", 0), copy_threads=4
    ) as mirror:
        for number in range(2, 20):
            await mirror.target.hanging()
            await mirror.write(0, pattern(CHUNK, number))
            assert mirror.target.node.waiting == 1, "while the first copy is on its way"
            mirror.target.node.release()
        mirror.target.node.clear()
        await mirror.complete()
        assert mirror.target.probe.overlaps == []
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s37_len_grows_with_what_the_guest_writes_and_offset_follows() -> None:
    async with mirroring(pattern(4 * MiB)) as mirror:
        ready = await mirror.ready()
        assert (ready.offset, ready.length) == (4 * MiB, 4 * MiB)
        await mirror.write(MiB, pattern(MiB, 2))
        assert mirror.check().length == 5 * MiB
        settled = await mirror.settled()
        assert (settled.offset, settled.length, settled.dirtied_bytes) == (5 * MiB, 5 * MiB, MiB)
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s39_a_write_between_clean_and_the_end_is_not_lost() -> None:
    """The guest is inside while the job wants to end, and finishes its write only then."""
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        rule = mirror.source.hang("write", 0)
        late = mirror.guest(lambda drive: drive.write(0, NEW))
        await mirror.source.hanging()
        mirror.job.complete()
        await mirror.until(lambda: mirror.job._hold._number > 1)
        assert mirror.drive._held, "new guests wait, the one inside is waited for"
        mirror.source.let_go(rule)
        await late
        await mirror.end()
        assert content(mirror.target.bottom)[:CHUNK] == NEW
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s39_a_write_during_the_last_flush_waits_and_goes_to_the_new_image() -> None:
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        mirror.job.complete()
        rule = mirror.target.hang("flush")
        await mirror.target.hanging()
        mirror.target.node.release()  # the first one, for which no guest is held
        await mirror.target.hanging()
        assert mirror.drive._held
        before = content(mirror.source.bottom)
        late = mirror.guest(lambda drive: drive.write(0, NEW))
        mirror.target.let_go(rule)
        await mirror.end()
        await late
        assert content(mirror.target.bottom)[:CHUNK] == NEW
        assert content(mirror.source.bottom) == before


@pytest.mark.asyncio
async def test_s40_a_write_behind_the_scan_is_not_missed() -> None:
    source, target = islands(MiB, (0, CHUNK)), MemoryNode(pattern(MiB, 9))
    async with mirroring(source, target, arm=lambda _, to: to.hang("zero", once=True)) as mirror:
        await mirror.target.hanging()  # the scan removes garbage behind the first chunk
        assert mirror.check().phase.value == "scanning"
        await mirror.write(3 * CHUNK, NEW)
        await mirror.zero(0, 100)
        mirror.target.node.release()
        await mirror.complete()
        mirror.assert_equal()


class Writer:
    """A guest that overwrites an image as fast as it can until told to stop."""

    def __init__(self, mirror: Mirror, chunks: int, step: int = 1) -> None:
        self.stop = threading.Event()
        self.writes = 0
        self.longest = 0.0
        self.done = in_thread(lambda: self._write(mirror, chunks, step))

    def _write(self, mirror: Mirror, chunks: int, step: int) -> None:
        while not self.stop.is_set():
            self.writes += 1
            mirror.drive.write(self.writes * step % chunks * CHUNK, pattern(512, self.writes))


@pytest.mark.asyncio
async def test_s41_a_writer_faster_than_the_target_delays_ready_until_it_stops() -> None:
    async with mirroring(
        pattern(4 * MiB), arm=lambda _, to: to.delay("write", 0.02), copy_threads=1, buf_size=CHUNK
    ) as mirror:
        writer = Writer(mirror, 64)
        await asyncio.sleep(1)
        assert mirror.job.status.value == "running"
        assert mirror.check().offset > 0, "it copies all the time"
        assert writer.writes > 1000, "and the guest is not slowed down"
        writer.stop.set()
        await writer.done
        mirror.target.node.clear()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s41_a_writer_that_never_stops_does_not_starve_a_fast_target() -> None:
    """Better than QEMU's: guests are held for a moment, so READY and the end come all the same."""
    async with mirroring(pattern(4 * MiB)) as mirror:
        writer = Writer(mirror, 64)
        await mirror.complete()
        writer.stop.set()
        await writer.done
        assert mirror.find("BLOCK_JOB_COMPLETED")


@pytest.mark.asyncio
async def test_s42_write_blocking_reaches_ready_under_load() -> None:
    async with mirroring(
        pattern(4 * MiB),
        arm=lambda _, to: to.delay("write", 0.002),
        copy_mode=CopyMode.WRITE_BLOCKING,
        buf_size=2 * CHUNK,
    ) as mirror:
        writer = Writer(mirror, 64, step=7)
        await mirror.ready()
        assert isinstance(mirror.job._hook, WriteBlocking)
        assert len(mirror.target.probe.of("write")) > 20, "background copies go on meanwhile"
        writer.stop.set()
        await writer.done
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_several_guests_write_while_the_job_copies_and_ends() -> None:
    async with mirroring(pattern(8 * MiB)) as mirror:
        stop = threading.Event()
        last: dict[int, int] = {}

        def write(guest: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                chunk = (guest + number * 4) % 128
                mirror.drive.write(chunk * CHUNK, pattern(4096, guest * 1_000_000 + number))
                last[chunk] = guest * 1_000_000 + number

        guests = [in_thread(lambda guest=guest: write(guest)) for guest in range(4)]
        await mirror.complete()
        stop.set()
        await asyncio.gather(*guests)
        now = content(mirror.target.bottom)
        for chunk, seed in last.items():
            assert now[chunk * CHUNK :][:4096] == pattern(4096, seed)
