"""One mirror job under test: its nodes, its guests, its events, and faults at will.

Waiting is always for something (an event, a status, a condition) and always with a time-out whose
message shows the job.
"""

import asyncio
import errno
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.filter import FilterNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode, Buffer
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.events import EventLog, JobEvent
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import MirrorOptions
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.units import KiB, MiB

CHUNK = 64 * KiB
TIMEOUT_S = 20.0

T = TypeVar("T")

EVENT_OF = {
    "read": "read_aio",
    "write": "write_aio",
    "zero": "pwritev_zero",
    "flush": "flush_to_disk",
}


def pattern(length: int, seed: int = 1, *, start: int = 0) -> bytes:
    """Bytes that tell their own place and seed in every eight of them; no word is zero.

    Args:
        length: number of bytes.
        seed: makes patterns differ.
        start: first byte of the pattern that is wanted.
    """
    first, skip = divmod(start, 8)
    words = np.arange(first + 1, first + (skip + length) // 8 + 2, dtype=np.uint64)
    return (words + np.uint64(seed << 40)).tobytes()[skip : skip + length]


def islands(size: int, *pieces: tuple[int, int], seed: int = 1) -> MemoryNode:
    """A sparse image with data at the given (offset, length) places."""
    node = MemoryNode(size, name="sparse", cluster_size=4 * KiB)
    for offset, length in pieces:
        node.write(offset, pattern(length, seed, start=offset))
    return node


def content(node: BlockNode) -> bytes:
    """All bytes that a guest reads."""
    whole = bytearray(node.size)
    step = 4 * MiB
    for start in range(0, node.size, step):
        node.read_into(start, memoryview(whole)[start : start + step])
    return bytes(whole)


def assert_equal(source: BlockNode, target: BlockNode) -> None:
    """Compare two images; say where they differ."""
    assert source.size == target.size
    ours, theirs = content(source), content(target)
    if ours != theirs:
        left, right = (np.frombuffer(each, np.uint8) for each in (ours, theirs))
        places = np.flatnonzero(left != right)
        raise AssertionError(
            f"{len(places)} bytes differ, from {places[0]} to {places[-1]}, in chunks "
            f"{sorted({int(place) // CHUNK for place in places})[:20]}"
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One finished request to a node."""

    kind: str
    offset: int
    length: int
    thread: str


class Probe(FilterNode):
    """Writes down the requests that reach a node; two that change the same bytes at once fail.

    Attributes:
        requests: finished ones, in the order of their ends.
        overlaps: pairs of changing requests that ran at the same time on the same bytes.
        at_once: most changing requests that ever ran at the same time.
    """

    def __init__(self, child: BlockNode) -> None:
        super().__init__(child)
        self.requests: list[Request] = []
        self.overlaps: list[tuple[Request, Request]] = []
        self.at_once = 0
        self._running: list[Request] = []
        self._lock = threading.Lock()

    def of(self, kind: str) -> list[Request]:
        """The finished requests of one kind."""
        with self._lock:
            return [each for each in self.requests if each.kind == kind]

    def forget(self) -> None:
        """Begin a new list."""
        with self._lock:
            self.requests.clear()

    @contextmanager
    def _noted(self, kind: str, offset: int, length: int) -> Iterator[None]:
        request = Request(kind, offset, length, threading.current_thread().name)
        changes = kind in ("write", "zero", "discard")
        with self._lock:
            if changes:
                for other in self._running:
                    if other.offset < offset + length and offset < other.offset + other.length:
                        self.overlaps.append((other, request))
                self._running.append(request)
                self.at_once = max(self.at_once, len(self._running))
        try:
            yield
        finally:
            with self._lock:
                if changes:
                    self._running.remove(request)
                self.requests.append(request)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        with self._noted("read", offset, len(buffer)):
            self.child.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        with self._noted("write", offset, len(data)):
            self.child.write(offset, data)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        with self._noted("zero", offset, length):
            self.child.write_zeroes(offset, length, may_unmap=may_unmap)

    def discard(self, offset: int, length: int) -> None:
        with self._noted("discard", offset, length):
            self.child.discard(offset, length)

    def flush(self) -> None:
        with self._noted("flush", 0, 0):
            self.child.flush()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait, without a loop, until something is true."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def in_thread(function: Callable[[], T], name: str = "guest") -> "asyncio.Future[T]":
    """Call something in a thread of its own; the future gets its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        try:
            result, error = function(), None
        except BaseException as caught:
            result, error = None, caught
        loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name).start()
    return future


class Side:
    """A node of the job, with faults above it and a probe below them."""

    def __init__(self, node: BlockNode) -> None:
        self.bottom = node
        self.probe = Probe(node)
        self.node = BlkdebugNode(self.probe)

    def fail(
        self, kind: str, offset: int = -1, number: int = errno.EIO, *, once: bool = False
    ) -> InjectError:
        """Let requests of a kind fail: those that touch ``offset``, or all."""
        sector = offset // 512 if offset >= 0 else -1
        rule = InjectError(EVENT_OF[kind], errno=number, sector=sector, once=once)
        self.node.add(rule)
        return rule

    def hang(self, kind: str, offset: int = -1, *, once: bool = False) -> InjectError:
        """Let requests of a kind hang until ``let_go``."""
        sector = offset // 512 if offset >= 0 else -1
        rule = InjectError(EVENT_OF[kind], errno=0, sector=sector, hang=True, once=once)
        self.node.add(rule)
        return rule

    def delay(self, kind: str, seconds: float) -> InjectError:
        """Make requests of a kind slow."""
        rule = InjectError(EVENT_OF[kind], errno=0, delay=seconds)
        self.node.add(rule)
        return rule

    def let_go(self, rule: InjectError) -> None:
        """End a rule and what hangs in it."""
        self.node.remove(rule)

    async def hanging(self, count: int = 1) -> None:
        """Wait until so many requests hang or are delayed."""
        assert await in_thread(lambda: self.node.wait_for_waiting(count, TIMEOUT_S), "waiter")


@dataclass
class Mirror:
    """A job and everything around it."""

    source: Side
    target: Side
    drive: Drive
    job: MirrorJob
    events: list[JobEvent] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def saw(self, event: JobEvent) -> None:
        """Keep an event, and check what holds at every one."""
        self.events.append(event)
        self.check()
        self._news.set()

    def check(self) -> JobSnapshot:
        """Check what holds at any moment."""
        snapshot = self.job.snapshot()
        assert snapshot.length >= snapshot.offset, snapshot
        assert not self.offsets or snapshot.offset >= self.offsets[-1], "offset went back"
        self.offsets.append(snapshot.offset)
        copies = [each for each in snapshot.operations if each.kind.value == "copy"]
        assert len(copies) <= 16, copies
        assert snapshot.in_flight_bytes <= snapshot.buf_size
        assert snapshot.in_flight_bytes == sum(each.length for each in copies)
        ranges = sorted(each for operation in snapshot.operations for each in operation.ranges)
        for (start, length), (following, _) in pairwise(ranges):
            assert start + length <= following, f"operations overlap: {snapshot.operations}"
        return snapshot

    # Waiting.

    async def until(self, condition: Callable[[], object], timeout: float = TIMEOUT_S) -> None:
        """Wait until something is true."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while not condition():
            self.check()
            if loop.time() >= end:
                raise AssertionError(f"it did not happen: {self.job.snapshot()}\n{self.names()}")
            self._news.clear()
            # An event wakes at once; what has no event is looked at every 2 ms.
            try:
                await asyncio.wait_for(self._news.wait(), 0.002)
            except TimeoutError:
                continue

    async def status(self, *wanted: str, timeout: float = TIMEOUT_S) -> JobSnapshot:
        """Wait for a status."""
        await self.until(lambda: self.job.status.value in wanted, timeout)
        return self.check()

    async def event(self, name: str, **fields: object) -> JobEvent:
        """Wait until such an event has happened."""
        await self.until(lambda: self.find(name, **fields))
        return self.find(name, **fields)[0]

    async def settled(self) -> JobSnapshot:
        """Wait until nothing is dirty or in flight."""
        await self.until(lambda: not self.job.snapshot().remaining)
        return self.check()

    async def end(self, timeout: float = TIMEOUT_S) -> JobSnapshot:
        """Wait for the job's end."""
        async with asyncio.timeout(timeout):
            snapshot = await self.job.wait()
        self.check()
        return snapshot

    async def ready(self) -> JobSnapshot:
        """Wait for READY."""
        return await self.status("ready")

    async def complete(self) -> JobSnapshot:
        """Wait for READY, complete and wait for the end."""
        await self.ready()
        self.job.complete()
        return await self.end()

    # Events.

    def find(self, name: str, **fields: object) -> list[JobEvent]:
        """The events of a name with (at least) these fields."""
        return [
            event
            for event in self.events
            if event.name == name
            and all(event.data.get(key.replace("_", "-")) == value for key, value in fields.items())
        ]

    def names(self) -> list[str]:
        """What happened, in short: status names in small letters, events in capitals."""
        return [
            str(event.data["status"])
            if event.name == "JOB_STATUS_CHANGE"
            else event.name.removeprefix("BLOCK_JOB_")
            for event in self.events
        ]

    # The guest.

    def guest(self, request: Callable[[Drive], T]) -> "asyncio.Future[T]":
        """Let a guest do something through the drive, in a thread of its own."""
        return in_thread(lambda: request(self.drive))

    async def write(self, offset: int, data: Buffer) -> None:
        """Let a guest write."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.guest(lambda drive: drive.write(offset, data))

    async def zero(self, offset: int, length: int) -> None:
        """Let a guest write zeroes."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.guest(lambda drive: drive.write_zeroes(offset, length))

    async def discard(self, offset: int, length: int) -> None:
        """Let a guest discard."""
        async with asyncio.timeout(TIMEOUT_S):
            await self.guest(lambda drive: drive.discard(offset, length))

    # Comparing.

    def assert_equal(self) -> None:
        """Compare both images."""
        assert_equal(self.source.bottom, self.target.bottom)

    def assert_over(self) -> None:
        """Check what holds after every end."""
        engine = self.job._engine
        assert self.job.status in OVER
        assert not engine.in_flight and not engine.in_flight_bytes
        assert engine.ranges.held() == () and not engine.ranges.waiting
        assert self.drive._hook is None
        assert self.target.probe.overlaps == []
        names = self.names()
        assert names.count("READY") <= 1
        assert sum(names.count(name) for name in ("COMPLETED", "CANCELLED")) == 1


@asynccontextmanager
async def mirroring(
    source: BlockNode | bytes,
    target: BlockNode | None = None,
    *,
    arm: Callable[[Side, Side], object] | None = None,
    pivot: Callable[[BlockNode], object] | None = None,
    start: bool = True,
    **options: Any,
) -> AsyncIterator[Mirror]:
    """Run a job; whatever state it is left in, it is ended and checked.

    Args:
        source: the image, or its bytes.
        target: the image; an empty one in memory by default.
        arm: called with both sides before the job starts, to set faults.
        pivot: see ``MirrorJob``.
        start: whether to start it.
        options: of ``MirrorOptions``.
    """
    if isinstance(source, bytes):
        source = MemoryNode(source, name="source")
    if target is None:
        target = MemoryNode(source.size, name="target")
    sides = Side(source), Side(target)
    if arm is not None:
        arm(*sides)
    drive = Drive(sides[0].node)
    log = EventLog()
    early: list[JobEvent] = []
    stop_early = log.listen(early.append)
    job = MirrorJob(drive, sides[1].node, MirrorOptions(**options), events=log, pivot=pivot)
    mirror = Mirror(*sides, drive, job)
    stop_early()
    mirror.events.extend(early)
    log.listen(mirror.saw)
    if start:
        job.start()
    try:
        yield mirror
    finally:
        sides[0].node.clear()
        sides[1].node.clear()
        if not start and job._task is None:
            job.start()
        if job.status not in (*OVER, JobStatus.ABORTING) and job._record.outcome is None:
            job.cancel(force=True)
        await mirror.end()
    mirror.assert_over()
    if job.status is JobStatus.CONCLUDED and not job.options.auto_dismiss:
        job.dismiss()
