"""What the charts remember: rings of samples at three resolutions, and what happened when. No Qt.

Snapshots carry totals; a sample is made of their growth over its step, so it is exact however many
snapshots came in between. A step without any snapshot leaves a gap.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirrorgui.mirror.snapshot import JobSnapshot, latency_percentile
from mirrorgui.ui.i18n import tr
from mirrorgui.units import format_rate

SECOND = 1_000_000_000

RESOLUTIONS = ((1, 3600), (10, 8640), (60, 10080))
"""Seconds per sample, and how many are kept: an hour, a day, a week."""

MAX_POINTS = 600
"""More points than this on a curve are not seen, only paid for."""

MAX_MARKS = 200

FIELDS = (
    "time_s",  # end of the sample, seconds since 1970
    "copy",  # bytes per second, NaN while paused
    "guest",  # bytes per second written by guests
    "limit",  # bytes per second, NaN when unlimited
    "left",  # bytes still to copy
    "guest_p50",  # seconds, NaN when there was no request
    "guest_p99",
    "copy_p99",
)

Samples = NDArray[np.float64]
"""Shape (n,) with a field for each of ``FIELDS``: see ``Ring.dtype``."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened: a labelled line in the charts."""

    time_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Pause:
    """A grey band: paused from ``begin_s`` to ``end_s`` (None: still)."""

    begin_s: float
    end_s: float | None


class Ring:
    """The last ``capacity`` samples; the oldest are overwritten."""

    dtype = np.dtype([(name, np.float64) for name in FIELDS])

    def __init__(self, capacity: int) -> None:
        self._rows: NDArray[Any] = np.zeros(min(capacity, 64), self.dtype)
        self._capacity = capacity
        self._count = 0

    def append(self, values: tuple[float, ...]) -> None:
        """Add a sample: one value for each of ``FIELDS``."""
        if self._count == len(self._rows) < self._capacity:
            grown = np.zeros(min(2 * len(self._rows), self._capacity), self.dtype)
            grown[: self._count] = self._rows
            self._rows = grown
        self._rows[self._count % len(self._rows)] = values
        self._count += 1

    def __len__(self) -> int:
        return min(self._count, len(self._rows))

    def rows(self, since_s: float = -np.inf) -> NDArray[Any]:
        """Return the samples behind a time, oldest first."""
        begin = self._count % len(self._rows)
        ordered = (
            self._rows[: self._count]
            if self._count <= len(self._rows)
            else np.concatenate((self._rows[begin:], self._rows[:begin]))
        )
        return ordered[np.searchsorted(ordered["time_s"], since_s) :]


class _Step:
    """Collects one sample of a resolution."""

    def __init__(self, seconds: int, ring: Ring) -> None:
        self.seconds = seconds
        self.ring = ring
        self._first: JobSnapshot | None = None
        self._began_s = 0.0
        self._paused = False

    def add(self, snapshot: JobSnapshot, wall_s: float) -> None:
        first = self._first
        if first is None or wall_s - self._began_s > 3 * self.seconds:
            if first is not None:
                self._gap(wall_s)
            self._begin(snapshot, wall_s)
            return
        self._paused = self._paused or snapshot.paused
        if wall_s - self._began_s >= self.seconds - 1e-6:
            self.ring.append(sample(first, snapshot, wall_s, paused=self._paused))
            self._begin(snapshot, wall_s)

    def _begin(self, snapshot: JobSnapshot, wall_s: float) -> None:
        self._first, self._began_s, self._paused = snapshot, wall_s, snapshot.paused

    def _gap(self, wall_s: float) -> None:
        nothing = [np.nan] * (len(FIELDS) - 1)
        self.ring.append(((self._began_s + wall_s) / 2, *nothing))


def sample(
    first: JobSnapshot, last: JobSnapshot, wall_s: float, *, paused: bool
) -> tuple[float, ...]:
    """Return the values of one sample from the snapshots at its two ends."""
    seconds = max((last.time_ns - first.time_ns) / SECOND, 1e-9)
    guest = _growth(first.guest.latency, last.guest.latency)
    copy = _growth(first.copy_latency, last.copy_latency)
    return (
        wall_s,
        np.nan if paused or not first.started_ns else (last.offset - first.offset) / seconds,
        (last.guest.bytes_written - first.guest.bytes_written) / seconds,
        float(last.speed) if last.speed else np.nan,
        float(last.remaining),
        _percentile(guest, 0.50),
        _percentile(guest, 0.99),
        _percentile(copy, 0.99),
    )


def _growth(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(after - before for before, after in zip(old, new, strict=True))


def _percentile(counts: tuple[int, ...], fraction: float) -> float:
    return latency_percentile(counts, fraction) if any(counts) else np.nan


class History:
    """Samples, pauses and events of one job.

    Attributes:
        marks: events, oldest first.
        pauses: times during which the job stood still.
        began_s, now_s: wall clock of the first and the latest snapshot, seconds since 1970.
        ready_s: wall clock of READY, or None.
    """

    def __init__(self) -> None:
        self._steps = [_Step(seconds, Ring(count)) for seconds, count in RESOLUTIONS]
        self._last: JobSnapshot | None = None
        self.marks: list[Mark] = []
        self.pauses: list[Pause] = []
        self.began_s = self.now_s = 0.0
        self.ready_s: float | None = None

    def add(self, snapshot: JobSnapshot, wall_s: float) -> None:
        """Take a snapshot in, seen at ``wall_s`` (seconds since 1970)."""
        if self._last is None:
            self.began_s = wall_s
        self.now_s = wall_s
        for step in self._steps:
            step.add(snapshot, wall_s)
        self._note_changes(self._last, snapshot, wall_s)
        self._last = snapshot

    def _note_changes(self, old: JobSnapshot | None, new: JobSnapshot, wall_s: float) -> None:
        paused_before = old is not None and old.paused
        if new.paused and not paused_before:
            self.pauses.append(Pause(wall_s, None))
            self._mark(wall_s, tr("stopped") if new.paused_by_error else tr("paused"))
        elif paused_before and not new.paused:
            self.pauses[-1] = Pause(self.pauses[-1].begin_s, wall_s)
        if old is None:
            return
        if new.speed != old.speed:
            limit = format_rate(new.speed) if new.speed else tr("none")
            self._mark(wall_s, tr("limit {limit}", limit=limit))
        if new.copy_mode is not old.copy_mode:
            self._mark(wall_s, new.copy_mode.value)
        if new.error_count > old.error_count and not new.paused_by_error:
            self._mark(wall_s, tr("error"))
        if new.ready and not old.ready:
            self.ready_s = wall_s
            self._mark(wall_s, tr("READY"))

    def _mark(self, wall_s: float, text: str) -> None:
        if self.marks and self.marks[-1].text == text and wall_s - self.marks[-1].time_s < 10:
            return
        self.marks.append(Mark(wall_s, text))
        del self.marks[:-MAX_MARKS]
        del self.pauses[:-MAX_MARKS]

    def samples(self, span_s: float | None) -> NDArray[Any]:
        """Return at most ``MAX_POINTS`` samples of the last ``span_s`` seconds, None: of all.

        The finest resolution that reaches back far enough is used, its samples merged as needed.
        """
        span = self.now_s - self.began_s if span_s is None else span_s
        for (seconds, count), step in zip(RESOLUTIONS, self._steps, strict=True):
            if span / seconds <= MAX_POINTS or seconds * count >= span > 0:
                found = step.ring.rows(self.now_s - span - seconds)
                if len(found) or seconds == RESOLUTIONS[-1][0]:
                    return thin(found)
        return thin(self._steps[-1].ring.rows(self.now_s - span))


def thin(rows: NDArray[Any]) -> NDArray[Any]:
    """Merge neighbours until there are at most ``MAX_POINTS``.

    Rates are averaged, latencies keep their peaks, amounts and times their last value.
    """
    group = -(-len(rows) // MAX_POINTS)
    if group <= 1:
        return rows
    whole = len(rows) // group * group
    made = np.zeros(whole // group, rows.dtype)
    for name in FIELDS:
        parts = rows[name][len(rows) - whole :].reshape(-1, group)
        made[name] = _merge(name, parts)
    return made


def _merge(name: str, parts: NDArray[np.float64]) -> NDArray[np.float64]:
    if name in ("time_s", "left", "limit"):
        return parts[:, -1]
    known = ~np.isnan(parts)
    counts = known.sum(axis=1)
    filled = np.where(known, parts, 0.0)
    merged = filled.max(axis=1) if "_p" in name else filled.sum(axis=1) / np.maximum(counts, 1)
    result: NDArray[np.float64] = np.where(counts > 0, merged, np.nan)
    return result


def as_csv(rows: NDArray[Any], fields: Iterable[str]) -> str:
    """Write samples as CSV: times in ISO form, bytes, seconds; nothing where nothing is known."""
    names = ["time", *fields]
    lines = [",".join(names)]
    for row in rows:
        moment = np.datetime64(int(row["time_s"] * 1000), "ms")
        values = (row[name] for name in names[1:])
        lines.append(",".join([f"{moment}Z", *("" if np.isnan(v) else f"{v:.9g}" for v in values)]))
    return "\n".join(lines) + "\n"
