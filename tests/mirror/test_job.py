"""The job where it is easy to lose a wake-up, a guest or a byte: one test for each trap."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from mirrorgui.block.filter import FilterNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.errors import MirrorGUIError, StateError
from mirrorgui.mirror import flush as flush_module
from mirrorgui.mirror import hold as hold_module
from mirrorgui.mirror import life
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, MirrorOptions, SyncMode
from mirrorgui.mirror.snapshot import Outcome, Phase
from mirrorgui.mirror.states import JobStatus
from mirrorgui.units import MiB
from tests.mirror.harness import CHUNK, Side, content, in_thread, mirroring, pattern


class Latch(FilterNode):
    """A node whose reads wait for ``open`` and cannot be given up."""

    def __init__(self, child: BlockNode) -> None:
        super().__init__(child)
        self.reached = threading.Event()
        self.open = threading.Event()

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        self.reached.set()
        assert self.open.wait(20)
        self.child.read_into(offset, buffer)


def unreachable(_node: BlockNode) -> object:
    raise MirrorGUIError("Operation not permitted")


# Pausing.


@pytest.mark.asyncio
async def test_a_pause_that_is_taken_back_at_once_stops_nothing() -> None:
    async with mirroring(pattern(4 * MiB), arm=lambda _, to: to.hang("write")) as mirror:
        await mirror.target.hanging()
        mirror.job.pause()
        mirror.job.resume()
        mirror.target.node.clear()
        await mirror.complete()
        mirror.assert_equal()
        assert "paused" not in mirror.names()


@pytest.mark.asyncio
async def test_a_pause_taken_back_during_a_flush_stops_nothing() -> None:
    async with mirroring(pattern(MiB), arm=lambda _, to: to.hang("flush", once=True)) as mirror:
        await mirror.target.hanging()
        mirror.job.pause()
        mirror.job.resume()
        await mirror.write(0, b"again" * 100)
        mirror.target.node.release()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_pause_during_the_flush_before_ready_comes_before_ready() -> None:
    async with mirroring(pattern(MiB), arm=lambda _, to: to.hang("flush", once=True)) as mirror:
        await mirror.target.hanging()
        mirror.job.pause()
        mirror.target.node.release()
        await mirror.status("paused")
        assert "READY" not in mirror.names()
        mirror.job.resume()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_pause_taken_back_during_the_last_flush_does_not_keep_it_from_ending() -> None:
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        rule = mirror.target.hang("flush")
        mirror.job.complete()
        await mirror.target.hanging()
        mirror.job.pause()
        mirror.job.resume()
        mirror.target.let_go(rule)
        await mirror.end()
        mirror.assert_equal()


# Requests that hang.


@pytest.mark.asyncio
@pytest.mark.timeout(20)
async def test_a_forced_cancel_gives_up_also_what_reaches_the_hung_target_later() -> None:
    latch = Latch(MemoryNode(pattern(MiB)))
    async with mirroring(latch, arm=lambda _, to: to.hang("write")) as mirror:
        assert await in_thread(lambda: latch.reached.wait(20))
        mirror.job.cancel(force=True)
        latch.open.set()
        end = await mirror.end(5)
        assert end.outcome is Outcome.CANCELLED


@pytest.mark.asyncio
@pytest.mark.timeout(20)
async def test_a_failed_job_does_not_wait_for_a_hung_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(life, "HUNG_S", 0.2)

    def arm(_source: Side, target: Side) -> None:
        target.hang("write", 0)
        target.fail("write", 3 * MiB)

    async with mirroring(pattern(4 * MiB), arm=arm, copy_threads=4, buf_size=4 * MiB) as mirror:
        mirror.job._engine._batch = 1
        end = await mirror.end(10)
        assert end.error == "Input/output error"


@pytest.mark.asyncio
@pytest.mark.timeout(20)
async def test_a_forced_cancel_frees_a_guest_that_hangs_at_the_target() -> None:
    async with mirroring(pattern(MiB), copy_mode=CopyMode.WRITE_BLOCKING) as mirror:
        await mirror.ready()
        mirror.target.hang("write")
        guest = mirror.guest(lambda drive: drive.write(0, b"x" * CHUNK))
        await mirror.target.hanging()
        mirror.job.cancel(force=True)
        await mirror.end(5)
        await guest
        assert content(mirror.source.bottom)[:CHUNK] == b"x" * CHUNK


@pytest.mark.asyncio
@pytest.mark.timeout(20)
async def test_a_failed_job_frees_a_guest_that_hangs_at_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(life, "HUNG_S", 0.2)
    async with mirroring(pattern(MiB), copy_mode=CopyMode.WRITE_BLOCKING) as mirror:
        await mirror.ready()
        mirror.target.hang("write", 0)
        mirror.target.fail("write", 8 * CHUNK)
        guest = mirror.guest(lambda drive: drive.write(0, b"x" * CHUNK))
        await mirror.target.hanging()
        await mirror.write(8 * CHUNK, b"y" * CHUNK)
        await mirror.end(10)
        await guest


@pytest.mark.asyncio
@pytest.mark.timeout(30)
async def test_a_guest_that_hangs_inside_does_not_make_the_others_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hold_module, "GIVE_UP_S", 0.2)
    node = MemoryNode(pattern(MiB))
    async with mirroring(node, start=False) as mirror:
        rule = mirror.source.hang("write", 0)
        stuck = mirror.guest(lambda drive: drive.write(0, b"x" * 512))
        await mirror.source.hanging()
        mirror.job.start()
        for number in range(1, 9):
            began = time.monotonic()
            await mirror.write(number * CHUNK, b"y" * 512)
            assert time.monotonic() - began < 1
        mirror.source.let_go(rule)
        await stuck
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.timeout(30)
async def test_a_guest_that_hangs_inside_while_completing_does_not_make_the_others_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hold_module, "GIVE_UP_S", 0.2)
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        rule = mirror.source.hang("read", 0)
        stuck = mirror.guest(lambda drive: drive.read_into(0, bytearray(512)))
        await mirror.source.hanging()
        mirror.job.complete()
        longest = held = 0.0
        started = time.monotonic()
        while time.monotonic() - started < 2:
            began = time.monotonic()
            await mirror.write(CHUNK, b"y" * 512)
            longest = max(longest, time.monotonic() - began)
            held += time.monotonic() - began if time.monotonic() - began > 0.05 else 0
        assert longest < 0.5
        assert 0 < held < 1.7, "guests are held at times, and work in between"
        mirror.source.let_go(rule)
        await stuck
        await mirror.end()
        mirror.assert_equal()


class LateFlush(FilterNode):
    """A node whose flush waits for ``open`` while ``when`` says so."""

    def __init__(self, child: BlockNode) -> None:
        super().__init__(child)
        self.when: Callable[[], bool] = lambda: False
        self.reached = threading.Event()
        self.open = threading.Event()

    def flush(self) -> None:
        if self.when():
            self.reached.set()
            assert self.open.wait(20)
        self.child.flush()


@pytest.mark.asyncio
@pytest.mark.timeout(30)
@pytest.mark.parametrize("auto_finalize", [True, False])
async def test_a_target_that_hangs_in_the_last_flush_holds_guests_for_a_bounded_time(
    auto_finalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flush_module, "LAST_FLUSH_S", 0.2)
    target = LateFlush(MemoryNode(MiB))
    async with mirroring(pattern(MiB), target, auto_finalize=auto_finalize) as mirror:
        await mirror.ready()
        target.when = lambda: mirror.job.snapshot().phase is Phase.SWITCHING
        mirror.job.complete()
        assert await in_thread(lambda: target.reached.wait(20))
        await mirror.write(0, b"not held for ever" * 10)
        assert mirror.job.status.value == "ready"
        target.open.set()
        if not auto_finalize:
            await mirror.event("BLOCK_JOB_PENDING")
            mirror.job.finalize()
        await mirror.end()
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.timeout(30)
async def test_a_forced_cancel_waits_for_a_flush_that_guests_were_not_held_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flush_module, "LAST_FLUSH_S", 0.05)
    target = LateFlush(MemoryNode(MiB))
    async with mirroring(pattern(MiB), target) as mirror:
        await mirror.ready()
        target.when = lambda: mirror.job.snapshot().phase is Phase.SWITCHING
        mirror.job.complete()
        assert await in_thread(lambda: target.reached.wait(20))
        await mirror.write(0, b"not held")
        mirror.job.cancel(force=True)
        await mirror.event("JOB_STATUS_CHANGE", status="aborting")
        assert mirror.job.status.value == "aborting"
        target.open.set()
        end = await mirror.end()
        assert end.outcome is Outcome.CANCELLED


# The end.


@pytest.mark.asyncio
async def test_a_cancel_after_the_switch_is_refused_and_hurts_no_guest() -> None:
    refused: list[StateError] = []
    given_up: list[BlockNode] = []

    async with mirroring(pattern(MiB), pivot=lambda _node: None) as mirror:

        def cancel() -> None:
            try:
                mirror.job.cancel(force=True)
            except StateError as error:
                refused.append(error)

        def pivot(node: BlockNode) -> None:
            mirror.drive.exchange(node)
            asyncio.get_running_loop().call_soon(cancel)

        mirror.job._pivot = pivot
        mirror.target.node.cancel_in_flight = lambda: given_up.append(mirror.target.node)
        end = await mirror.complete()
        assert len(refused) == 1 and not given_up
        assert end.outcome is Outcome.SWITCHED


@pytest.mark.asyncio
async def test_a_refused_pivot_fails_the_job_and_keeps_the_guest_on_the_source() -> None:
    async with mirroring(pattern(MiB), pivot=unreachable) as mirror:
        await mirror.ready()
        mirror.job.complete()
        end = await mirror.end()
        assert (end.outcome, end.error) == (Outcome.FAILED, "Operation not permitted")
        assert mirror.drive.node is mirror.source.node
        await mirror.write(0, b"still here")
        assert content(mirror.source.bottom)[:10] == b"still here"


@pytest.mark.timeout(20)
def test_a_job_whose_loop_is_shut_down_ends_its_threads_and_lets_guests_in() -> None:
    drive = Drive(MemoryNode(pattern(4 * MiB)))

    async def main() -> MirrorJob:
        job = MirrorJob(drive, MemoryNode(4 * MiB), MirrorOptions(speed=1))
        job.start()
        while job.snapshot().offset == 0:
            await asyncio.sleep(0.001)
        return job  # asyncio.run cancels the job's task now

    before = threading.active_count()
    job = asyncio.run(main())
    assert threading.active_count() == before
    assert job.status is JobStatus.NULL
    assert job.snapshot().outcome is Outcome.CANCELLED
    drive.write(0, b"not held")


# Timers.


class EarlyLoop(asyncio.SelectorEventLoop):
    """A loop whose timers come a twentieth too early, as those of Qt may."""

    def call_later(self, delay, callback, *args, context=None):
        return super().call_later(delay * 0.95, callback, *args, context=context)


@pytest.mark.timeout(30)
def test_timers_that_come_early_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush_module, "FLUSH_RETRY_S", 0.2)
    monkeypatch.setattr(hold_module, "GIVE_UP_S", 0.2)

    async def main() -> None:
        options = {"on_target_error": ErrorPolicy.IGNORE}
        async with mirroring(
            pattern(MiB), arm=lambda _, to: to.fail("flush", once=True), speed=8 * MiB, **options
        ) as mirror:
            await mirror.ready()
            rule = mirror.source.hang("read", 0)
            stuck = mirror.guest(lambda drive: drive.read_into(0, bytearray(512)))
            await mirror.source.hanging()
            mirror.job.complete()
            # The guest inside makes the job give up a hold, and nothing but a timer wakes it then.
            await mirror.until(lambda: mirror.job._hold._number > 2)
            mirror.source.let_go(rule)
            await stuck
            await mirror.end()
            mirror.assert_equal()

    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        runner.run(main())


# What the target may hold.


@pytest.mark.asyncio
async def test_with_sync_top_a_zero_over_data_of_the_backing_file_reaches_the_target() -> None:
    base = MemoryNode(pattern(MiB))
    source, target = MemoryNode(MiB, backing=base), MemoryNode(MiB, backing=base)
    source.write(0, b"x" * CHUNK)
    async with mirroring(source, target, sync=SyncMode.TOP) as mirror:
        await mirror.ready()
        await mirror.zero(8 * CHUNK, CHUNK)
        mirror.job.complete()
        await mirror.end()
        mirror.assert_equal()


# Failures that are put aside.


@pytest.mark.asyncio
async def test_what_is_put_aside_counts_with_its_real_length() -> None:
    size = CHUNK + 100
    options = {"on_target_error": ErrorPolicy.IGNORE}
    async with mirroring(
        pattern(size), arm=lambda _, to: to.fail("write", CHUNK), **options
    ) as mirror:
        await mirror.until(lambda: mirror.job.snapshot().offset == CHUNK)
        await mirror.until(lambda: not mirror.job.snapshot().in_flight_bytes)
        assert mirror.check().length == size
        mirror.target.node.clear()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_bad_place_that_a_guest_overwrites_is_not_waited_for_any_more() -> None:
    options = {"on_source_error": ErrorPolicy.IGNORE}
    async with mirroring(
        pattern(MiB), arm=lambda source, _: source.fail("read", 0), **options
    ) as mirror:
        engine = mirror.job._engine
        await mirror.until(lambda: engine.failures.deferred == 1)
        await mirror.until(lambda: engine.failures.count > 4)
        mirror.source.node.clear()
        began = time.monotonic()
        await mirror.write(0, pattern(CHUNK, 2))
        await mirror.ready()
        assert time.monotonic() - began < 0.5, "the next try was due later than that"
        mirror.assert_equal()
