"""Write-blocking copy mode: S43 to S52."""

import asyncio

import pytest

from mirrorgui.errors import BlockIOError, InvalidInput
from mirrorgui.mirror.guest import Tracking, WriteBlocking
from mirrorgui.mirror.options import CopyMode, ErrorPolicy
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, Mirror, content, mirroring, pattern

BLOCKING = {"copy_mode": CopyMode.WRITE_BLOCKING}
NEW = pattern(2 * MiB, 7)


async def active(mirror: Mirror) -> None:
    """Wait until writes go to both images."""
    await mirror.until(lambda: isinstance(mirror.job._hook, WriteBlocking))


def on_target(mirror: Mirror, offset: int, length: int) -> bytes:
    return content(mirror.target.bottom)[offset : offset + length]


@pytest.mark.asyncio
async def test_s43_an_aligned_write_is_on_the_target_when_it_returns() -> None:
    async with mirroring(pattern(MiB), speed=1, **BLOCKING) as mirror:
        await active(mirror)
        await mirror.write(8 * CHUNK, NEW[:CHUNK])
        assert on_target(mirror, 8 * CHUNK, CHUNK) == NEW[:CHUNK]
        assert mirror.check().dirtied_bytes == 0
        mirror.job.set_speed(0)
        await mirror.complete()
        mirror.assert_equal()
        assert content(mirror.target.bottom)[8 * CHUNK :][:CHUNK] == NEW[:CHUNK]


@pytest.mark.asyncio
async def test_s44_a_byte_in_a_dirty_chunk_leaves_the_rest_of_it_to_the_job() -> None:
    async with mirroring(pattern(MiB), speed=1, **BLOCKING) as mirror:
        await active(mirror)
        await mirror.write(8 * CHUNK + 42, b"!")
        assert 8 * CHUNK in mirror.job._engine.dirty
        await mirror.write(9 * CHUNK - 100, NEW[: CHUNK + 200])
        assert 8 * CHUNK in mirror.job._engine.dirty
        assert 9 * CHUNK not in mirror.job._engine.dirty
        assert 10 * CHUNK in mirror.job._engine.dirty
        mirror.job.set_speed(0)
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, CHUNK), (CHUNK + 1, 1), (5 * CHUNK - 7, 100), (8 * CHUNK + 4096, 4096), (0, MiB)],
)
async def test_s46_when_ready_every_change_is_on_both_images_when_it_returns(
    offset: int, length: int
) -> None:
    async with mirroring(pattern(MiB), **BLOCKING) as mirror:
        await mirror.ready()
        await active(mirror)
        await mirror.write(offset, NEW[:length])
        mirror.assert_equal()
        await mirror.zero(offset, length)
        mirror.assert_equal()
        assert on_target(mirror, offset, length) == bytes(length)
        await mirror.write(offset, NEW[:length])
        await mirror.discard(offset, length)
        mirror.assert_equal()
        assert mirror.check().actively_synced
        assert mirror.check().dirtied_bytes == 0
        await mirror.complete()


@pytest.mark.asyncio
async def test_s46_ready_is_not_announced_before_writes_go_to_both_images() -> None:
    """The guest's write keeps the job's first hold waiting, so that its second one comes late."""
    async with mirroring(pattern(CHUNK), start=False, **BLOCKING) as mirror:
        slow = mirror.source.hang("write", 0)
        first = mirror.guest(lambda drive: drive.write(0, NEW[:512]))
        await mirror.source.hanging()
        mirror.job.start()
        await mirror.until(lambda: mirror.drive._held)
        await asyncio.sleep(0.1)  # for twice as long no guest is held again
        mirror.source.let_go(slow)
        await first
        await mirror.ready()
        assert isinstance(mirror.job._hook, WriteBlocking)
        await mirror.write(0, NEW[:CHUNK])
        mirror.assert_equal()
        await mirror.complete()


@pytest.mark.asyncio
async def test_writes_to_the_same_bytes_arrive_on_both_images_in_the_same_order() -> None:
    async with mirroring(pattern(4 * CHUNK), **BLOCKING) as mirror:
        await mirror.ready()
        await active(mirror)

        def hammer(guest: int) -> None:
            for number in range(100):
                offset = (number % 5) * 4096 + guest * 512
                mirror.drive.write(offset, pattern(8192, guest * 1000 + number))

        await asyncio.gather(
            *(mirror.guest(lambda _, guest=guest: hammer(guest)) for guest in range(4))
        )
        mirror.assert_equal()
        assert mirror.check().actively_synced


@pytest.mark.asyncio
async def test_s48_a_target_error_is_the_jobs_and_not_the_guests() -> None:
    async with mirroring(pattern(MiB), **BLOCKING) as mirror:
        await mirror.ready()
        await active(mirror)
        mirror.target.fail("write", 0, once=True)
        await mirror.write(0, NEW[:CHUNK])
        end = await mirror.end()
        assert end.error == "Input/output error"
        assert mirror.find("BLOCK_JOB_ERROR", operation="write", action="report")
        assert content(mirror.source.bottom)[:CHUNK] == NEW[:CHUNK]
        await mirror.write(CHUNK, b"the guest works on")


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", [ErrorPolicy.STOP, ErrorPolicy.IGNORE])
async def test_s48_the_job_brings_what_the_guest_could_not(policy: ErrorPolicy) -> None:
    async with mirroring(pattern(MiB), on_target_error=policy, **BLOCKING) as mirror:
        await mirror.ready()
        await active(mirror)
        mirror.target.fail("write", 0, once=True)
        await mirror.write(0, NEW[:1000])
        if policy is ErrorPolicy.STOP:
            await mirror.status("standby")
            assert 0 in mirror.job._engine.dirty
            await mirror.write(CHUNK, NEW[:CHUNK])  # only tracked: the target is left alone
            assert on_target(mirror, CHUNK, CHUNK) == pattern(MiB)[CHUNK : 2 * CHUNK]
            mirror.job.resume()
        await mirror.status("ready")
        await mirror.settled()
        mirror.assert_equal()
        await mirror.complete()


@pytest.mark.asyncio
async def test_a_source_error_is_the_guests_and_the_chunk_is_copied_again() -> None:
    async with mirroring(pattern(MiB), **BLOCKING) as mirror:
        await mirror.ready()
        await active(mirror)
        mirror.source.fail("write", 0, once=True)
        mirror.target.probe.forget()
        with pytest.raises(BlockIOError):
            await mirror.write(0, NEW[:CHUNK])
        await mirror.until(lambda: mirror.target.probe.of("write"))
        await mirror.settled()
        mirror.assert_equal()
        await mirror.complete()


@pytest.mark.asyncio
async def test_a_paused_job_leaves_the_target_alone_and_catches_up_later() -> None:
    async with mirroring(pattern(MiB), **BLOCKING) as mirror:
        await mirror.ready()
        await active(mirror)
        mirror.job.pause()
        await mirror.status("standby")
        before = content(mirror.target.bottom)
        await mirror.write(1000, NEW[:CHUNK])
        await mirror.zero(4 * CHUNK, 100)
        await mirror.discard(6 * CHUNK, CHUNK)
        assert content(mirror.target.bottom) == before
        assert not mirror.check().actively_synced
        mirror.job.resume()
        await mirror.settled()
        mirror.assert_equal()
        await mirror.write(0, NEW[:10])
        mirror.assert_equal()
        await mirror.complete()


@pytest.mark.asyncio
async def test_s50_the_mode_changes_while_requests_are_in_flight() -> None:
    async with mirroring(pattern(4 * MiB), arm=lambda _, to: to.hang("write")) as mirror:
        await mirror.target.hanging()
        rule = mirror.source.hang("write", 0)
        tracked = mirror.guest(lambda drive: drive.write(0, NEW[:CHUNK]))
        await mirror.source.hanging()
        mirror.job.change(CopyMode.WRITE_BLOCKING)
        await mirror.until(lambda: mirror.job._hold._number > 1)
        assert isinstance(mirror.job._hook, Tracking), "the one inside is waited for"
        mirror.source.let_go(rule)
        await tracked
        await active(mirror)
        mirror.target.node.clear()
        await mirror.ready()
        await mirror.until(lambda: mirror.check().actively_synced)
        for number in range(8):
            await mirror.write(number * 1000, NEW[: number * 5000 + 1])
            mirror.assert_equal()
        await mirror.complete()


@pytest.mark.asyncio
async def test_a_guest_waits_for_the_copy_of_its_range_and_for_no_other() -> None:
    async with mirroring(
        pattern(MiB), arm=lambda _, to: to.hang("write", 0), buf_size=CHUNK, **BLOCKING
    ) as mirror:
        await active(mirror)
        await mirror.target.hanging()
        await mirror.write(8 * CHUNK, NEW[:CHUNK])
        waits = mirror.guest(lambda drive: drive.write(100, b"after the copy"))
        await mirror.until(lambda: mirror.job._engine.ranges.waiting)
        assert content(mirror.source.bottom)[:CHUNK] == pattern(CHUNK)
        mirror.target.node.clear()
        await waits
        assert on_target(mirror, 100, 14) == b"after the copy"
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s51_there_is_no_way_back_to_background() -> None:
    async with mirroring(pattern(64 * KiB), **BLOCKING) as mirror:
        await mirror.ready()
        with pytest.raises(InvalidInput, match="Change to copy mode 'background' is not impl"):
            mirror.job.change(CopyMode.BACKGROUND)
        mirror.job.change(CopyMode.WRITE_BLOCKING)
        await active(mirror)
        await mirror.complete()


@pytest.mark.asyncio
async def test_s52_a_background_job_is_never_actively_synced() -> None:
    async with mirroring(pattern(64 * KiB)) as mirror:
        ready = await mirror.ready()
        assert ready.copy_mode is CopyMode.BACKGROUND and not ready.actively_synced
        mirror.job.change(CopyMode.BACKGROUND)
        mirror.job.change(CopyMode.WRITE_BLOCKING)
        await mirror.until(lambda: mirror.check().actively_synced)
        await mirror.complete()
