"""Scales of the charts: round ceilings that do not jump, ticks, and round times. Free of Qt."""

import math
import time

from mirrorgui.units import KiB

SHRINK_AFTER_S = 30.0
"""A smaller maximum must have lasted this long before the scale follows: no jumping."""

_BINARY_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def nice_ceiling(value: float, *, binary: bool) -> float:
    """Return the smallest round number that is not below ``value``: 1, 2 or 5 times a power of ten.

    Args:
        value: at least 0.
        binary: of a unit of 1024: 500 MiB is followed by 1000 MiB and 2 GiB.
    """
    if value <= 0:
        return 1.0
    if binary:
        unit = 1.0
        while value > 1000 * unit:
            unit *= KiB
        return next(step * unit for step in _BINARY_STEPS if value <= step * unit * (1 + 1e-9))
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))


def ticks_below(ceiling: float) -> list[float]:
    """Return four or five round places from 0 to a nice ceiling."""
    mantissa = ceiling / 10.0 ** math.floor(math.log10(ceiling)) if ceiling >= 1 else 1.0
    parts = 4 if math.isclose(mantissa, 2.0, rel_tol=0.05) else 5
    return [ceiling * part / parts for part in range(parts + 1)]


class SteadyCeiling:
    """The top of a y axis: grows at once, shrinks only after a while."""

    def __init__(self, lowest: float, *, binary: bool) -> None:
        self._lowest = lowest
        self._binary = binary
        self._value = nice_ceiling(lowest, binary=binary)
        self._smaller_since_s: float | None = None

    @property
    def value(self) -> float:
        """The top as it is now."""
        return self._value

    def follow(self, largest: float, now_s: float) -> float:
        """Take the largest visible value in and return the top to use."""
        wanted = nice_ceiling(max(largest, self._lowest), binary=self._binary)
        if wanted >= self._value:
            self._value, self._smaller_since_s = wanted, None
        elif self._smaller_since_s is None:
            self._smaller_since_s = now_s
        elif now_s - self._smaller_since_s >= SHRINK_AFTER_S:
            self._value, self._smaller_since_s = wanted, None
        return self._value


TIME_STEPS_S = (
    5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600,
    86400, 2 * 86400, 7 * 86400,
)  # fmt: skip


def time_step(span_s: float, most: int) -> int:
    """Return a round distance of time marks such that at most ``most`` of them are in the span."""
    for step in TIME_STEPS_S:
        if span_s / step <= most:
            return step
    return TIME_STEPS_S[-1]


def time_marks(begin_s: float, end_s: float, step: int) -> list[float]:
    """Return the round local times in a span, in seconds since 1970."""
    shift = time.localtime(end_s).tm_gmtoff
    first = math.ceil((begin_s + shift) / step) * step - shift
    count = max(math.floor((end_s - first) / step) + 1, 0)
    return [float(first + number * step) for number in range(count)]


def time_text(wall_s: float, step: int) -> str:
    """Write a time mark as short as its distance to the next one allows."""
    then = time.localtime(wall_s)
    if step < 60:
        return time.strftime("%H:%M:%S", then)
    if step < 86400:
        return time.strftime("%H:%M", then)
    return time.strftime("%d %b", then)
