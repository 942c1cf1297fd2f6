"""A stage on which a job plays in scripted interleavings, in virtual time.

Requests of copy threads and guests stop at gates in the nodes until they are let go, so a guest's
write can be put exactly between clear, read and write of a copy. Between two steps everything has
come to rest: every thread is known to wait somewhere.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

from mirrorgui.block.filter import FilterNode
from mirrorgui.block.node import BlockNode, Buffer
from mirrorgui.errors import BlockIOError, RequestCancelled
from mirrorgui.mirror import engine as engine_module
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.failures import Failures
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.ratelimit import RateLimit

REST_TIMEOUT_S = 10.0

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock moves only when it is told to; timers may come a twentieth too early."""

    def __init__(self, *, early: bool = False) -> None:
        self.now = 1000.0
        self.early = early
        super().__init__()
        self._clock_resolution = 1e-7

    def time(self) -> float:
        return self.now

    def call_later(self, delay, callback, *args, context=None):
        if self.early:
            delay *= 0.95
        return super().call_later(delay, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        # Whole microseconds, so that a clock that stands still is not waited for in tiny steps.
        if when > self.now:
            when = max(math.ceil(when * 1e6) / 1e6, self.now + 1e-6)
        return super().call_at(when, callback, *args, context=context)

    def next_timer(self) -> float | None:
        """When the next timer is due."""
        live = [handle.when() for handle in self._scheduled if not handle.cancelled()]
        return min(live, default=None)

    @property
    def is_busy(self) -> bool:
        """Whether callbacks wait to be called."""
        return bool(self._ready)


@dataclass(eq=False)
class Parked:
    """A request that stands at a gate."""

    node: str
    kind: str
    offset: int
    length: int
    guest: bool
    after: bool
    released: bool = False
    fault: int = 0
    cancelled: bool = False

    @property
    def place(self) -> tuple[Any, ...]:
        """By what requests at the gates are sorted, so that runs can be repeated."""
        return (self.guest, self.node, self.kind, self.offset, self.length, self.after)


class Gates:
    """All requests that stand at gates of one stage."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.parked: list[Parked] = []
        self.open = False

    def standing(self) -> list[Parked]:
        """Those that stand, in an order that does not depend on threads."""
        with self.changed:
            return sorted(self.parked, key=lambda each: each.place)

    def let_go(self, parked: Parked, fault: int = 0) -> None:
        """Let one request go on, or fail."""
        with self.changed:
            parked.fault = fault
            self._let_go([parked])

    def open_all(self) -> None:
        """Let everything go on, now and until ``close_all``."""
        with self.changed:
            self.open = True
            self._let_go(list(self.parked))

    def close_all(self) -> None:
        with self.changed:
            self.open = False

    def give_up(self, node: str) -> None:
        """Cancel what stands before a node."""
        with self.changed:
            mine = [each for each in self.parked if each.node == node]
            for each in mine:
                each.cancelled = not each.after
            self._let_go(mine)

    def _let_go(self, those: list[Parked]) -> None:
        for each in those:
            each.released = True
            self.parked.remove(each)
        self.changed.notify_all()

    def pass_through(self, parked: Parked) -> None:
        """Stand at the gate. Called by the thread of the request."""
        with self.changed:
            if not self.open:
                self.parked.append(parked)
                while not parked.released:
                    self.changed.wait()
        if parked.cancelled:
            raise RequestCancelled(parked.kind, parked.offset, parked.length, parked.node)
        if parked.fault:
            raise BlockIOError(parked.kind, parked.offset, parked.length, parked.fault, parked.node)


class GatedNode(FilterNode):
    """A node before (and, when asked, behind) whose requests there is a gate."""

    def __init__(self, child: BlockNode, gates: Gates, name: str, *, after: bool) -> None:
        super().__init__(child, name=name)
        self._gates = gates
        self._after = after
        self.changing: list[tuple[int, int]] = []
        self.overlapped: list[tuple[int, int]] = []
        self._inside = 0
        self._opening = False
        self._lock = threading.Lock()

    def _gate(self, kind: str, offset: int, length: int, request: Callable[[], None]) -> None:
        guest = threading.current_thread().name.startswith("guest")
        changes = kind in ("write", "write_zeroes", "discard")
        with self._lock:
            self._inside += 1
            if self._opening:
                self.overlapped.append((offset, length))
            if changes:
                end = offset + length
                if any(low < end and offset < high for low, high in self.changing):
                    self.overlapped.append((offset, length))
                self.changing.append((offset, end))
        try:
            self._gates.pass_through(Parked(self.name, kind, offset, length, guest, False))
            request()
            if self._after:
                self._gates.pass_through(Parked(self.name, kind, offset, length, guest, True))
        finally:
            with self._lock:
                self._inside -= 1
                if changes:
                    self.changing.remove((offset, offset + length))

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        self._gate("read", offset, len(buffer), lambda: self.child.read_into(offset, buffer))

    def write(self, offset: int, data: Buffer) -> None:
        self._gate("write", offset, len(data), lambda: self.child.write(offset, data))

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        self._gate(
            "write_zeroes",
            offset,
            length,
            lambda: self.child.write_zeroes(offset, length, may_unmap=may_unmap),
        )

    def discard(self, offset: int, length: int) -> None:
        self._gate("discard", offset, length, lambda: self.child.discard(offset, length))

    def flush(self) -> None:
        self._gate("flush", 0, 0, self.child.flush)

    def open_backing(self) -> None:
        with self._lock:
            if self._inside:
                self.overlapped.append((0, 0))
            self._opening = True
        try:
            self._gates.pass_through(Parked(self.name, "open_backing", 0, 0, False, False))
            super().open_backing()
        finally:
            with self._lock:
                self._opening = False

    def cancel_in_flight(self) -> None:
        self._gates.give_up(self.name)


class WatchedDrive(Drive):
    """A drive that tells when the hook is taken off, which is the moment that decides."""

    def __init__(self, node: BlockNode) -> None:
        super().__init__(node)
        self.on_detach: Callable[[], None] = lambda: None

    def detach(self) -> None:
        self.on_detach()
        super().detach()

    @property
    def is_held(self) -> bool:
        return self._held

    @property
    def standing(self) -> int:
        """Guests that wait to be let in."""
        with self._gate:
            return len(self._gate._waiters)


class Stage:
    """A loop in virtual time, gates, and the threads of guests."""

    def __init__(self, *, early: bool = False) -> None:
        self.loop = VirtualLoop(early=early)
        self.gates = Gates()
        self.guests: set[asyncio.Future[Any]] = set()
        self.calls = 0
        self.is_closing = False
        self.threads = 0
        self.job: MirrorJob | None = None
        self.drive: WatchedDrive | None = None
        self._number = 0
        clock = SimpleNamespace(monotonic_ns=self.clock_ns)
        self._patch = mock.patch.object(engine_module, "time", clock)
        self._patch.start()

    def clock_ns(self) -> int:
        return int(self.loop.now * 1e9)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something short on the loop."""
        return self.loop.run_until_complete(coroutine)

    def do(self, function: Callable[[], T]) -> T:
        """Call something on the loop's thread, with the loop running."""

        async def call() -> T:
            return function()

        return self.run(call())

    def make_job(self, make: Callable[[], MirrorJob], *, threads: int, cap: int) -> MirrorJob:
        """Make a job that lives in virtual time and hands single operations over."""
        self.job = job = self.do(make)
        engine = job._engine
        engine._batch = 1
        engine._cap = max(cap, engine._choice.unit)
        engine.limit = RateLimit(job.options.speed, self.clock_ns)
        engine.failures = Failures(job.source.size, job.granularity, self.clock_ns)
        self.threads = threads
        call = engine._threads.call

        async def counted(function: Callable[[], Any]) -> Any:
            self.calls += 1
            try:
                return await call(function)
            finally:
                self.calls -= 1

        close = engine._threads.close

        async def closing() -> None:
            self.is_closing = True
            await close()
            self.is_closing = False

        engine._threads.call = counted
        engine._threads.close = closing
        self.drive = job.drive
        return job

    # Guests.

    def let_guest(self, request: Callable[[], T], done: Callable[[BaseException | None], None]):
        """Let a guest do something in a thread of its own; ``done`` is called on the loop."""
        self._number += 1
        future = self.loop.create_future()
        self.guests.add(future)

        def finish(error: BaseException | None) -> None:
            self.guests.discard(future)
            future.set_result(None)
            done(error)

        def run() -> None:
            error: BaseException | None = None
            try:
                request()
            except BaseException as caught:
                error = caught
            self.loop.call_soon_threadsafe(finish, error)

        threading.Thread(target=run, name=f"guest-{self._number}").start()

    # Rest.

    def _is_at_rest(self) -> bool:
        if self.loop.is_busy or self.is_closing:
            return False
        parked = self.gates.standing()
        guests = sum(each.guest for each in parked)
        waiting = 0
        if self.job is not None:
            engine = self.job._engine
            ranges = engine.ranges
            with ranges._changed:
                waiting = len(ranges._changed._waiters)
            outstanding = engine.in_flight + self.calls
            if len(parked) - guests != min(self.threads, outstanding):
                return False
        at_door = self.drive.standing if self.drive is not None else 0
        return len(self.guests) == guests + waiting + at_door

    async def _rest(self) -> None:
        calm = 0
        deadline = time.monotonic() + REST_TIMEOUT_S
        while calm < 3:
            await asyncio.sleep(0)
            if self._is_at_rest():
                calm += 1
                continue
            calm = 0
            if time.monotonic() > deadline:
                raise AssertionError(f"never at rest: {self.describe()}")
            time.sleep(0.00005)  # the threads are at work; they need the interpreter

    def rest(self) -> None:
        """Let everything happen that can without a gate or the clock."""
        self.run(self._rest())

    def advance(self, seconds: float) -> None:
        """Move the clock, from timer to timer."""
        end = self.loop.now + seconds
        self.rest()
        while (due := self.loop.next_timer()) is not None and due <= end:
            self.loop.now = max(self.loop.now, due)
            self.rest()
        self.loop.now = end
        self.rest()

    def describe(self) -> str:
        """Say where everything is."""
        job = self.job
        lines = [f"now {self.loop.now}, calls {self.calls}, guests {len(self.guests)}"]
        lines.append(f"gates {[each.place for each in self.gates.standing()]}")
        if job is not None:
            lines.append(f"in flight {job._engine.in_flight}, stall {job._engine.stall}")
            lines.append(str(job._record))
            lines.append(str(job.snapshot()))
        return "\n".join(lines)

    def close(self) -> None:
        """Take the stage down."""
        self.gates.open_all()
        self.rest()
        self._patch.stop()
        self.loop.close()
