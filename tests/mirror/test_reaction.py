"""The answer to an error: what is noted, told, stopped and failed."""

import errno

import pytest

from mirrorgui.errors import BlockIOError
from mirrorgui.mirror import reaction as reaction_module
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.failures import MAX_DEFERRED, Failures
from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.mirror.policy import Action
from mirrorgui.mirror.reaction import MAX_EVENTS_A_SECOND, Reaction
from mirrorgui.mirror.record import JobRecord
from mirrorgui.mirror.states import JobStatus

CHUNK = 512


class Engine:
    """What a reaction asks of an engine."""

    def __init__(self) -> None:
        self.failures = Failures(10**6 * CHUNK, CHUNK)
        self.suspended = 0

    def suspend(self) -> None:
        self.suspended += 1


class Rig:
    def __init__(self, source: str = "report", target: str = "report") -> None:
        self.engine = Engine()
        self.record = JobRecord("j", EventLog())
        self.record.status = JobStatus.RUNNING
        self.reaction = Reaction(self.record, self.engine, ErrorPolicy(source), ErrorPolicy(target))

    def answer(self, operation: str, number: int = errno.EIO, offset: int = 0) -> Action:
        length = 0 if operation in ("flush", "extents") else CHUNK
        error = BlockIOError(operation, offset, length, number)
        return self.reaction.answer(error, offset, length)

    def told(self) -> list[dict[str, object]]:
        events, _ = self.record.events.since(0)
        return [dict(event.data) for event in events if event.name == "BLOCK_JOB_ERROR"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("operation", "side"),
    [
        ("read", "read"),
        ("extents", "read"),
        ("write", "write"),
        ("write_zeroes", "write"),
        ("discard", "write"),
        ("flush", "write"),
    ],
)
async def test_each_side_has_its_own_policy(operation: str, side: str) -> None:
    rig = Rig(source="stop" if side == "read" else "report", target="stop")
    if side == "read":
        rig.reaction.target_policy = ErrorPolicy.REPORT
    assert rig.answer(operation) is Action.STOP
    assert rig.told() == [{"device": "j", "operation": side, "action": "stop"}]


@pytest.mark.asyncio
async def test_report_fails_the_job_with_the_systems_text() -> None:
    rig = Rig()
    assert rig.answer("write", errno.ENOSPC) is Action.REPORT
    assert rig.record.failed and rig.record.error == "No space left on device"
    assert rig.engine.suspended == 1 and not rig.record.pause_wanted


@pytest.mark.asyncio
@pytest.mark.parametrize(("number", "status"), [(errno.EIO, "failed"), (errno.ENOSPC, "nospace")])
async def test_stop_pauses_the_job_and_says_why(number: int, status: str) -> None:
    rig = Rig(target="stop")
    rig.answer("write", number)
    assert rig.record.paused_by_error and rig.record.io_status == status
    assert rig.engine.suspended == 1 and not rig.record.failed


@pytest.mark.asyncio
async def test_ignore_puts_the_place_aside_and_goes_on() -> None:
    rig = Rig(target="ignore")
    assert rig.answer("write", offset=CHUNK) is Action.IGNORE
    assert rig.engine.failures.deferred == 1 and not rig.engine.suspended
    assert rig.answer("flush") is Action.IGNORE
    assert rig.engine.failures.deferred == 1, "a flush has no place"


@pytest.mark.asyncio
async def test_ignored_errors_are_told_ten_times_a_second_and_counted_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]

    class Loop:
        def time(self) -> float:
            return clock[0]

    monkeypatch.setattr(reaction_module.asyncio, "get_running_loop", Loop)
    rig = Rig(target="ignore")
    for number in range(100):
        rig.answer("write", offset=number * CHUNK)
    assert len(rig.told()) == MAX_EVENTS_A_SECOND
    clock[0] = 101.0
    rig.answer("write")
    assert len(rig.told()) == MAX_EVENTS_A_SECOND + 1
    assert rig.engine.failures.count == 101
    rig.reaction.target_policy = ErrorPolicy.STOP
    for _ in range(30):
        rig.answer("write")
    assert len(rig.told()) == MAX_EVENTS_A_SECOND + 31, "what stops the job is always told"


@pytest.mark.asyncio
async def test_too_many_bad_places_stop_the_job_also_under_ignore() -> None:
    rig = Rig(target="ignore")
    for number in range(MAX_DEFERRED):
        assert rig.answer("write", offset=number * CHUNK) is Action.IGNORE
    assert rig.answer("write", offset=MAX_DEFERRED * CHUNK) is Action.STOP
    assert rig.record.paused_by_error


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [JobStatus.WAITING, JobStatus.PENDING])
async def test_where_nobody_can_resume_it_a_job_fails_instead_of_stopping(
    status: JobStatus,
) -> None:
    rig = Rig(target="stop")
    rig.record.status = status
    assert rig.answer("write") is Action.REPORT
    assert rig.record.failed
