"""The record: wishes, rest and wake-ups."""

import asyncio

import pytest

from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.record import JobRecord
from mirrorgui.mirror.states import JobStatus


def record(status: JobStatus = JobStatus.RUNNING) -> JobRecord:
    made = JobRecord("j", EventLog())
    made.status = status
    return made


def test_the_first_error_stays() -> None:
    one = record()
    one.fail("first")
    one.fail("second")
    assert one.error == "first" and one.must_abort


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("working", "resting"),
    [(JobStatus.RUNNING, JobStatus.PAUSED), (JobStatus.READY, JobStatus.STANDBY)],
)
@pytest.mark.parametrize("end", ["resume", "forced", "failed"])
async def test_a_rest_ends_with_the_pause_or_with_the_job(
    working: JobStatus, resting: JobStatus, end: str
) -> None:
    one = record(working)
    one.paused_by_user = True
    task = asyncio.create_task(one.rest())
    await asyncio.sleep(0)
    assert one.status is resting
    one.wake()
    await asyncio.sleep(0.01)
    assert not task.done(), "news without a change are none"
    if end == "resume":
        one.paused_by_user = False
    else:
        setattr(one, end, True)
    one.wake()
    await asyncio.wait_for(task, 1)
    assert one.status is working and one.paused_ns >= 10_000_000
    assert one.paused_ns == one.paused_ns, "the clock of pauses stands still now"


@pytest.mark.asyncio
async def test_a_cancelled_rest_leaves_a_status_from_which_the_job_can_abort() -> None:
    one = record()
    one.paused_by_error = True
    task = asyncio.create_task(one.rest())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    one.set_status(JobStatus.ABORTING)


@pytest.mark.asyncio
async def test_news_between_a_look_and_the_sleep_are_not_lost() -> None:
    one = record()
    one.look()
    one.wake()
    await asyncio.wait_for(one.news(), 1)
    waiting = asyncio.create_task(one.news())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    one.wake()
    await asyncio.wait_for(waiting, 1)


@pytest.mark.asyncio
async def test_waking_later_is_never_too_early() -> None:
    one = record()
    loop = asyncio.get_running_loop()
    for delay in (0.0, 0.001, 0.02):
        due = loop.time() + delay
        one.wake_later(delay)
        await asyncio.wait_for(one.news(), 1)
        assert loop.time() >= due
