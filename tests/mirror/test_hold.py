"""Holding guests: who is let in when, and what a late report must not do."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.mirror import hold as hold_module
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.hold import GuestHold
from mirrorgui.mirror.record import JobRecord


class Engine:
    """What a hold asks of an engine."""

    class failures:  # noqa: N801
        deferred = 0

    def __init__(self) -> None:
        self.is_clean = True
        self.urgent = False
        self.dirty_bytes = self.in_flight_bytes = self.done_bytes = 0
        self.pumped = 0

    def pump(self) -> None:
        self.pumped += 1


class GatedDrive(Drive):
    """A drive whose reports that it is empty are kept back."""

    def __init__(self) -> None:
        super().__init__(MemoryNode(4096))
        self.reports: list[Callable[[], None]] = []

    def hold(self, on_empty: Callable[[], None]) -> None:
        super().hold(lambda: self.reports.append(on_empty))


def rig() -> tuple[JobRecord, GatedDrive, Engine, GuestHold]:
    record, drive, engine = JobRecord("job", EventLog()), GatedDrive(), Engine()
    return record, drive, engine, GuestHold(record, drive, engine)


@pytest.mark.asyncio
async def test_a_report_of_an_earlier_hold_does_not_count_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hold_module, "GIVE_UP_S", 0.05)
    _, drive, _, hold = rig()
    assert not await hold.empty()
    hold.release()
    late = drive.reports.pop()
    task = asyncio.create_task(hold.empty())
    await asyncio.sleep(0)
    late()
    assert not await task, "a guest may be inside: only its own report counts"
    hold.release()


@pytest.mark.asyncio
async def test_guests_work_longer_than_they_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_module, "GIVE_UP_S", 0.05)
    _, _, _, hold = rig()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert not await hold.empty()
    hold.release()
    held = loop.time() - began
    assert not hold.may_begin and not hold.is_possible and not hold.is_due
    assert hold._not_before - loop.time() >= held * 1.5


@pytest.mark.asyncio
async def test_a_forced_end_gives_a_hold_up_at_once() -> None:
    record, _, _, hold = rig()
    task = asyncio.create_task(hold.empty())
    await asyncio.sleep(0)
    record.forced = True
    record.wake()
    assert not await asyncio.wait_for(task, 0.5)
    hold.release()


@pytest.mark.asyncio
async def test_in_sync_calls_only_when_nothing_is_left_and_lets_guests_in_afterwards() -> None:
    record, drive, engine, hold = rig()
    engine.is_clean = False
    called = []

    async def then() -> bool:
        called.append((engine.urgent, drive._held))
        return True

    task = asyncio.create_task(hold.in_sync(then))
    await asyncio.sleep(0)
    drive.reports.pop()()
    for _ in range(10):
        await asyncio.sleep(0)
    assert engine.urgent and engine.pumped and not called
    engine.is_clean = True
    record.wake()
    assert await task
    assert called == [(True, True)]
    assert not engine.urgent and not drive._held


@pytest.mark.asyncio
@pytest.mark.parametrize("why", ["paused_by_user", "paused_by_error", "forced", "failed"])
async def test_in_sync_stops_for_whoever_wants_the_job_to_stop(why: str) -> None:
    record, drive, engine, hold = rig()
    engine.is_clean = False

    async def then() -> bool:
        raise AssertionError("called")

    task = asyncio.create_task(hold.in_sync(then))
    await asyncio.sleep(0)
    drive.reports.pop()()
    setattr(record, why, True)
    record.wake()
    assert not await asyncio.wait_for(task, 0.5)
    assert not drive._held


@pytest.mark.asyncio
async def test_an_error_inside_the_hold_lets_guests_in() -> None:
    _, drive, engine, hold = rig()

    async def then() -> bool:
        raise RuntimeError("broken")

    task = asyncio.create_task(hold.in_sync(then))
    await asyncio.sleep(0)
    drive.reports.pop()()
    with pytest.raises(RuntimeError):
        await task
    assert not drive._held and not engine.urgent


@pytest.mark.asyncio
async def test_a_hold_is_possible_when_the_rest_takes_no_time_at_the_present_rate() -> None:
    _, _, engine, hold = rig()
    assert hold.is_possible
    engine.is_clean = False
    engine.dirty_bytes = 1000
    assert not hold.is_possible, "nothing is known about the rate"
    engine.done_bytes = 10**6
    hold._sampled -= 1.0
    hold.sample()
    assert hold.is_possible
    engine.dirty_bytes, engine.in_flight_bytes = 40_000, 40_000
    assert not hold.is_possible
    engine.is_clean = True
    engine.failures.deferred = 1
    try:
        assert not hold.is_possible, "what failed comes back later"
    finally:
        engine.failures.deferred = 0


@pytest.mark.asyncio
async def test_before_ready_guests_are_held_only_after_the_rest_was_small_for_a_while() -> None:
    _, _, _, hold = rig()
    assert not hold.is_due
    hold._near_since -= hold_module.NEAR_S
    assert hold.is_due


def test_a_hold_ends_when_the_last_guest_leaves() -> None:
    drive = Drive(MemoryNode(4096))
    inside, leave, empty = threading.Event(), threading.Event(), threading.Event()

    class Slow(MemoryNode):
        def read_into(self, offset, buffer):
            inside.set()
            assert leave.wait(5)

    drive.exchange(Slow(4096))
    guest = threading.Thread(target=lambda: drive.read_into(0, bytearray(10)))
    guest.start()
    assert inside.wait(5)
    drive.hold(empty.set)
    assert not empty.is_set()
    leave.set()
    assert empty.wait(5)
    guest.join()
    drive.release()
