"""Pause, cancel, speed, finalize and the end: S72 to S95."""

import asyncio
import threading
import time
from itertools import pairwise

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import InvalidInput, MirrorGUIError, StateError
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, MirrorOptions
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import (
    CHUNK,
    Mirror,
    Side,
    content,
    in_thread,
    islands,
    mirroring,
    pattern,
)
from tests.mirror.test_scenarios_basic import SUCCESS


@pytest.mark.asyncio
async def test_s72_paused_only_when_all_io_is_done_and_nothing_moves_then() -> None:
    async with mirroring(pattern(8 * MiB), arm=lambda _, to: to.hang("write")) as mirror:
        await mirror.target.hanging()
        mirror.job.pause()
        await asyncio.sleep(0.05)
        assert mirror.job.status.value == "running" and mirror.check().pause_requested
        mirror.target.node.clear()
        paused = await mirror.status("paused")
        assert paused.operations == () and paused.paused
        requests = len(mirror.target.probe.requests)
        await mirror.write(0, b"tracked")
        await asyncio.sleep(0.3)
        assert mirror.check().offset == paused.offset
        assert len(mirror.target.probe.requests) == requests
        mirror.job.resume()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s72_a_pause_while_scanning_stops_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirrorgui.mirror.scan.TURN_S", 0.0)
    target = islands(300 * MiB, (0, CHUNK), (100 * MiB, CHUNK), (250 * MiB, CHUNK), seed=9)
    async with mirroring(
        MemoryNode(300 * MiB), target, arm=lambda _, to: to.hang("zero", once=True)
    ) as mirror:
        await mirror.target.hanging()
        mirror.job.pause()
        mirror.target.node.release()
        paused = await mirror.status("paused")
        assert paused.phase.value == "scanning"
        assert 0 < paused.scan_done < paused.scan_total == 300 * MiB
        mirror.job.resume()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_job_paused_before_it_starts_begins_paused() -> None:
    async with mirroring(pattern(MiB), start=False) as mirror:
        mirror.job.pause()
        mirror.job.start()
        await mirror.status("paused")
        assert mirror.target.probe.requests == []
        mirror.job.resume()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s73_standby_goes_back_to_ready_without_a_second_event() -> None:
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        mirror.job.pause()
        await mirror.status("standby")
        mirror.job.resume()
        await mirror.status("ready")
        assert mirror.names()[2:] == ["ready", "READY", "standby", "ready"]
        await mirror.complete()


@pytest.mark.asyncio
async def test_s74_pausing_and_resuming_twice_is_refused() -> None:
    async with mirroring(pattern(MiB), speed=1) as mirror:
        with pytest.raises(StateError, match="Can't resume a job that was not paused"):
            mirror.job.resume()
        mirror.job.pause()
        with pytest.raises(StateError, match="Job is already paused"):
            mirror.job.pause()
        await mirror.status("paused")
        with pytest.raises(StateError, match="Job is already paused"):
            mirror.job.pause()
        mirror.job.resume()
        with pytest.raises(StateError, match="Can't resume a job that was not paused"):
            mirror.job.resume()


@pytest.mark.asyncio
async def test_s75_a_complete_in_standby_is_executed_at_resume() -> None:
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        mirror.job.pause()
        await mirror.status("standby")
        mirror.job.complete()
        await asyncio.sleep(0.05)
        assert mirror.job.status.value == "standby"
        mirror.job.resume()
        end = await mirror.end()
        assert end.outcome is Outcome.SWITCHED


@pytest.mark.asyncio
async def test_s76_a_complete_before_ready_is_refused_and_harmless() -> None:
    async with mirroring(pattern(MiB), arm=lambda _, to: to.hang("write")) as mirror:
        await mirror.target.hanging()
        text = "Job 'mirror0' in state 'running' cannot accept command verb 'complete'"
        with pytest.raises(StateError, match=text):
            mirror.job.complete()
        mirror.target.node.clear()
        await mirror.complete()
        assert mirror.names() == SUCCESS


@pytest.mark.asyncio
async def test_a_second_complete_is_harmless_and_a_cancel_takes_it_back() -> None:
    async with mirroring(pattern(MiB), arm=lambda _, to: to.hang("flush")) as mirror:
        await mirror.target.hanging()
        mirror.target.node.release()
        await mirror.ready()
        mirror.job.complete()
        mirror.job.complete()
        await mirror.target.hanging()
        mirror.job.cancel()
        with pytest.raises(StateError, match="cannot be completed"):
            mirror.job.complete()
        mirror.target.node.clear()
        end = await mirror.end()
        assert end.outcome is Outcome.FINISHED
        assert mirror.drive.node is mirror.source.node


@pytest.mark.asyncio
@pytest.mark.parametrize("force", [False, True])
async def test_s77_a_cancel_before_ready_is_prompt(force: bool) -> None:
    async with mirroring(
        pattern(4 * MiB), speed=64 * KiB, arm=lambda _, to: to.delay("write", 30)
    ) as mirror:
        await mirror.target.hanging()
        mirror.job.cancel(force=force)
        end = await mirror.end(1)
        (event,) = mirror.find("BLOCK_JOB_CANCELLED")
        assert event.data["offset"] < event.data["len"]
        assert end.outcome is Outcome.CANCELLED
        assert mirror.names() == [
            "created", "running", "aborting", "CANCELLED", "concluded", "null",
        ]  # fmt: skip


@pytest.mark.asyncio
async def test_s78_a_forced_cancel_when_ready_is_cancelled() -> None:
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        mirror.job.cancel(force=True)
        await mirror.end(1)
        assert mirror.names()[-4:] == ["aborting", "CANCELLED", "concluded", "null"]


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["paused", "standby"])
async def test_a_paused_job_is_cancelled_by_force_only(status: str) -> None:
    speed = 1 if status == "paused" else 0
    async with mirroring(pattern(MiB), speed=speed) as mirror:
        if status == "standby":
            await mirror.ready()
        mirror.job.pause()
        await mirror.status(status)
        with pytest.raises(
            StateError, match="The block job for device 'mirror0' is currently paused"
        ):
            mirror.job.cancel()
        mirror.job.cancel(force=True)
        end = await mirror.end(1)
        assert end.outcome is Outcome.CANCELLED


def keep_writing(mirror: Mirror) -> tuple[threading.Event, "asyncio.Future[None]"]:
    """Let a guest write all the time."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            mirror.drive.write(number % 16 * CHUNK, pattern(512, number))

    return stop, in_thread(write)


@pytest.mark.asyncio
async def test_s80_a_soft_cancel_under_constant_writes_ends_soon() -> None:
    """Better than QEMU's, which never returns: guests are held for a moment."""
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        stop, writer = keep_writing(mirror)
        mirror.job.cancel()
        end = await mirror.end(10)
        stop.set()
        await writer
        assert end.outcome is Outcome.FINISHED


@pytest.mark.asyncio
async def test_s80_only_with_a_target_too_slow_it_takes_force() -> None:
    async with mirroring(pattern(16 * CHUNK), copy_threads=1, buf_size=CHUNK) as mirror:
        await mirror.ready()
        mirror.target.delay("write", 0.1)
        stop, writer = keep_writing(mirror)
        await mirror.until(lambda: mirror.job.snapshot().offset > 20 * CHUNK)
        mirror.job._hold._rate = 0.0  # what it reached before the target became slow
        mirror.job.cancel()
        await asyncio.sleep(0.5)
        assert mirror.job.status.value == "ready"
        mirror.job.cancel(force=True)
        end = await mirror.end(1)
        stop.set()
        await writer
        assert end.outcome is Outcome.CANCELLED


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["scan", "write", "flush", "last flush", "read"])
async def test_s81_a_forced_cancel_aborts_a_hung_request(where: str) -> None:
    def arm(source: Side, target: Side) -> None:
        if where == "read":
            source.hang("read")
        elif where != "last flush":
            target.hang("zero" if where == "scan" else where)

    image = MemoryNode(MiB) if where == "scan" else pattern(MiB)
    async with mirroring(image, MemoryNode(pattern(MiB, 9)), arm=arm) as mirror:
        if where == "last flush":
            await mirror.ready()
            mirror.target.hang("flush")
            mirror.job.complete()
            await mirror.target.hanging()
            mirror.target.node.release()
        await (mirror.source if where == "read" else mirror.target).hanging()
        mirror.job.cancel(force=True)
        end = await mirror.end(5)
        assert end.outcome is Outcome.CANCELLED
        await mirror.write(0, b"guests are not held")


@pytest.mark.asyncio
async def test_s82_the_speed_is_exact_and_smooth_with_a_small_buffer() -> None:
    started = time.monotonic()
    async with mirroring(pattern(2 * MiB), speed=MiB, buf_size=64 * KiB) as mirror:
        times: list[float] = []
        while mirror.job.status.value != "ready":
            await mirror.until(
                lambda: (
                    mirror.job.snapshot().offset > len(times) * 256 * KiB
                    or mirror.job.status.value == "ready"
                )
            )
            times.append(time.monotonic() - started)
        assert 1.7 < times[-1] < 2.3
        steps = [later - earlier for earlier, later in pairwise(times[:-1])]
        assert max(steps) < 0.5 and min(steps) > 0.1


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["running", "ready"])
async def test_s83_no_100_ms_hold_more_than_one_and_a_half_times_the_limit(status: str) -> None:
    """QEMU copies 8 MiB in the first 100 ms of a limit of 4 MiB/s, and without limit when READY."""
    speed = 16 * MiB
    async with mirroring(pattern(16 * MiB), start=False, speed=speed) as mirror:
        issued: list[tuple[float, int]] = []
        limit = mirror.job._engine.limit
        charge = limit.charge

        def noted(length: int) -> None:
            issued.append((time.monotonic(), length))
            charge(length)

        limit.charge = noted
        if status == "ready":
            mirror.job.set_speed(0)
        mirror.job.start()
        if status == "ready":
            await mirror.ready()
            mirror.job.set_speed(speed)
            issued.clear()
            await mirror.write(0, pattern(16 * MiB, 2))
        await mirror.until(lambda: sum(length for _, length in issued) == 16 * MiB)
        for at, _ in issued:
            window = sum(length for when, length in issued if at <= when < at + 0.1)
            assert window <= 1.5 * speed * 0.1
        assert issued[-1][0] - issued[0][0] > 0.85


@pytest.mark.asyncio
async def test_s84_a_limit_taken_away_is_felt_at_once() -> None:
    async with mirroring(pattern(MiB), speed=1) as mirror:
        await mirror.until(lambda: mirror.job.snapshot().throttled)
        began = time.monotonic()
        mirror.job.set_speed(0)
        await mirror.ready()
        assert time.monotonic() - began < 0.1 + 0.1


@pytest.mark.asyncio
async def test_s85_a_bad_speed_is_refused_and_the_old_one_stays() -> None:
    async with mirroring(pattern(MiB), speed=12345, auto_finalize=False) as mirror:
        with pytest.raises(InvalidInput, match="expects a non-negative value"):
            mirror.job.set_speed(-1)
        assert mirror.check().speed == 12345
        mirror.job.set_speed(0)
        await mirror.ready()
        mirror.job.complete()
        await mirror.status("pending")
        with pytest.raises(StateError):
            mirror.job.set_speed(1)
        assert mirror.check().speed == 0
        mirror.job.finalize()
        await mirror.end()


@pytest.mark.asyncio
async def test_s86_the_speed_reported_is_the_speed_set() -> None:
    async with mirroring(pattern(MiB), speed=777) as mirror:
        assert mirror.check().speed == 777
        mirror.job.set_speed(10**12)
        assert mirror.check().speed == 10**12
        ready = await mirror.event("BLOCK_JOB_READY")
        assert ready.data["speed"] == 10**12


@pytest.mark.asyncio
async def test_s87_without_auto_finalize_only_finalize_ends_the_job() -> None:
    async with mirroring(pattern(MiB), auto_finalize=False) as mirror:
        await mirror.ready()
        mirror.job.complete()
        event = await mirror.event("BLOCK_JOB_PENDING")
        assert dict(event.data) == {"type": "mirror", "id": "mirror0"}
        await mirror.status("pending")
        for verb in ("pause", "resume", "complete", "dismiss"):
            with pytest.raises(StateError):
                getattr(mirror.job, verb)()
        with pytest.raises(StateError):
            mirror.job.set_speed(1)
        with pytest.raises(StateError):
            mirror.job.change(CopyMode.WRITE_BLOCKING)
        assert mirror.drive.node is mirror.source.node, "no pivot yet"
        await mirror.write(3 * CHUNK, pattern(CHUNK, 2))
        await mirror.settled()
        assert mirror.check().paused
        mirror.job.finalize()
        end = await mirror.end()
        assert end.outcome is Outcome.SWITCHED
        mirror.assert_equal()
        assert mirror.names() == [
            "created", "running", "ready", "READY", "waiting", "pending", "PENDING",
            "COMPLETED", "concluded", "null",
        ]  # fmt: skip


@pytest.mark.asyncio
async def test_s87_writes_while_pending_are_copied_before_the_switch() -> None:
    async with mirroring(pattern(MiB), auto_finalize=False) as mirror:
        await mirror.ready()
        mirror.job.complete()
        await mirror.status("pending")
        mirror.target.delay("write", 0.05)
        await mirror.write(0, pattern(MiB, 5))
        mirror.job.finalize()
        await mirror.end()
        assert content(mirror.target.bottom) == pattern(MiB, 5)


@pytest.mark.asyncio
async def test_s87_the_speed_limit_does_not_delay_the_end_of_a_pending_job() -> None:
    async with mirroring(pattern(MiB), auto_finalize=False) as mirror:
        await mirror.ready()
        mirror.job.set_speed(1)
        mirror.job.complete()
        await mirror.status("pending")
        await mirror.write(0, pattern(MiB, 6))
        mirror.job.finalize()
        end = await mirror.end(5)
        assert end.outcome is Outcome.SWITCHED
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize("force", [False, True])
async def test_s87_a_pending_job_can_be_cancelled(force: bool) -> None:
    async with mirroring(pattern(MiB), auto_finalize=False) as mirror:
        await mirror.ready()
        mirror.job.complete()
        await mirror.status("pending")
        mirror.job.cancel(force=force)
        end = await mirror.end(2)
        assert end.outcome is Outcome.CANCELLED
        assert mirror.drive.node is mirror.source.node


@pytest.mark.asyncio
async def test_s87_an_error_while_pending_fails_the_job_whatever_the_policy() -> None:
    async with mirroring(
        pattern(MiB), auto_finalize=False, on_target_error=ErrorPolicy.STOP
    ) as mirror:
        await mirror.ready()
        mirror.job.complete()
        await mirror.status("pending")
        mirror.target.fail("write", 0)
        await mirror.write(0, b"x" * 512)
        end = await mirror.end()
        assert end.outcome is Outcome.FAILED


@pytest.mark.asyncio
async def test_s89_without_auto_dismiss_the_record_stays() -> None:
    async with mirroring(pattern(MiB), auto_dismiss=False) as mirror:
        end = await mirror.complete()
        assert (end.status.value, end.offset, end.length) == ("concluded", MiB, MiB)
        with pytest.raises(StateError):
            mirror.job.cancel()
        mirror.job.dismiss()
        assert mirror.job.status.value == "null"
        with pytest.raises(StateError):
            mirror.job.dismiss()


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["created", "running", "paused", "ready", "standby", "pending"])
async def test_s91_shutting_down_ends_the_job_promptly(status: str) -> None:
    slow = status in ("running", "paused")
    async with mirroring(
        pattern(MiB), speed=1 if slow else 0, auto_finalize=False, start=status != "created"
    ) as mirror:
        if status == "created":
            mirror.job.start()
        else:
            await mirror.status("running" if slow else "ready")
            if status in ("paused", "standby"):
                mirror.job.pause()
            elif status == "pending":
                mirror.job.complete()
            await mirror.status(status)
        async with asyncio.timeout(1):
            await mirror.job.shut_down()
        assert mirror.names()[-4:] == ["aborting", "CANCELLED", "concluded", "null"]


@pytest.mark.asyncio
async def test_s91_a_job_never_started_leaves_nothing_behind() -> None:
    before = threading.active_count()
    job = MirrorJob(Drive(MemoryNode(MiB)), MemoryNode(MiB), MirrorOptions())
    await job.shut_down()
    assert threading.active_count() == before


@pytest.mark.asyncio
async def test_s92_a_throttled_job_does_not_delay_a_drain_or_a_pause() -> None:
    async with mirroring(pattern(MiB), speed=1) as mirror:
        await mirror.until(lambda: mirror.job.snapshot().throttled)
        empty = threading.Event()
        mirror.drive.hold(empty.set)
        assert empty.wait(0.1)
        mirror.drive.release()
        mirror.job.pause()
        await mirror.status("paused", timeout=0.5)
        assert "COMPLETED" not in mirror.names()


@pytest.mark.asyncio
async def test_s95_a_refused_pivot_reports_and_leaves_everything_as_it_was() -> None:
    def refuse(_node: object) -> object:
        raise MirrorGUIError("Operation not permitted")

    async with mirroring(pattern(MiB), pivot=refuse) as mirror:
        await mirror.ready()
        mirror.job.complete()
        end = await mirror.end()
        (completed,) = mirror.find("BLOCK_JOB_COMPLETED")
        assert completed.data["error"] == "Operation not permitted"
        assert end.outcome is Outcome.FAILED
        assert mirror.drive.node is mirror.source.node
        mirror.assert_equal()
        await mirror.write(0, b"only the source")
        assert content(mirror.target.bottom) == pattern(MiB)
