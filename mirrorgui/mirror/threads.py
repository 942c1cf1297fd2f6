"""A few long-lived threads that do what blocks, and report back to the event loop.

An executor's hop costs more than the copy of a small chunk, so operations are handed over and
reported in batches: a report wakes the loop once for everything that has piled up since.
"""

import asyncio
import collections
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)

REPORT_NS = 2_000_000
"""A batch that takes longer than this reports what it has, so that progress stays live."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Call(Generic[R]):
    """A function to be called by one of the threads, and the future that gets its result."""

    function: Callable[[], R]
    future: asyncio.Future[R]


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A piece of work and how it ended: exactly one of ``result`` and ``error`` is set."""

    work: T
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Mailbox:
    """Reports on their way to the loop."""

    items: collections.deque[Any] = field(default_factory=collections.deque)
    lock: threading.Lock = field(default_factory=threading.Lock)
    waking: bool = False


class CopyThreads(Generic[T]):
    """Threads that carry out batches of work and single calls.

    Args:
        count: number of threads; started at once, ended by ``close``.
        make_worker: called in each thread for the function that carries out one piece of work.
        on_done: called on the loop with the pieces that have ended, in the order of their ends.

    Concurrency: methods belong to the loop's thread.
    """

    def __init__(
        self,
        count: int,
        make_worker: Callable[[], Callable[[T], Any]],
        on_done: Callable[[list[Done[T]]], None],
        name: str = "copy",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make_worker = make_worker
        self._on_done = on_done
        self._queue: queue.SimpleQueue[Sequence[T] | _Call[Any] | None] = queue.SimpleQueue()
        self._mailbox = _Mailbox()
        self._recalled = threading.Event()
        self._ended = [self._loop.create_future() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._run, args=(ended,), name=f"{name}-{number}")
            for number, ended in enumerate(self._ended)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        """Number of threads."""
        return len(self._threads)

    def submit(self, batch: Sequence[T]) -> None:
        """Hand over pieces of work, to be done one after the other by one thread."""
        self._queue.put(batch)

    async def call(self, function: Callable[[], R]) -> R:
        """Call a function in one of the threads; behind the batches handed over before.

        A started call is awaited to its end even when the caller is cancelled; the cancellation is
        raised then.
        """
        future: asyncio.Future[R] = self._loop.create_future()
        self._queue.put(_Call(function, future))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # retrieved: nobody else will
            raise

    def recall(self) -> list[T]:
        """Take back every piece that no thread has begun. Single calls stay.

        What is in the middle of a batch comes back as ``Done`` with neither result nor error.
        """
        self._recalled.set()
        taken: list[T] = []
        keep: list[_Call[Any] | None] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None or isinstance(item, _Call):
                keep.append(item)
            else:
                taken.extend(item)
        for call in keep:
            self._queue.put(call)
        return taken

    def allow(self) -> None:
        """End a recall: batches handed over from now on are carried out."""
        self._recalled.clear()

    async def close(self) -> None:
        """End the threads when all that was handed over is done; returns when they have ended."""
        for _ in self._threads:
            self._queue.put(None)
        await asyncio.wait(self._ended)
        for thread in self._threads:
            thread.join()  # it posted its end as its last act

    # What runs in the threads.

    def _run(self, ended: asyncio.Future[None]) -> None:
        worker = self._make_worker()
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Call):
                self._run_call(item)
            else:
                self._run_batch(worker, item)
        self._post([(ended, None, None)])

    def _run_batch(self, worker: Callable[[T], Any], batch: Sequence[T]) -> None:
        done: list[Done[T]] = []
        reported_ns = time.monotonic_ns()
        for work in batch:
            if self._recalled.is_set():
                done.append(Done(work))
                continue
            try:
                done.append(Done(work, worker(work)))
            except Exception as error:  # noqa: BLE001 - a border: the loop raises what is no I/O error
                done.append(Done(work, error=error))
            now_ns = time.monotonic_ns()
            if now_ns - reported_ns > REPORT_NS:
                self._post(done)
                done, reported_ns = [], now_ns
        if done:
            self._post(done)

    def _run_call(self, call: _Call[Any]) -> None:
        try:
            result, error = call.function(), None
        except Exception as caught:  # noqa: BLE001 - a border: the caller gets it
            result, error = None, caught
        self._post([(call.future, result, error)])

    def _post(self, items: list[Any]) -> None:
        mailbox = self._mailbox
        with mailbox.lock:
            mailbox.items.extend(items)
            if mailbox.waking:
                return
            mailbox.waking = True
        self._loop.call_soon_threadsafe(self._deliver)

    # Back on the loop.

    def _deliver(self) -> None:
        mailbox = self._mailbox
        with mailbox.lock:
            mailbox.waking = False
            items = list(mailbox.items)
            mailbox.items.clear()
        done: list[Done[T]] = []
        for item in items:
            if isinstance(item, Done):
                done.append(item)
            else:
                _settle(*item)
        if done:
            self._on_done(done)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:  # noqa: ANN401
    """Give a call's end to whoever awaits it."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
