"""Background copying: which chunks next, how many at once, how fast. No life cycle, no policy.

Everything here happens on the event loop's thread, between two awaits: choosing a range, claiming
it, clearing its bits and handing it over is one step, so whoever looks never sees half of it.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.choice import REST_S, Choice
from mirrorgui.mirror.clusters import clusters_of
from mirrorgui.mirror.copy import Copier, Moved, gathers
from mirrorgui.mirror.failures import Failures
from mirrorgui.mirror.operation import Operation, Piece, Stall
from mirrorgui.mirror.options import MAX_IN_FLIGHT, operation_cap
from mirrorgui.mirror.parts import PART, PartBitmap
from mirrorgui.mirror.ranges import Claim, RangeLock
from mirrorgui.mirror.ratelimit import RateLimit
from mirrorgui.mirror.snapshot import LATENCY_BUCKETS, OperationKind, OperationView, latency_bucket
from mirrorgui.mirror.threads import CopyThreads, Done
from mirrorgui.units import align_down

logger = logging.getLogger(__name__)

BATCH = 2
"""Operations handed over at once. One wakes the loop too often; four hold the interpreter's lock
for so long when they are reported that the copy threads wait (8 % with scattered chunks)."""

MAX_RANGES = 16
"""Scattered ranges that one operation gathers, while they fit under its cap: 16 chunks of 64 KiB
cost the loop and the interpreter's lock hardly more than one run of 1 MiB."""

MAX_LOCAL_THREADS = 4
"""More threads than this fight for the interpreter instead of copying."""

MAX_TIMER_S = 0.5
"""Timers are short, so that a cancelled one does not linger on an event loop made of Qt timers."""

_SECOND_NS = 1_000_000_000

R = TypeVar("R")


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
        clusters: those of the target that must be copied whole at first; None where none must.
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
        self._loop = asyncio.get_running_loop()
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
        self.clusters = clusters_of(target, granularity)
        self._choice = Choice(self.dirty, self.ranges, self.clusters, self._loop.time)
        self._cap = max(operation_cap(buf_size, granularity), self._choice.unit)
        self._batch = BATCH
        if source.limits.latency_bound or target.limits.latency_bound:
            self._batch = 1  # waiting together would only make each wait for all
        self._listener = listener
        self._gathers = gathers(source, target)
        self._threads: CopyThreads[list[Piece]] = CopyThreads(
            thread_count(threads, source, target), lambda: self._worker(unmap), self._on_done
        )
        self._in_flight: set[Operation] = set()
        self._claimed = 0
        self._suspended = True
        self._stall = Stall.SUSPENDED
        self._wants_kick = False
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0

    def _worker(self, unmap: bool) -> Callable[[list[Piece]], list[Moved | BlockIOError]]:
        """Return what one copy thread calls for pieces that are handed over together."""
        copier = Copier(self.source, self.target, self.target_data, unmap=unmap)
        return lambda pieces: copier.copy_all([piece.span for piece in pieces])

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
        for pieces in self._threads.recall():
            self._undo(pieces)
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
        batch: list[list[Piece]] = []
        operations = 0
        # Asked for before the bitmap is searched: a guest that marks after the search kicks.
        self._wants_kick = True
        while (operation := self._begin()) is not None:
            if self._gathers:
                batch.append(list(operation.pieces))
            else:
                batch.extend([piece] for piece in operation.pieces)
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
        elif len(self._in_flight) >= MAX_IN_FLIGHT or room < self._choice.unit:
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
        while room >= self._choice.unit and len(operation.pieces) < MAX_RANGES:
            claims = self._choice.claim(
                room,
                MAX_RANGES - len(operation.pieces),
                self.failures,
                resting=self.restful and not self.urgent,
            )
            if isinstance(claims, Stall):
                self._stall = claims
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
        return min(max(align_down(piece, self.granularity), self._choice.unit), self._cap)

    def _launch(self, claims: list[Claim], operation: Operation) -> int:
        """Add claimed ranges to an operation; return their bytes."""
        # Clear before the read: a guest's write from now on marks the chunk again.
        spans = self.dirty.take([(claim.offset, claim.length) for claim in claims])
        for claim, span in zip(claims, spans, strict=True):
            operation.pieces.append(Piece(claim, operation, span))
        length = sum(claim.length for claim in claims)
        self._claimed += length
        if not self.urgent:
            self.limit.charge(sum(length for _, length in spans))
        return length

    # The end of operations.

    def _on_done(self, done: Sequence[Done[list[Piece]]]) -> None:
        copied: list[Piece] = []
        moved: list[Moved] = []
        for each in done:
            if each.error is not None:
                for piece in each.work:
                    self._end_failed(piece, each.error)
            elif each.result is None:
                self._undo(each.work)
            else:
                self._sort_out(each.work, each.result, copied, moved)
        if copied:
            self._count(copied, moved)
            self._forget(copied)
        self.pump()
        self._listener.engine_changed()

    def _sort_out(
        self,
        pieces: list[Piece],
        results: list[Moved | BlockIOError],
        copied: list[Piece],
        moved: list[Moved],
    ) -> None:
        """Add the pieces that were copied to a list, what it was to another; end the others."""
        for piece, result in zip(pieces, results, strict=True):
            if isinstance(result, BlockIOError):
                self._end_failed(piece, result)
            else:
                copied.append(piece)
                moved.append(result)

    def _count(self, pieces: list[Piece], results: list[Moved]) -> None:
        """Account for ranges that were copied."""
        ranges = [(piece.claim.offset, piece.claim.length) for piece in pieces]
        self.copied.mark_ranges(ranges)
        if self.clusters is not None:
            for offset, length in ranges:
                self.clusters.arrived(offset, length)
        if not self.failures.failed.is_clean:
            for offset, length in ranges:
                self.failures.solved(offset, length)
        self.done_bytes += sum(length for _, length in ranges)
        self.copied_bytes += sum(moved.copied for moved in results)
        zeroed = sum(moved.zeroed for moved in results)
        if zeroed:
            self.zeroed_bytes += zeroed
            self.limit.refund(zeroed)

    def _end_failed(self, piece: Piece, error: BaseException) -> None:
        self.dirty.mark(piece.offset, piece.length)
        self._forget([piece])
        if not isinstance(error, BlockIOError):
            self._listener.engine_broken(error)
            return
        if self._listener.piece_failed(piece, error):
            # Aside means: dirty, but not offered to the pump before its time.
            self.dirty.clear(piece.offset, piece.length)

    def _undo(self, pieces: list[Piece]) -> None:
        """Ranges were taken back before they were begun."""
        for piece in pieces:
            self.dirty.mark(piece.offset, piece.length)
        self._forget(pieces)

    def _forget(self, pieces: Sequence[Piece]) -> None:
        """Ranges are no longer in flight; with the last one of an operation that has ended."""
        self.ranges.release_all([piece.claim for piece in pieces])
        self._claimed -= sum(piece.claim.length for piece in pieces)
        gone = set(pieces)
        for operation in {piece.operation for piece in pieces}:
            operation.pieces = [piece for piece in operation.pieces if piece not in gone]
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
