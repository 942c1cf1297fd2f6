"""Targets over a backing file that is opened at the end: S29, and what Complete does."""

import asyncio
import threading

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import StateError
from mirrorgui.mirror.guest import WriteBlocking
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, SyncMode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, Mirror, content, mirroring, pattern
from tests.mirror.overlay import LateOverlay

SIZE = 4 * MiB
CLUSTER = 256 * KiB


def pair(
    size: int = SIZE, *, cluster_size: int = CLUSTER
) -> tuple[MemoryNode, MemoryNode, LateOverlay]:
    """A base, an overlay on it with small clusters, and a target on the same base."""
    base = MemoryNode(pattern(size), name="base")
    source = MemoryNode(size, name="source", backing=base, cluster_size=4 * KiB)
    return base, source, LateOverlay(size, base, cluster_size=cluster_size)


def changes(mirror: Mirror) -> list[tuple[int, int]]:
    """What was changed on the target, joined: (start, end)."""
    found: list[tuple[int, int]] = []
    requests = [*mirror.target.probe.of("write"), *mirror.target.probe.of("zero")]
    for each in sorted(requests, key=lambda each: each.offset):
        if found and found[-1][1] == each.offset:
            found[-1] = found[-1][0], each.offset + each.length
        else:
            found.append((each.offset, each.offset + each.length))
    return found


@pytest.mark.asyncio
async def test_s29_a_small_chunk_takes_the_whole_of_a_large_cluster_with_it() -> None:
    _, source, target = pair()
    source.write(300 * KiB, pattern(4 * KiB, 2))
    async with mirroring(source, target, sync=SyncMode.TOP, granularity=4096) as mirror:
        ready = await mirror.ready()
        assert changes(mirror) == [(262144, 524288)]
        assert (ready.offset, ready.length) == (262144, 262144)
        assert target.unopened_backing == "base", "not before it is completed"
        mirror.job.complete()
        end = await mirror.end()
        assert end.outcome is Outcome.SWITCHED
        assert target.unopened_backing == ""
        assert target.opened_in.startswith("copy"), "not on the loop"
        mirror.assert_equal()
        assert target.allocated_bytes() == CLUSTER


@pytest.mark.asyncio
async def test_s29_with_the_backing_file_open_nothing_is_rounded() -> None:
    base, source, _ = pair()
    source.write(300 * KiB, pattern(4 * KiB, 2))
    target = MemoryNode(SIZE, backing=base, cluster_size=CLUSTER)
    async with mirroring(source, target, sync=SyncMode.TOP, granularity=4096) as mirror:
        await mirror.complete()
        assert changes(mirror) == [(300 * KiB, 304 * KiB)]
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize("buf_size", [4096, 0])
async def test_a_cluster_larger_than_buffer_and_operation_is_copied_whole(buf_size: int) -> None:
    _, source, target = pair(cluster_size=2 * MiB)
    source.write(3 * MiB, pattern(4 * KiB, 2))
    source.write(SIZE - 1, b"x")
    options = {"granularity": 4096, "buf_size": buf_size}
    async with mirroring(source, target, sync=SyncMode.TOP, **options) as mirror:
        await mirror.complete()
        assert changes(mirror) == [(2 * MiB, 4 * MiB)]
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_later_write_to_a_copied_cluster_is_copied_alone() -> None:
    _, source, target = pair()
    source.write(300 * KiB, pattern(4 * KiB, 2))
    async with mirroring(source, target, sync=SyncMode.TOP, granularity=4096) as mirror:
        await mirror.ready()
        mirror.target.probe.forget()
        await mirror.write(400 * KiB, pattern(100, 3))
        await mirror.settled()
        assert changes(mirror) == [(400 * KiB, 404 * KiB)]
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_cluster_whose_copy_failed_is_copied_whole_again() -> None:
    _, source, target = pair()
    source.write(300 * KiB, pattern(4 * KiB, 2))
    async with mirroring(
        source,
        target,
        sync=SyncMode.TOP,
        granularity=4096,
        on_target_error=ErrorPolicy.IGNORE,
        arm=lambda _, to: to.fail("write", 300 * KiB, once=True),
    ) as mirror:
        await mirror.complete()
        assert len(mirror.find("BLOCK_JOB_ERROR")) == 1
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize("cluster_size", [64 * KiB, 256 * KiB])
@pytest.mark.parametrize("kind", ["write", "zero", "discard"])
async def test_the_first_write_blocking_write_to_a_cluster_takes_the_rest_with_it(
    kind: str, cluster_size: int
) -> None:
    """Nothing of it is dirty before or after, so nobody else would bring the rest."""
    base, source, target = pair(cluster_size=cluster_size)
    options = {"granularity": 4096, "copy_mode": CopyMode.WRITE_BLOCKING}
    async with mirroring(source, target, sync=SyncMode.TOP, **options) as mirror:
        await mirror.ready()
        await mirror.until(lambda: isinstance(mirror.job._hook, WriteBlocking))
        at = MiB + 20 * KiB
        if kind == "write":
            await mirror.write(at, pattern(8 * KiB, 3))
        elif kind == "zero":
            await mirror.zero(at, 8 * KiB)
        else:
            await mirror.discard(at, 8 * KiB)
        assert changes(mirror) == [(MiB, MiB + cluster_size)]
        assert mirror.job.snapshot().actively_synced
        seen, wanted = content(target), content(source)
        assert seen[MiB : MiB + cluster_size] == wanted[MiB : MiB + cluster_size]
        mirror.target.probe.forget()
        await mirror.write(at + 1, b"again")
        assert changes(mirror) == [(at + 1, at + 6)]
        mirror.job.complete()
        await mirror.end()
        mirror.assert_equal()
        assert base.content() == pattern(SIZE)


@pytest.mark.asyncio
async def test_zeroes_of_the_top_layer_hide_the_backing_file_of_the_target() -> None:
    _, source, target = pair(cluster_size=2 * MiB)
    source.write_zeroes(2 * MiB, 2 * MiB)  # as zero clusters
    source.write(0, bytes(64 * KiB))  # as written zeroes
    async with mirroring(source, target, sync=SyncMode.TOP) as mirror:
        await mirror.complete()
        mirror.assert_equal()
        assert content(target)[2 * MiB :] == bytes(2 * MiB)


@pytest.mark.asyncio
async def test_vouching_that_the_target_reads_zero_says_nothing_of_its_backing_file() -> None:
    _, source, target = pair()
    source.write_zeroes(MiB, MiB)
    async with mirroring(source, target, sync=SyncMode.TOP, target_is_zero=True) as mirror:
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize("vouched", [False, True])
async def test_a_full_copy_hides_all_of_the_backing_file(vouched: bool) -> None:
    base = MemoryNode(pattern(SIZE, 9), name="base")
    source = MemoryNode(SIZE, name="source")
    source.write(MiB, pattern(100 * KiB, 2))
    target = LateOverlay(SIZE, base)
    async with mirroring(source, target, target_is_zero=vouched) as mirror:
        await mirror.complete()
        assert target.backing is base
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_with_none_the_source_itself_is_below_the_target_at_the_end() -> None:
    source = MemoryNode(pattern(SIZE), name="source")
    target = LateOverlay(SIZE, source)
    async with mirroring(source, target, sync=SyncMode.NONE, granularity=4096) as mirror:
        await mirror.ready()
        await mirror.write(300 * KiB + 5, b"written meanwhile")
        await mirror.complete()
        assert mirror.drive.node is mirror.target.node
        before = content(source)
        mirror.assert_equal()
        await mirror.write(0, b"only on the target")
        assert content(source) == before
        assert target.allocated_bytes() == 2 * CLUSTER // 4


# Complete


@pytest.mark.asyncio
@pytest.mark.parametrize("auto_finalize", [True, False])
async def test_a_backing_file_that_cannot_be_opened_refuses_complete(auto_finalize: bool) -> None:
    _, source, target = pair()
    source.write(300 * KiB, pattern(4 * KiB, 2))
    target.refusal = "It is gone."
    async with mirroring(source, target, sync=SyncMode.TOP, auto_finalize=auto_finalize) as mirror:
        await mirror.ready()
        mirror.job.complete()
        event = await mirror.event("JOB_COMPLETE_REFUSED")
        assert event.data["error"] == "target: 'base': It is gone."
        snapshot = mirror.job.snapshot()
        assert snapshot.complete_refused == "target: 'base': It is gone."
        assert snapshot.status.value == "ready"
        assert not snapshot.complete_requested
        assert mirror.drive.node is mirror.source.node
        await mirror.write(300 * KiB, pattern(4 * KiB, 3))
        await mirror.settled()
        target.refusal = ""
        mirror.job.complete()
        assert mirror.job.snapshot().complete_refused is None
        if not auto_finalize:
            await mirror.status("pending")
            mirror.job.finalize()
        end = await mirror.end()
        assert end.outcome is Outcome.SWITCHED
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_complete_before_ready_opens_nothing() -> None:
    _, source, target = pair()
    source.write(0, pattern(MiB, 2))
    async with mirroring(
        source, target, sync=SyncMode.TOP, arm=lambda _, to: to.hang("write")
    ) as mirror:
        await mirror.target.hanging()
        with pytest.raises(StateError):
            mirror.job.complete()
        mirror.target.node.clear()
        await mirror.ready()
        assert target.unopened_backing


@pytest.mark.asyncio
@pytest.mark.parametrize("force", [False, True])
async def test_a_cancelled_job_leaves_the_backing_file_alone(force: bool) -> None:
    _, source, target = pair()
    source.write(0, pattern(MiB, 2))
    async with mirroring(source, target, sync=SyncMode.TOP) as mirror:
        await mirror.ready()
        mirror.job.cancel(force=force)
        await mirror.end()
        assert target.unopened_backing == "base"


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", list(CopyMode))
async def test_guests_work_on_while_the_backing_file_is_opened(mode: CopyMode) -> None:
    _, source, target = pair()
    source.write(0, pattern(MiB, 2))
    loop = asyncio.get_running_loop()
    began, go_on = asyncio.Event(), threading.Event()

    def opening() -> None:
        loop.call_soon_threadsafe(began.set)
        assert go_on.wait(20)
        assert mirror.target.probe._running == [], "nobody uses the target meanwhile"

    target.before = opening
    async with mirroring(source, target, sync=SyncMode.TOP, copy_mode=mode) as mirror:
        await mirror.ready()
        mirror.target.probe.forget()
        mirror.job.complete()
        await began.wait()
        for number in range(20):
            await mirror.write(number * CHUNK + 7, b"meanwhile")
        assert changes(mirror) == []
        assert mirror.job.status.value == "ready"
        go_on.set()
        end = await mirror.end()
        assert end.outcome is Outcome.SWITCHED
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_pause_comes_before_the_opening() -> None:
    _, source, target = pair()
    async with mirroring(source, target, sync=SyncMode.TOP) as mirror:
        await mirror.ready()
        mirror.job.pause()
        await mirror.status("standby")
        mirror.job.complete()
        await asyncio.sleep(0)
        assert target.unopened_backing
        mirror.job.resume()
        end = await mirror.end()
        assert end.outcome is Outcome.SWITCHED
        assert not target.unopened_backing


@pytest.mark.asyncio
async def test_a_job_of_no_use_can_be_failed() -> None:
    _, source, target = pair()
    async with mirroring(source, target, sync=SyncMode.TOP) as mirror:
        await mirror.ready()
        mirror.job.fail("nobody wants it")
        end = await mirror.end()
        assert (end.outcome, end.error) == (Outcome.FAILED, "nobody wants it")
        assert mirror.drive.node is mirror.source.node
