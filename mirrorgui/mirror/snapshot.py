"""Frozen looks at a job from outside. Counters are monotonic totals: readers differentiate."""

import enum
from dataclasses import dataclass, field

from mirrorgui.mirror.options import CopyMode, SyncMode
from mirrorgui.mirror.states import JobStatus


class Phase(enum.Enum):
    """What a job is busy with, finer than its status and in words for people."""

    PREPARING = "preparing"
    SCANNING = "scanning"
    """Finding out what is allocated; clearing what an existing target must not keep."""
    COPYING = "copying"
    FLUSHING = "flushing"
    """Waiting for the target's stable storage."""
    IN_SYNC = "in-sync"
    SWITCHING = "switching"
    """The guest is held for a moment: the last writes, the last flush, the pivot."""
    ENDING = "ending"
    OVER = "over"


class Outcome(enum.Enum):
    """How a job ended and what its target is worth."""

    SWITCHED = "switched"
    """Completed: the guest uses the target now."""
    FINISHED = "finished"
    """Finished without switching: the target is a copy as of that moment."""
    CANCELLED = "cancelled"
    """The target is incomplete and not usable (or, after READY, not guaranteed)."""
    FAILED = "failed"
    """The target is not usable."""


class OperationKind(enum.Enum):
    """Who moves a range."""

    COPY = "copy"
    GUEST = "guest"
    """A guest's write in write-blocking mode."""


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation in flight.

    Attributes:
        offset: first byte.
        length: bytes moved; less than the distance to the last one when ``ranges`` are several.
        started_ns: monotonic clock at which it was claimed.
        kind: who moves it.
        ranges: its ranges as (offset, length), by offset. Scattered chunks are moved together.
    """

    offset: int
    length: int
    started_ns: int
    kind: OperationKind = OperationKind.COPY
    ranges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.ranges:
            object.__setattr__(self, "ranges", ((self.offset, self.length),))


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """A place that failed, repeated failures counted together.

    Attributes:
        offset, length: the range of the failed request, in bytes.
        operation: ``read`` or ``write`` (a failed flush is a write with length 0).
        errno: the system's number.
        message: the system's text.
        action: the policy's answer: ``report``, ``ignore`` or ``stop``.
        tries: how often it failed.
        first_ns, last_ns: wall clock, nanoseconds since 1970.
        solved: a later try succeeded.
    """

    offset: int
    length: int
    operation: str
    errno: int
    message: str
    action: str
    tries: int
    first_ns: int
    last_ns: int
    solved: bool = False


LATENCY_BUCKETS = 64
"""Bucket i counts requests of [2^(i/2), 2^((i+1)/2)) microseconds; the first takes all below."""


@dataclass(frozen=True, slots=True)
class GuestStatistics:
    """What guests did through the drive since it was opened: monotonic totals.

    Attributes:
        reads, writes, flushes: finished requests (zeroes and discards count as writes).
        bytes_read, bytes_written: their bytes.
        failed: requests that ended in an error.
        in_flight: requests inside at this moment.
        latency: finished requests by duration, ``LATENCY_BUCKETS`` counts.
    """

    reads: int = 0
    writes: int = 0
    flushes: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    failed: int = 0
    in_flight: int = 0
    latency: tuple[int, ...] = (0,) * LATENCY_BUCKETS


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job at one moment, taken on its event loop between two steps.

    Attributes:
        job_id: its name.
        status, phase, outcome: where it is; ``outcome`` is None until it has ended.
        sync, copy_mode: as asked, the copy mode as it is now.
        size: length of the image in bytes.
        granularity: bytes per chunk.
        chunks: number of chunks, the last may be shorter than granularity.
        buf_size: bytes that may be claimed at once.
        speed: limit in bytes per second, 0 is unlimited.
        offset: bytes done since the start, never smaller than before (QEMU's ``offset``).
        length: ``offset`` and what is left; grows with guest writes (QEMU's ``len``).
        dirty_bytes: bytes still to copy, operations in flight not counted.
        in_flight_bytes: bytes in operations in flight.
        dirtied_bytes: total of bytes that guests made dirty since the start.
        copied_bytes: total of bytes read from the source and written to the target.
        zeroed_bytes: total of bytes made zero on the target, or known to be zero there already.
        scan_done, scan_total: progress of the scanning phase in bytes.
        operations: those in flight.
        paused: a person or an error stopped it.
        pause_requested: stopping, operations in flight are waited for.
        paused_by_error: an error policy stopped it; the last record of ``errors`` says which.
        complete_requested, soft_cancel_requested: how it has been told to end.
        io_status: ``ok``, ``failed`` or ``nospace``.
        ready: READY was announced.
        actively_synced: write-blocking, clean and idle: every answered write is on the target.
        throttled: the speed limit is what holds it back.
        error: why it failed, or None.
        complete_refused: why it was not completed when that was asked for last, or None; it is
            READY still, and can be asked again.
        errors: places that failed, the newest last, at most ``MAX_ERROR_RECORDS``.
        error_count: failures ever.
        errors_lost: records dropped to keep ``errors`` bounded.
        guest: totals of the drive.
        copy_latency: finished copy operations by duration, ``LATENCY_BUCKETS`` counts.
        generation: changes whenever the map may have changed.
        time_ns: monotonic clock.
        started_ns: monotonic clock at which copying began, 0 before.
        paused_ns: total time spent paused since then.
        ready_wall_ns, ended_wall_ns: wall clock, or 0.
    """

    job_id: str
    status: JobStatus
    phase: Phase
    sync: SyncMode
    copy_mode: CopyMode
    size: int
    granularity: int
    chunks: int
    buf_size: int
    speed: int
    offset: int = 0
    length: int = 0
    dirty_bytes: int = 0
    in_flight_bytes: int = 0
    dirtied_bytes: int = 0
    copied_bytes: int = 0
    zeroed_bytes: int = 0
    scan_done: int = 0
    scan_total: int = 0
    operations: tuple[OperationView, ...] = ()
    paused: bool = False
    pause_requested: bool = False
    paused_by_error: bool = False
    complete_requested: bool = False
    soft_cancel_requested: bool = False
    io_status: str = "ok"
    ready: bool = False
    actively_synced: bool = False
    throttled: bool = False
    error: str | None = None
    outcome: Outcome | None = None
    errors: tuple[ErrorRecord, ...] = ()
    error_count: int = 0
    errors_lost: int = 0
    guest: GuestStatistics = field(default_factory=GuestStatistics)
    copy_latency: tuple[int, ...] = (0,) * LATENCY_BUCKETS
    generation: int = 0
    time_ns: int = 0
    started_ns: int = 0
    paused_ns: int = 0
    ready_wall_ns: int = 0
    ended_wall_ns: int = 0
    complete_refused: str | None = None

    @property
    def remaining(self) -> int:
        """Bytes left: dirty and in flight."""
        return self.length - self.offset

    @property
    def fraction(self) -> float:
        """Progress from 0.0 to 1.0; may go back when a guest writes. 1.0 for an empty image."""
        return self.offset / self.length if self.length else (1.0 if self.ready else 0.0)


MAX_ERROR_RECORDS = 1000
"""Places kept in the error list; a dying disk has more than anybody reads."""


def latency_bucket(duration_ns: int) -> int:
    """Return the histogram bucket of a duration.

    Two buckets for each power of two of microseconds: precise to 41 %, and a table of 64 spans from
    a microsecond to an hour.
    """
    doubled = (duration_ns // 1000) ** 2
    return min(max(doubled.bit_length() - 1, 0), LATENCY_BUCKETS - 1)


def latency_percentile(counts: tuple[int, ...], fraction: float) -> float:
    """Return the duration in seconds below which ``fraction`` of the counted requests ended.

    The upper edge of the bucket is given; 0.0 when nothing was counted.
    """
    total = sum(counts)
    if not total:
        return 0.0
    wanted, seen = fraction * total, 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return float(2 ** ((bucket + 1) / 2)) / 1e6
    return float(2 ** (LATENCY_BUCKETS / 2)) / 1e6
