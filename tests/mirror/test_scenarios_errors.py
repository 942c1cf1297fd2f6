"""Errors and policies: S53 to S71."""

import asyncio
import errno
import os

import pytest

from mirrorgui.block.blkdebug import InjectError
from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import StateError
from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, Mirror, Side, content, mirroring, pattern

EIO = os.strerror(errno.EIO)
ENOSPC = os.strerror(errno.ENOSPC)

SIDES = {"read": (0, "on_source_error"), "write": (1, "on_target_error")}


def failing(kind: str, number: int = errno.EIO, at: int = MiB, *, once: bool = True):
    """Arm one side of a job."""

    def arm(*sides: Side) -> None:
        sides[SIDES[kind][0]].fail(kind, at, number, once=once)

    return arm


def policy(kind: str, value: str) -> dict[str, ErrorPolicy]:
    return {SIDES[kind][1]: ErrorPolicy(value)}


def assert_failed(mirror: Mirror, text: str) -> None:
    (completed,) = mirror.find("BLOCK_JOB_COMPLETED")
    assert completed.data["error"] == text
    assert completed.data["offset"] < completed.data["len"]
    assert mirror.names()[-4:] == ["aborting", "COMPLETED", "concluded", "null"]
    assert "READY" not in mirror.names()
    end = mirror.job.snapshot()
    assert (end.outcome, end.error) == (Outcome.FAILED, text)
    assert content(mirror.source.bottom) == pattern(2 * MiB), "the source is unharmed"


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize(
    ("value", "number"),
    [("report", errno.EIO), ("report", errno.ENOSPC), ("enospc", errno.EIO), ("auto", errno.EIO)],
)
async def test_s53_s56_s57_s59_s60_an_error_to_report_ends_the_job(
    kind: str, value: str, number: int
) -> None:
    async with mirroring(
        pattern(2 * MiB), arm=failing(kind, number), **policy(kind, value)
    ) as mirror:
        await mirror.end()
        assert mirror.find("BLOCK_JOB_ERROR", operation=kind, action="report", device="mirror0")
        assert_failed(mirror, os.strerror(number))
        await mirror.write(MiB, b"the guest works on")


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["read", "write"])
async def test_s54_s57_an_ignored_error_is_tried_again(kind: str) -> None:
    async with mirroring(pattern(2 * MiB), arm=failing(kind), **policy(kind, "ignore")) as mirror:
        await mirror.ready()
        assert len(mirror.find("BLOCK_JOB_ERROR", operation=kind, action="ignore")) == 1
        assert "paused" not in mirror.names()
        (record,) = mirror.check().errors
        assert record.solved and record.operation == kind
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize(
    ("value", "number", "io_status"),
    [
        ("stop", errno.EIO, "failed"),
        ("stop", errno.ENOSPC, "nospace"),
        ("enospc", errno.ENOSPC, "nospace"),
        ("auto", errno.ENOSPC, "nospace"),
    ],
)
async def test_s55_s57_s58_an_error_stops_the_job_until_somebody_resumes_it(
    kind: str, value: str, number: int, io_status: str
) -> None:
    async with mirroring(
        pattern(2 * MiB), arm=failing(kind, number), **policy(kind, value)
    ) as mirror:
        paused = await mirror.status("paused")
        assert mirror.find("BLOCK_JOB_ERROR", operation=kind, action="stop")
        assert paused.io_status == io_status and paused.paused_by_error
        assert paused.operations == () and paused.remaining > 0
        mirror.job.resume()
        ready = await mirror.ready()
        assert ready.io_status == "ok" and not ready.paused_by_error
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s55_an_error_when_ready_means_standby() -> None:
    async with mirroring(pattern(2 * MiB), on_target_error=ErrorPolicy.STOP) as mirror:
        await mirror.ready()
        mirror.target.fail("write", 0, once=True)
        await mirror.write(0, pattern(CHUNK, 2))
        await mirror.status("standby")
        mirror.job.resume()
        await mirror.complete()
        assert mirror.names().count("READY") == 1
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s62_a_target_that_never_works_under_ignore_makes_no_flood_of_events() -> None:
    """QEMU sent 1541 events in 0.3 s and copied nothing else."""
    async with mirroring(
        pattern(8 * MiB),
        arm=failing("write", at=MiB, once=False),
        on_target_error=ErrorPolicy.IGNORE,
    ) as mirror:
        await mirror.until(lambda: mirror.job.snapshot().offset == 8 * MiB - CHUNK)
        await asyncio.sleep(0.8)
        assert len(mirror.find("BLOCK_JOB_ERROR")) <= 20
        assert mirror.check().error_count < 20, "pauses between tries grow"
        (record,) = [each for each in mirror.check().errors if each.length == CHUNK]
        assert (record.offset, record.tries > 1, record.solved) == (MiB, True, False)
        assert mirror.check().remaining == CHUNK
        mirror.job.cancel()
        end = await mirror.end(1)
        assert end.outcome is Outcome.CANCELLED


@pytest.mark.asyncio
async def test_s62_events_are_bounded_also_when_everything_fails() -> None:
    async with mirroring(
        pattern(4 * MiB),
        arm=lambda _, to: to.fail("write"),
        on_target_error=ErrorPolicy.IGNORE,
        granularity=4 * KiB,
    ) as mirror:
        await mirror.until(lambda: mirror.job.snapshot().error_count > 300)
        assert len(mirror.find("BLOCK_JOB_ERROR")) <= 30
        mirror.job.cancel()
        await mirror.end(2)


@pytest.mark.asyncio
async def test_ignore_gives_up_when_everything_is_bad() -> None:
    async with mirroring(
        pattern(4 * MiB),
        arm=lambda _, to: to.fail("write"),
        on_target_error=ErrorPolicy.IGNORE,
        granularity=512,
    ) as mirror:
        await mirror.status("paused")
        assert mirror.find("BLOCK_JOB_ERROR", action="stop")
        mirror.target.node.clear()
        mirror.job.resume()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s63_a_failed_flush_before_ready_counts_as_a_write_error() -> None:
    async with mirroring(pattern(2 * MiB), arm=lambda _, to: to.fail("flush", once=True)) as mirror:
        end = await mirror.end()
        assert mirror.find("BLOCK_JOB_ERROR", operation="write", action="report")
        assert (end.outcome, end.error, end.offset) == (Outcome.FAILED, EIO, 2 * MiB)
        assert "READY" not in mirror.names()


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["stop", "ignore"])
async def test_s63_a_failed_flush_before_ready_can_be_tried_again(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorgui.mirror.flush.FLUSH_RETRY_S", 0.1)
    async with mirroring(
        pattern(2 * MiB),
        arm=lambda _, to: to.fail("flush", once=True),
        **policy("write", value),
    ) as mirror:
        if value == "stop":
            await mirror.status("paused")
            mirror.job.resume()
        await mirror.complete()
        (record,) = mirror.job.snapshot().errors
        assert (record.length, record.operation, record.solved) == (0, "write", True)
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["stop", "ignore"])
async def test_s65_a_flush_that_never_works_ends_neither_well_nor_in_a_loop(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirrorgui.mirror.flush.FLUSH_RETRY_S", 0.1)
    async with mirroring(pattern(MiB), **policy("write", value)) as mirror:
        await mirror.ready()
        mirror.target.fail("flush")
        mirror.job.cancel()
        await mirror.until(lambda: mirror.job.snapshot().error_count > (value == "ignore"))
        if value == "stop":
            await mirror.status("standby")
            with pytest.raises(StateError, match="currently paused"):
                mirror.job.cancel()
        assert mirror.job.snapshot().error_count <= 4
        mirror.job.cancel(force=True)
        end = await mirror.end(1)
        assert end.outcome is Outcome.CANCELLED
        assert mirror.names()[-3:] == ["CANCELLED", "concluded", "null"]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["read", "write"])
async def test_s66_errors_of_several_operations_stop_the_job_once(kind: str) -> None:
    def arm(*sides: Side) -> None:
        for number in range(8):
            sides[SIDES[kind][0]].fail(kind, number * MiB, once=True)

    async with mirroring(
        pattern(8 * MiB), arm=arm, copy_threads=4, **policy(kind, "stop")
    ) as mirror:
        while not mirror.find("JOB_STATUS_CHANGE", status="ready"):
            paused = await mirror.status("paused", "ready")
            if paused.status.value == "paused":
                assert paused.remaining + paused.offset == paused.length
                mirror.job.resume()
                await mirror.status("running", "ready")
        assert mirror.names().count("paused") <= 8
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
@pytest.mark.parametrize("when", ["copy", "flush"])
async def test_s67_an_error_while_completing_never_switches(when: str) -> None:
    async with mirroring(pattern(MiB)) as mirror:
        await mirror.ready()
        if when == "copy":
            mirror.target.fail("write", 0)
            await mirror.write(0, pattern(CHUNK, 2))
        else:
            mirror.target.fail("flush")
        if mirror.job.status.value == "ready":
            mirror.job.complete()
        end = await mirror.end()
        assert (end.outcome, end.error) == (Outcome.FAILED, EIO)
        assert mirror.drive.node is mirror.source.node


@pytest.mark.asyncio
async def test_s67_an_error_during_the_final_hold_never_switches() -> None:
    async with mirroring(pattern(MiB), on_target_error=ErrorPolicy.STOP) as mirror:
        await mirror.ready()
        hang = mirror.source.hang("write", 0)
        late = mirror.guest(lambda drive: drive.write(0, pattern(CHUNK, 2)))
        await mirror.source.hanging()
        mirror.job.complete()
        await mirror.until(lambda: mirror.drive._held)
        mirror.target.fail("write", 0, once=True)
        mirror.source.let_go(hang)
        await late
        await mirror.status("standby")
        assert not mirror.drive._held, "guests work on"
        await mirror.write(CHUNK, b"works")
        assert mirror.drive.node is mirror.source.node
        mirror.job.resume()
        end = await mirror.end()
        assert end.outcome is Outcome.SWITCHED
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s68_completing_waits_for_what_was_put_aside() -> None:
    async with mirroring(pattern(MiB), on_target_error=ErrorPolicy.IGNORE) as mirror:
        await mirror.ready()
        mirror.target.fail("write", 0)
        await mirror.write(0, pattern(CHUNK, 2))
        await mirror.until(lambda: mirror.job._engine.failures.deferred)
        mirror.job.complete()
        await mirror.until(lambda: mirror.job.snapshot().error_count > 2)
        assert mirror.job.status.value == "ready"
        assert mirror.drive.node is mirror.source.node
        mirror.target.node.clear()
        end = await mirror.end()
        assert end.outcome is Outcome.SWITCHED
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s68_completion_cancelled_by_force_after_an_error_never_switches() -> None:
    async with mirroring(pattern(MiB), on_target_error=ErrorPolicy.STOP) as mirror:
        await mirror.ready()
        mirror.job.complete()
        mirror.target.fail("flush")
        await mirror.status("standby", "null")
        if mirror.job.status.value == "standby":
            mirror.job.cancel(force=True)
            end = await mirror.end()
            assert end.outcome is Outcome.CANCELLED
            assert mirror.drive.node is mirror.source.node


@pytest.mark.asyncio
async def test_s69_a_failed_job_stays_to_be_looked_at_until_it_is_dismissed() -> None:
    async with mirroring(pattern(2 * MiB), arm=failing("write"), auto_dismiss=False) as mirror:
        end = await mirror.end()
        assert (end.status.value, end.error) == ("concluded", EIO)
        for verb in ("pause", "resume", "complete", "cancel", "finalize"):
            with pytest.raises(StateError):
                getattr(mirror.job, verb)()
        mirror.job.dismiss()
        assert mirror.job.status.value == "null"


@pytest.mark.asyncio
async def test_s71_a_bad_place_of_the_source_heals_when_the_guest_overwrites_it() -> None:
    async with mirroring(
        pattern(2 * MiB), arm=failing("read", once=False), on_source_error=ErrorPolicy.IGNORE
    ) as mirror:
        await mirror.until(lambda: mirror.job.snapshot().offset == 2 * MiB - CHUNK)
        mirror.source.node.clear()
        await mirror.write(MiB, pattern(CHUNK, 2))
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_bad_megabyte_does_not_hold_back_its_good_chunks() -> None:
    async with mirroring(
        pattern(2 * MiB), arm=failing("read", once=False), on_source_error=ErrorPolicy.IGNORE
    ) as mirror:
        await mirror.until(lambda: mirror.job.snapshot().remaining == CHUNK)
        failed = [each for each in mirror.check().errors if not each.solved]
        assert (MiB, CHUNK) in [(each.offset, each.length) for each in failed]
        expected = bytearray(pattern(2 * MiB))
        expected[MiB : MiB + CHUNK] = bytes(CHUNK)
        assert content(mirror.target.bottom) == expected


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["report", "stop", "ignore"])
async def test_an_unreadable_map_of_the_source_is_a_read_error(value: str) -> None:
    def arm(source: Side, _target: Side) -> None:
        source.node.add(InjectError("none", iotype="block-status", once=True))

    async with mirroring(pattern(2 * MiB), arm=arm, **policy("read", value)) as mirror:
        if value == "report":
            end = await mirror.end()
            assert end.error == EIO
            return
        if value == "stop":
            await mirror.status("paused")
            mirror.job.resume()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_policy_can_be_changed_while_the_job_is_stopped() -> None:
    async with mirroring(
        pattern(2 * MiB), arm=failing("write", once=False), on_target_error=ErrorPolicy.STOP
    ) as mirror:
        await mirror.status("paused")
        mirror.job.set_policy(on_target_error=ErrorPolicy.REPORT)
        mirror.job.resume()
        end = await mirror.end()
        assert end.outcome is Outcome.FAILED


@pytest.mark.asyncio
async def test_a_driver_with_a_defect_fails_the_job_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(MemoryNode):
        def write(self, offset: int, data: object) -> None:
            raise ZeroDivisionError("a defect")

    async with mirroring(pattern(MiB), Broken(MiB)) as mirror:
        end = await mirror.end()
        assert end.error == "internal error: a defect"
        assert "copy thread broken" in caplog.text
