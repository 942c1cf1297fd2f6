"""How fast, and how long still: the one source of rates for the list, the header and the charts.

Free of Qt. A ``RateTracker`` is fed with snapshots and differentiates their totals. The clock of
the copy starts when copying starts and stands still while the job is paused; guests go on
meanwhile, so their rates are taken by the wall.
"""

import enum
from collections import deque
from dataclasses import dataclass

from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.snapshot import JobSnapshot, Phase
from mirrorgui.mirror.states import WORKING

SECOND = 1_000_000_000

RATE_WINDOW_NS = 5 * SECOND
"""Short enough to follow a change, long enough that a number can be read."""

TREND_WINDOW_NS = 30 * SECOND
"""Remaining time and convergence: one burst of a guest must not turn them around."""

MIN_SPAN_NS = SECOND // 2
"""Below this, one batch of copies more or less would be the whole rate."""

ESTIMATE_AFTER_NS = 5 * SECOND
MIN_FRACTION = 0.01
"""Before this much of the work is done nothing is foretold, unless the trend window is full."""

RECOVERED_MARGIN = 0.05
"""Share of its own rate that the copy must be ahead by before "will not finish" is taken back."""

_STEP_NS = SECOND // 10
"""Samples nearer than this replace each other: it bounds the windows whatever the frame rate."""


class EtaState(enum.Enum):
    """What can be said about the end of the copy."""

    NOT_STARTED = "not-started"
    ESTIMATING = "estimating"
    ETA = "eta"
    WILL_NOT_FINISH = "will-not-finish"
    """Guests make chunks dirty at least as fast as the job copies, for 30 s already."""
    PAUSED = "paused"
    IN_SYNC = "in-sync"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates at one moment, in bytes per second, and what follows from them.

    Attributes:
        current: copying in the last 5 s; 0 while paused.
        average: copying since it began, pauses left out.
        peak: the largest ``current`` so far.
        guest_written, guest_read: guests in the last 5 s.
        dirtied: bytes that guests made dirty, in the last 5 s of the wall's clock.
        trend_copied, trend_dirtied: both over the last 30 s of copying.
        state: what can be said about the end.
        eta_s: seconds until everything is copied, with ``EtaState.ETA`` only.
        remaining: bytes left.
        limit: the speed limit, 0 is none.
        limited: the limit is what holds the job back.
        active_ns: how long it has been copying, pauses left out.
        ready: the job has announced READY.
        write_blocking: guests' writes wait for the target.
    """

    current: float = 0.0
    average: float = 0.0
    peak: float = 0.0
    guest_written: float = 0.0
    guest_read: float = 0.0
    dirtied: float = 0.0
    trend_copied: float = 0.0
    trend_dirtied: float = 0.0
    state: EtaState = EtaState.NOT_STARTED
    eta_s: float | None = None
    remaining: int = 0
    limit: int = 0
    limited: bool = False
    active_ns: int = 0
    ready: bool = False
    write_blocking: bool = False

    @property
    def converging(self) -> bool:
        """False when guests have been faster than the job for a while."""
        return self.state is not EtaState.WILL_NOT_FINISH


class _Window:
    """Totals of the last while, by a clock that never goes back."""

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self._samples: deque[tuple[int, tuple[int, ...]]] = deque()

    def add(self, clock_ns: int, totals: tuple[int, ...]) -> None:
        samples = self._samples
        if len(samples) > 1 and clock_ns - samples[-2][0] < _STEP_NS:
            samples.pop()
        samples.append((clock_ns, totals))
        # One sample at or behind the window's edge stays: it is where the differences start.
        while len(samples) > 2 and clock_ns - samples[1][0] >= self._span_ns:
            samples.popleft()

    @property
    def span_ns(self) -> int:
        return self._samples[-1][0] - self._samples[0][0] if self._samples else 0

    def rates(self) -> tuple[float, ...]:
        """Return the growth of each total in units per second; zeroes while it is too early."""
        if not self._samples:
            return ()
        (first_ns, first), (last_ns, last) = self._samples[0], self._samples[-1]
        if last_ns - first_ns < MIN_SPAN_NS:
            return (0.0,) * len(last)
        seconds = (last_ns - first_ns) / SECOND
        return tuple((new - old) / seconds for new, old in zip(last, first, strict=True))


class RateTracker:
    """Turns snapshots of one job into rates.

    Snapshots may come at any pace; ten a second are plenty.
    """

    def __init__(self) -> None:
        self._copy = _Window(RATE_WINDOW_NS)
        self._trend = _Window(TREND_WINDOW_NS)
        self._guest = _Window(RATE_WINDOW_NS)
        self._active_ns = 0
        self._first_offset: int | None = None
        self._peak = 0.0
        self._lags = False
        self.latest = Rates()

    def add(self, snapshot: JobSnapshot) -> Rates:
        """Take a snapshot in and return the rates as they are now."""
        guest = snapshot.guest
        self._guest.add(
            snapshot.time_ns, (guest.bytes_written, guest.bytes_read, snapshot.dirtied_bytes)
        )
        if snapshot.started_ns:
            self._add_copy(snapshot)
        written, read, dirtied = self._guest.rates()
        moving = not snapshot.paused and snapshot.status in WORKING
        current = self._copy.rates()[0] if snapshot.started_ns and moving else 0.0
        self._peak = max(self._peak, current)
        trend_copied, trend_dirtied = self._trend.rates() or (0.0, 0.0)
        state, eta_s = self._foretell(snapshot, trend_copied, trend_dirtied)
        self.latest = Rates(
            current=current,
            average=self._average(snapshot.offset),
            peak=self._peak,
            guest_written=written,
            guest_read=read,
            dirtied=dirtied,
            trend_copied=trend_copied,
            trend_dirtied=trend_dirtied,
            state=state,
            eta_s=eta_s,
            remaining=snapshot.remaining,
            limit=snapshot.speed,
            limited=snapshot.throttled and bool(snapshot.speed),
            active_ns=self._active_ns,
            ready=snapshot.ready,
            write_blocking=snapshot.copy_mode is CopyMode.WRITE_BLOCKING,
        )
        return self.latest

    def _add_copy(self, snapshot: JobSnapshot) -> None:
        if self._first_offset is None:
            self._first_offset = snapshot.offset
        if not snapshot.paused:
            # A pause that has not ended may be missing in paused_ns: the clock waits for its end.
            active = snapshot.time_ns - snapshot.started_ns - snapshot.paused_ns
            self._active_ns = max(self._active_ns, active)
        self._copy.add(self._active_ns, (snapshot.offset,))
        self._trend.add(self._active_ns, (snapshot.offset, snapshot.dirtied_bytes))

    def _average(self, offset: int) -> float:
        if self._first_offset is None or self._active_ns < MIN_SPAN_NS:
            return 0.0
        return offset / (self._active_ns / SECOND)

    def _foretell(
        self, snapshot: JobSnapshot, copied: float, dirtied: float
    ) -> tuple[EtaState, float | None]:
        if snapshot.status not in WORKING:
            return EtaState.OVER, None
        if snapshot.paused:
            return EtaState.PAUSED, None
        if not snapshot.started_ns or snapshot.phase in (Phase.PREPARING, Phase.SCANNING):
            return EtaState.NOT_STARTED, None
        net = copied - dirtied
        if self._lagging(snapshot, copied, dirtied):
            return EtaState.WILL_NOT_FINISH, None
        if snapshot.ready:
            return EtaState.IN_SYNC, None
        early = self._active_ns < ESTIMATE_AFTER_NS
        little = snapshot.fraction < MIN_FRACTION and self._trend.span_ns < TREND_WINDOW_NS
        if early or little or net <= 0:
            return EtaState.ESTIMATING, None
        return EtaState.ETA, snapshot.remaining / net

    def _lagging(self, snapshot: JobSnapshot, copied: float, dirtied: float) -> bool:
        """Say whether guests have outrun the copy over the whole trend window.

        It ends only when the copy is clearly ahead again, so that the words do not flicker.
        """
        margin = RECOVERED_MARGIN * copied if self._lags else 0.0
        full = self._trend.span_ns >= TREND_WINDOW_NS - _STEP_NS
        outrun = copied - dirtied <= margin and dirtied > 0 and snapshot.remaining > 0
        self._lags = outrun and full
        return self._lags
