"""The speed limit: smooth, changeable while it runs, and nothing to do with sleeping.

Work is charged when it is issued. The next piece may start when the time that the charged bytes
take at the limit has passed. Unused time is kept for ``CREDIT_NS`` only, so that a late wake-up
does not lower the average and a rest does not turn into a burst: in any 100 ms no more than the
limit's share for 100 ms + ``CREDIT_NS`` and one piece is issued.
"""

import time
from collections.abc import Callable

CREDIT_NS = 25_000_000
"""A quarter of the 100 ms in which smoothness is judged; timers are late by less."""

PIECE_NS = 10_000_000
"""Pieces are kept to what the limit allows in this time, where granularity permits."""

_SECOND_NS = 1_000_000_000


class RateLimit:
    """A limit in bytes per second; 0 is unlimited. Belongs to one thread."""

    def __init__(self, speed: int = 0, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._speed = speed
        self._next_ns = clock_ns()

    @property
    def speed(self) -> int:
        """The limit in bytes per second. Setting it forgives what the old limit still demanded."""
        return self._speed

    @speed.setter
    def speed(self, speed: int) -> None:
        self._speed = speed
        self._next_ns = min(self._next_ns, self._clock_ns())

    @property
    def piece(self) -> int:
        """Longest piece in bytes that keeps the limit smooth, or 0 for any length."""
        return max(self._speed * PIECE_NS // _SECOND_NS, 1) if self._speed else 0

    def charge(self, length: int) -> None:
        """Account for ``length`` bytes that are issued now."""
        if self._speed:
            start = max(self._next_ns, self._clock_ns() - CREDIT_NS)
            self._next_ns = start + length * _SECOND_NS // self._speed

    def refund(self, length: int) -> None:
        """Take back a charge for bytes that turned out to need no transfer."""
        if self._speed and length:
            floor = self._clock_ns() - CREDIT_NS
            self._next_ns = max(self._next_ns - length * _SECOND_NS // self._speed, floor)

    def delay_ns(self) -> int:
        """Return how long the next piece must wait, in nanoseconds; 0 when it may start."""
        return max(self._next_ns - self._clock_ns(), 0) if self._speed else 0
