"""Background copying: which chunks next, how many at once, how fast. No life cycle, no policy.

Everything here happens on the event loop's thread, between two awaits: choosing a range, claiming
it, clearing its bits and handing it over is one step, so whoever looks never sees half of it.
"""

import asyncio
import enum
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.copy import Copier, Moved
from mirrorgui.mirror.failures import Failures
from mirrorgui.mirror.options import MAX_IN_FLIGHT, operation_cap
from mirrorgui.mirror.parts import PART, PartBitmap, Range
from mirrorgui.mirror.ranges import Claim, RangeLock
from mirrorgui.mirror.ratelimit import RateLimit
from mirrorgui.mirror.snapshot import LATENCY_BUCKETS, OperationKind, OperationView, latency_bucket
from mirrorgui.mirror.threads import CopyThreads, Done
from mirrorgui.units import align_down, align_up

logger = logging.getLogger(__name__)

BATCH = 2
"""Operations handed over at once. One wakes the loop too often; four hold the interpreter's lock
for so long when they are reported that the copy threads wait (8 % with scattered chunks)."""

MAX_RANGES = 16
"""Scattered ranges that one operation gathers, while they fit under its cap: 16 chunks of 64 KiB
cost the loop and the interpreter's lock hardly more than one run of 1 MiB."""

MAX_LOCAL_THREADS = 4
"""More threads than this fight for the interpreter instead of copying."""

REST_S = 0.1
"""Once READY, a new pass begins this long after the last one: chunks that a guest writes all the
time are copied ten times a second, not as often as the machine can. QEMU rests as long when idle.
"""

MAX_TIMER_S = 0.5
"""Timers are short, so that a cancelled one does not linger on an event loop made of Qt timers."""

_SECOND_NS = 1_000_000_000

R = TypeVar("R")


class Stall(enum.Enum):
    """Why no further operation was begun."""

    FULL = "full"
    """The limit of operations or of claimed bytes is reached."""
    THROTTLED = "throttled"
    """The speed limit says: later."""
    CLEAN = "clean"
    """Nothing is dirty."""
    BUSY = "busy"
    """All that is dirty is claimed by somebody."""
    RESTING = "resting"
    """READY, and the last pass has just begun."""
    SUSPENDED = "suspended"
    """Not now."""


@dataclass(eq=False, slots=True)
class Operation:
    """What is claimed, handed over and counted as one: a run, or several scattered ones.

    Attributes:
        pieces: those that have not ended yet.
        started_ns: monotonic clock at which it was claimed.
    """

    started_ns: int
    pieces: list["Piece"] = field(default_factory=list)

    def view(self) -> OperationView:
        """Return it as the window sees it."""
        ranges = tuple(sorted((piece.offset, piece.length) for piece in self.pieces))
        length = sum(length for _, length in ranges)
        return OperationView(ranges[0][0], length, self.started_ns, ranges=ranges)


@dataclass(eq=False, slots=True)
class Piece:
    """One range of an operation: what a copy thread moves at a time.

    Attributes:
        claim: the whole chunks that it stands for.
        operation: what it belongs to.
        span: offset and length of what is copied of them.
    """

    claim: Claim
    operation: Operation
    span: tuple[int, int]

    @property
    def offset(self) -> int:
        """First byte."""
        return self.claim.offset

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.claim.length


class EngineListener(Protocol):
    """Who decides what the engine's news mean."""

    def piece_failed(self, piece: Piece, error: BlockIOError) -> bool:
        """A range could not be copied and is dirty again. True: try it later, not now."""

    def engine_broken(self, error: BaseException) -> None:
        """A copy thread raised what no driver may raise."""

    def engine_changed(self) -> None:
        """Operations ended or the state changed; called after new ones were begun."""


def thread_count(asked: int, source: BlockNode, target: BlockNode) -> int:
    """Return how many copy threads suit two nodes; ``asked`` wins unless it is 0."""
    if asked:
        return asked
    if source.limits.latency_bound or target.limits.latency_bound:
        return MAX_IN_FLIGHT
    return min(os.cpu_count() or 1, MAX_LOCAL_THREADS)


def _part(source: BlockNode, target: BlockNode) -> int:
    """Return the part of a chunk that can be copied alone: no request must touch more than it."""
    return max(PART, source.limits.request_alignment, target.limits.request_alignment)


class CopyEngine:
    """Copies dirty chunks from source to target until told to stop.

    Attributes:
        dirty: what is to be copied.
        copied: what has been brought to the target at least once.
        target_data: what of the target may hold something else than zeroes.
        ranges: the exclusion between copies and write-blocking guests.
        failures: places that failed.
        limit: the speed limit.
        done_bytes: total of bytes in finished operations.
        copied_bytes, zeroed_bytes: the same by what was done.
        latency: finished operations by duration.
        urgent: guests are held: neither the speed limit nor a rest applies.
        restful: READY and nobody waits: rest between passes.
    """

    def __init__(
        self,
        source: BlockNode,
        target: BlockNode,
        *,
        granularity: int,
        buf_size: int,
        speed: int,
        unmap: bool,
        threads: int,
        listener: EngineListener,
    ) -> None:
        size = source.size
        self.source, self.target = source, target
        self.granularity, self.buf_size = granularity, buf_size
        self.dirty = PartBitmap(size, granularity, _part(source, target))
        self.copied = DirtyBitmap(size, granularity)
        self.target_data = DirtyBitmap(size, granularity)
        self.failures = Failures(size, granularity)
        self.limit = RateLimit(speed)
        self.ranges = RangeLock(self.kick)
        self.done_bytes = self.copied_bytes = self.zeroed_bytes = 0
        self.latency = [0] * LATENCY_BUCKETS
        self.urgent = False
        self.restful = False
        self._cap = operation_cap(buf_size, granularity)
        self._batch = BATCH
        if source.limits.latency_bound or target.limits.latency_bound:
            self._batch = 1  # waiting together would only make each wait for all
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._threads: CopyThreads[Piece] = CopyThreads(
            thread_count(threads, source, target), lambda: self._worker(unmap), self._on_done
        )
        self._in_flight: set[Operation] = set()
        self._claimed = 0
        self._cursor = 0
        self._pass_started = 0.0
        self._suspended = True
        self._stall = Stall.SUSPENDED
        self._wants_kick = False
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0

    def _worker(self, unmap: bool) -> Callable[[Piece], Moved]:
        """Return what one copy thread calls for each operation."""
        copier = Copier(self.source, self.target, self.target_data, unmap=unmap)
        # A guest's mark may come after its chunk was taken with the part: nothing is left to copy.
        return lambda piece: copier.copy(*piece.span) if piece.span[1] else Moved()

    # Looks from outside.

    @property
    def stall(self) -> Stall:
        """Why nothing more is being begun at the moment."""
        return self._stall

    @property
    def in_flight(self) -> int:
        """Number of operations in flight."""
        return len(self._in_flight)

    @property
    def in_flight_bytes(self) -> int:
        """Bytes in operations in flight."""
        return self._claimed

    @property
    def dirty_bytes(self) -> int:
        """Bytes to copy, what was put aside after a failure included; not those in flight."""
        return self.dirty.dirty_bytes + self.failures.deferred_bytes

    @property
    def is_idle(self) -> bool:
        """Whether no operation is in flight."""
        return not self._in_flight

    @property
    def is_clean(self) -> bool:
        """Whether nothing is dirty, put aside or in flight."""
        return not self._in_flight and self.dirty.is_clean and not self.failures.deferred

    @property
    def generation(self) -> int:
        """Changes whenever a map may have changed."""
        maps = (self.dirty, self.copied, self.failures.failed)
        return sum(each.generation for each in maps)

    @property
    def has_guests(self) -> bool:
        """Whether a write-blocking guest is inside or waits for a range."""
        return bool(self.ranges.waiting) or any(claim.guest for claim in self.ranges.held())

    def operations(self) -> tuple[OperationView, ...]:
        """Return the operations in flight and the guests' writes to both images, oldest first."""
        views = [operation.view() for operation in self._in_flight]
        views.extend(
            OperationView(claim.offset, claim.length, claim.since_ns, OperationKind.GUEST)
            for claim in self.ranges.held()
            if claim.guest
        )
        return tuple(sorted(views, key=lambda view: (view.started_ns, view.offset)))

    def dirty_extents(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """Return a range as adjacent runs of (length, whether the target still lacks it).

        Concurrency: from any thread. The claims are looked at before and after the bitmap, so that
        a chunk on its way between the two is seen in one of them.
        """
        end = offset + length
        lacking = [(claim.offset, claim.end) for claim in self.ranges.held()]
        for bitmap in (self.dirty, self.failures.failed):
            position = offset
            for run, dirty in bitmap.runs(offset, length):
                if dirty:
                    lacking.append((position, position + run))
                position += run
        lacking.extend((claim.offset, claim.end) for claim in self.ranges.held())
        runs: list[tuple[int, bool]] = []
        position = offset
        for first, last in sorted(lacking):
            first, last = max(first, position), min(last, end)
            if first >= last:
                continue
            if first > position:
                runs.append((first - position, False))
            runs.append((last - first, True))
            position = last
        if position < end:
            runs.append((end - position, False))
        return runs

    # Control.

    def suspend(self) -> None:
        """Begin nothing more and take back what no thread has begun. In-flight I/O goes on."""
        self._suspended = True
        self._wants_kick = False
        for piece in self._threads.recall():
            self._undo(piece)
        self._stall = Stall.SUSPENDED

    def resume(self) -> None:
        """Go on; what was put aside after a failure is tried at once."""
        self._threads.allow()
        self._suspended = False
        self.retry_deferred()

    def retry_deferred(self) -> None:
        """Try what was put aside after a failure now."""
        for chunk in self.failures.take_due(everything=True):
            self.dirty.mark(chunk, 1)
        self.pump()

    def set_speed(self, speed: int) -> None:
        """Change the limit; takes effect at once."""
        self.limit.speed = speed
        self.pump()

    async def call(self, function: Callable[[], R]) -> R:
        """Call something that blocks in a copy thread; awaited to its end also when cancelled."""
        return await self._threads.call(function)

    async def close(self) -> None:
        """End the copy threads; returns when all of them have ended."""
        self.suspend()
        await self._threads.close()
        if self._timer is not None:
            self._timer.cancel()

    def kick(self) -> None:
        """Something may be there to do. From any thread; cheap when the engine works anyway."""
        if self._wants_kick:
            self._wants_kick = False
            self._loop.call_soon_threadsafe(self._kicked)

    def _kicked(self) -> None:
        if self.restful and not self.urgent:
            self._wake_in(REST_S)
        else:
            self.pump()
        self._listener.engine_changed()

    # The pump.

    def pump(self) -> None:
        """Begin as many operations as may be begun now."""
        batch: list[Piece] = []
        operations = 0
        # Asked for before the bitmap is searched: a guest that marks after the search kicks.
        self._wants_kick = True
        while (operation := self._begin()) is not None:
            batch.extend(operation.pieces)
            operations += 1
            if operations >= self._batch:
                self._threads.submit(batch)
                batch, operations = [], 0
        if batch:
            self._threads.submit(batch)
        if self._stall not in (Stall.CLEAN, Stall.BUSY):
            self._wants_kick = False  # an end of I/O or a timer runs the pump again
        self._arm_timer()

    def _begin(self) -> Operation | None:
        """Choose, claim and clear one range; None with ``stall`` set when there is none for now."""
        room = self.buf_size - self._claimed
        if self._suspended:
            self._stall = Stall.SUSPENDED
        elif len(self._in_flight) >= MAX_IN_FLIGHT or room < self.granularity:
            self._stall = Stall.FULL
        elif not self.urgent and self.limit.delay_ns():
            self._stall = Stall.THROTTLED
        else:
            return self._gather(min(self._longest(), align_down(room, self.granularity)))
        return None

    def _gather(self, longest: int) -> Operation | None:
        """Claim the next run, and while it is short the ones behind it as well."""
        operation = Operation(time.monotonic_ns())
        room = longest
        while room >= self.granularity and len(operation.pieces) < MAX_RANGES:
            claims = self._claim_next(room, MAX_RANGES - len(operation.pieces))
            if not claims:
                break
            room -= self._launch(claims, operation)
        if not operation.pieces:
            return None
        self._in_flight.add(operation)
        return operation

    def _longest(self) -> int:
        """Return the longest operation for now, in bytes."""
        piece = self.limit.piece
        if not piece or self.urgent:
            return self._cap
        return min(max(align_down(piece, self.granularity), self.granularity), self._cap)

    def _claim_next(self, longest: int, most: int) -> list[Claim]:
        """Claim the next dirty runs behind the cursor, wrapping around once."""
        if not self._cursor and not self._begin_pass():
            return []
        position, wrapped, busy = self._cursor, not self._cursor, False
        while True:
            runs = self.dirty.next_runs(position, longest, most)
            if not runs:
                if wrapped:
                    self._stall = Stall.BUSY if busy else Stall.CLEAN
                    return []
                self._cursor = position = 0
                wrapped = True
                if not self._begin_pass():
                    return []
                continue
            claims = self.ranges.claim_prefixes(self._unsplit(runs), self.granularity)
            if claims:
                return claims
            busy = True
            # A guest may have claimed gigabytes: step over them at once.
            offset = runs[0][0]
            position = align_up(self.ranges.busy_until(offset), self.granularity)
            position = max(position, offset + self.granularity)

    def _begin_pass(self) -> bool:
        """Begin a pass over the image; False with ``stall`` set when it has to wait."""
        if self.dirty.is_clean:
            self._stall = Stall.CLEAN
            return False
        now = self._loop.time()
        if self.restful and not self.urgent and now - self._pass_started < REST_S:
            self._stall = Stall.RESTING
            return False
        self._pass_started = now
        return True

    def _unsplit(self, runs: list[Range]) -> list[Range]:
        """Leave of runs what may be tried together: a chunk that failed before is tried alone."""
        if self.failures.failed.is_clean:
            return runs
        offset, length = runs[0]
        if self.failures.must_split(offset):
            return [(offset, min(length, self.granularity))]
        failed = self.failures.failed.next_dirty(offset)
        return [(offset, length if failed is None else min(length, failed - offset))]

    def _launch(self, claims: list[Claim], operation: Operation) -> int:
        """Add claimed ranges to an operation; return their bytes."""
        # Clear before the read: a guest's write from now on marks the chunk again.
        spans = self.dirty.take([(claim.offset, claim.length) for claim in claims])
        for claim, span in zip(claims, spans, strict=True):
            operation.pieces.append(Piece(claim, operation, span))
        length = sum(claim.length for claim in claims)
        self._claimed += length
        end = claims[-1].end
        self._cursor = end if end < self.source.size else 0
        if not self.urgent:
            self.limit.charge(sum(length for _, length in spans))
        return length

    # The end of operations.

    def _on_done(self, done: Sequence[Done[Piece]]) -> None:
        copied: list[Piece] = []
        for each in done:
            if each.error is not None:
                self._end_failed(each.work, each.error)
            elif each.result is None:
                self._undo(each.work)
            else:
                copied.append(each.work)
                self._count(each.work, each.result)
        self._forget(copied)
        self.pump()
        self._listener.engine_changed()

    def _count(self, piece: Piece, moved: Moved) -> None:
        """Account for a range that was copied."""
        claim = piece.claim
        if not self.copied.covers(claim.offset, claim.length):
            self.copied.mark(claim.offset, claim.length)
        if not self.failures.failed.is_clean:
            self.failures.solved(claim.offset, claim.length)
        self.done_bytes += claim.length
        self.copied_bytes += moved.copied
        if moved.zeroed:
            self.zeroed_bytes += moved.zeroed
            self.limit.refund(moved.zeroed)

    def _end_failed(self, piece: Piece, error: BaseException) -> None:
        self.dirty.mark(piece.offset, piece.length)
        self._forget([piece])
        if not isinstance(error, BlockIOError):
            self._listener.engine_broken(error)
            return
        if self._listener.piece_failed(piece, error):
            # Aside means: dirty, but not offered to the pump before its time.
            self.dirty.clear(piece.offset, piece.length)

    def _undo(self, piece: Piece) -> None:
        """A range was taken back before it was begun."""
        self.dirty.mark(piece.offset, piece.length)
        self._forget([piece])

    def _forget(self, pieces: Sequence[Piece]) -> None:
        """Ranges are no longer in flight; with the last one of an operation that has ended."""
        self.ranges.release_all([piece.claim for piece in pieces])
        for piece in pieces:
            self._claimed -= piece.claim.length
            operation = piece.operation
            operation.pieces.remove(piece)
            if not operation.pieces:
                self._in_flight.remove(operation)
                taken_ns = time.monotonic_ns() - operation.started_ns
                self.latency[latency_bucket(taken_ns)] += 1

    # Timers.

    def _arm_timer(self) -> None:
        """See to it that the pump runs again when time alone allows more."""
        if self._stall is Stall.THROTTLED:
            self._wake_in(self.limit.delay_ns() / _SECOND_NS)
        elif self._stall is Stall.RESTING:
            self._wake_in(REST_S)
        if self.failures.deferred and not self._suspended:
            due_ns = self.failures.next_due_ns() or 0
            self._wake_in((due_ns - time.monotonic_ns()) / _SECOND_NS)

    def _wake_in(self, delay_s: float) -> None:
        delay_s = min(max(delay_s, 0.001), MAX_TIMER_S)
        due = self._loop.time() + delay_s
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for chunk in self.failures.take_due():
            self.dirty.mark(chunk, 1)
        self.pump()
        self._listener.engine_changed()
