"""The happy path, sizes and geometry: S01 to S15."""

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, content, mirroring, pattern

SUCCESS = [
    "created", "running", "ready", "READY", "waiting", "pending", "COMPLETED", "concluded", "null",
]  # fmt: skip


@pytest.mark.asyncio
async def test_s01_complete_switches_the_guest_to_an_equal_target() -> None:
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        mirror.assert_equal()
        mirror.job.complete()
        end = await mirror.end()
        assert mirror.names() == SUCCESS
        assert (end.offset, end.length, end.outcome) == (MiB, MiB, Outcome.SWITCHED)
        before = content(mirror.source.bottom)
        await mirror.write(5 * CHUNK, b"later" * 1000)
        assert content(mirror.source.bottom) == before, "the source is left alone after the switch"
        assert content(mirror.target.bottom)[5 * CHUNK :][:5000] == b"later" * 1000


@pytest.mark.asyncio
async def test_s02_soft_cancel_after_ready_leaves_a_frozen_copy_and_the_source_in_use() -> None:
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        mirror.job.cancel()
        end = await mirror.end()
        assert mirror.names() == SUCCESS
        assert (end.outcome, end.error) == (Outcome.FINISHED, None)
        mirror.assert_equal()
        await mirror.write(0, b"x" * 100)
        assert mirror.drive.node is mirror.source.node
        assert content(mirror.target.bottom) == pattern(MiB)


@pytest.mark.asyncio
async def test_s03_an_empty_image_becomes_ready_and_stays_so_until_told() -> None:
    async with mirroring(b"") as mirror:
        ready = await mirror.ready()
        assert (ready.offset, ready.length) == (0, 0)
        assert mirror.job.status.value == "ready"
        mirror.job.complete()
        await mirror.end()
        assert mirror.names() == SUCCESS


@pytest.mark.asyncio
@pytest.mark.parametrize(("force", "last"), [(False, "COMPLETED"), (True, "CANCELLED")])
async def test_s04_an_empty_image_can_be_cancelled(force: bool, last: str) -> None:
    async with mirroring(b"") as mirror:
        await mirror.ready()
        mirror.job.cancel(force=force)
        await mirror.end()
        assert mirror.names()[-3:] == [last, "concluded", "null"]


@pytest.mark.asyncio
async def test_s05_an_image_that_is_no_multiple_of_the_chunk() -> None:
    size = 1025 * KiB
    async with mirroring(pattern(size), granularity=64 * KiB) as mirror:
        end = await mirror.complete()
        assert (end.offset, end.length) == (1049600, 1049600)
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s06_an_image_smaller_than_a_chunk() -> None:
    async with mirroring(pattern(512), granularity=64 * KiB) as mirror:
        end = await mirror.complete()
        assert (end.offset, end.length, end.size) == (512, 512, 512)
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 511, 1000, 65537, 3 * CHUNK - 1])
async def test_s08_sizes_are_exact_to_the_byte_where_qemu_rounds_up(size: int) -> None:
    async with mirroring(pattern(size)) as mirror:
        end = await mirror.complete()
        assert end.offset == end.length == size
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize(("source", "target"), [(MiB, 2 * MiB), (2 * MiB, MiB), (0, 1)])
async def test_s09_different_sizes_fail_before_a_byte_is_written(source: int, target: int) -> None:
    garbage = pattern(target, seed=9)
    async with mirroring(pattern(source), MemoryNode(garbage)) as mirror:
        end = await mirror.end()
        assert mirror.names() == [
            "created", "running", "aborting", "COMPLETED", "concluded", "null",
        ]  # fmt: skip
        (completed,) = mirror.find("BLOCK_JOB_COMPLETED")
        assert completed.data["error"] == "Source and target image have different sizes"
        assert (completed.data["len"], completed.data["offset"]) == (0, 0)
        assert end.outcome is Outcome.FAILED
        assert content(mirror.target.bottom) == garbage
        assert mirror.target.probe.requests == []


@pytest.mark.asyncio
@pytest.mark.parametrize("granularity", [512, 4096, 65536, MiB, 64 * MiB])
async def test_s10_every_granularity_copies_in_operations_within_the_cap(granularity: int) -> None:
    size = 3 * MiB + 512
    async with mirroring(pattern(size), granularity=granularity) as mirror:
        end = await mirror.complete()
        assert end.granularity == granularity
        mirror.assert_equal()
        assert max(each.length for each in mirror.target.probe.of("write")) <= max(
            MiB, min(granularity, size)
        )


@pytest.mark.asyncio
async def test_s11_a_buffer_smaller_than_a_chunk_is_rounded_up() -> None:
    async with mirroring(pattern(MiB), buf_size=4096, granularity=64 * KiB) as mirror:
        end = await mirror.complete()
        assert end.buf_size == 64 * KiB
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s13_a_buffer_of_one_chunk_allows_one_operation_at_a_time() -> None:
    async with mirroring(pattern(128 * CHUNK), buf_size=CHUNK, copy_threads=4) as mirror:
        await mirror.complete()
        assert mirror.target.probe.at_once == 1
        assert {each.length for each in mirror.target.probe.of("write")} == {CHUNK}
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s14_with_defaults_at_most_16_operations_of_at_most_1_mib() -> None:
    async with mirroring(pattern(32 * MiB), arm=lambda _, to: to.hang("write")) as mirror:
        await mirror.until(lambda: mirror.job.snapshot().in_flight_bytes == 16 * MiB)
        operations = mirror.check().operations
        assert len(operations) == 16
        assert {each.length for each in operations} == {MiB}
        mirror.target.node.clear()
        await mirror.complete()
        assert max(each.length for each in mirror.target.probe.of("write")) <= MiB
        mirror.assert_equal()
