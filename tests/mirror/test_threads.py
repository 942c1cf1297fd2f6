"""The copy threads: batches, calls, recall and their end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from mirrorgui.mirror.threads import CopyThreads, Done
from tests.mirror.harness import wait_until


class Work:
    """Pieces of work that wait for a gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun: list[object] = []
        self.done: list[Done[object]] = []
        self.reported = asyncio.Event()

    def make_worker(self) -> Callable[[object], object]:
        def worker(piece: object) -> object:
            self.begun.append(piece)
            assert self.gate.wait(10)
            if isinstance(piece, BaseException):
                raise piece
            return ("done", piece)

        return worker

    def on_done(self, done: list[Done[object]]) -> None:
        self.done.extend(done)
        self.reported.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.done) < count:
                self.reported.clear()
                await self.reported.wait()


@asynccontextmanager
async def threads(count: int) -> AsyncIterator[tuple[CopyThreads[object], Work]]:
    work = Work()
    these = CopyThreads(count, work.make_worker, work.on_done)
    try:
        yield these, work
    finally:
        work.gate.set()
        await these.close()


@pytest.mark.asyncio
async def test_a_batch_is_done_in_order_by_one_thread_and_reported() -> None:
    async with threads(3) as (these, work):
        assert these.count == 3
        work.gate.set()
        these.submit([1, 2, 3])
        await work.until(3)
        assert [each.work for each in work.done] == [1, 2, 3]
        assert [each.result for each in work.done] == [("done", number) for number in (1, 2, 3)]


@pytest.mark.asyncio
async def test_batches_run_side_by_side() -> None:
    async with threads(2) as (these, work):
        these.submit([1])
        these.submit([2])
        wait_until(lambda: len(work.begun) == 2)


@pytest.mark.asyncio
async def test_an_error_is_reported_and_the_rest_of_the_batch_is_done() -> None:
    async with threads(1) as (these, work):
        work.gate.set()
        error = ZeroDivisionError("a defect")
        these.submit([error, 2])
        await work.until(2)
        assert work.done[0].error is error and work.done[0].result is None
        assert work.done[1].result == ("done", 2)


@pytest.mark.asyncio
async def test_recall_takes_back_what_no_thread_has_begun() -> None:
    async with threads(1) as (these, work):
        these.submit([1, 2])
        these.submit([3, 4])
        wait_until(lambda: work.begun)
        assert these.recall() == [3, 4]
        work.gate.set()
        await work.until(2)
        assert [(each.work, each.result) for each in work.done] == [(1, ("done", 1)), (2, None)]
        assert work.done[1].error is None, "taken back in the middle of a batch"
        these.allow()
        these.submit([5])
        await work.until(3)
        assert work.begun == [1, 5]


@pytest.mark.asyncio
async def test_recall_leaves_calls_alone() -> None:
    async with threads(1) as (these, work):
        these.submit([1])
        wait_until(lambda: work.begun)
        call = asyncio.create_task(these.call(lambda: "called"))
        await asyncio.sleep(0)
        these.submit([2])
        assert these.recall() == [2]
        work.gate.set()
        assert await call == "called"


@pytest.mark.asyncio
async def test_a_call_gives_its_error_to_the_caller() -> None:
    async with threads(1) as (these, _):

        def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await these.call(fail)


@pytest.mark.asyncio
@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_call_is_awaited_to_its_end(fails: bool) -> None:
    async with threads(1) as (these, _):
        begun, leave, left = threading.Event(), threading.Event(), []

        def slow() -> None:
            begun.set()
            assert leave.wait(10)
            left.append(True)
            if fails:
                raise ZeroDivisionError

        call = asyncio.create_task(these.call(slow))
        await asyncio.sleep(0)
        assert begun.wait(10)
        call.cancel()
        await asyncio.sleep(0.02)
        assert not call.done(), "its buffer may still be written to"
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert left == [True]


@pytest.mark.asyncio
async def test_close_lets_the_work_end_and_joins_the_threads() -> None:
    before = threading.active_count()
    async with threads(4) as (these, work):
        these.submit([1, 2])
        assert threading.active_count() == before + 4
        work.gate.set()
    assert threading.active_count() == before
    await asyncio.sleep(0)
    assert [each.work for each in work.done] == [1, 2]
