"""Holding guests for the moment in which both images are equal.

A guest that writes all the time may never leave the job an instant without a dirty chunk. So when
what is left can be copied in a short time, newcomers are held at the drive, the rest is copied, and
what needs that instant (announcing READY, the end, the pivot) happens in it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.engine import CopyEngine
from mirrorgui.mirror.record import JobRecord

MAX_HOLD_S = 0.05
"""Guests are held only when the rest takes no longer than this at the present rate."""

GIVE_UP_S = 1.0
"""A hold that takes longer after all (a slow request inside, a slow disk) is given up."""

PAUSE_SHARE = 2
"""Guests work at least this many times as long as they were held before they are held again."""

NEAR_S = 0.25
"""Before READY guests are held only after the rest has been this small for so long: without a
writing guest the job gets there by itself."""

_SAMPLE_S = 0.1
_FORGET = 0.9
"""The rate follows an increase at once and a decrease by a tenth each sample."""


class GuestHold:
    """Holds the guests of one drive for one job. Belongs to the event loop's thread."""

    def __init__(self, record: JobRecord, drive: Drive, engine: CopyEngine) -> None:
        self._record = record
        self._drive = drive
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._guests_out = False
        self._near_since = 0.0
        self._began = 0.0
        self._not_before = 0.0
        self._rate = 0.0
        self._sampled = self._loop.time()
        self._sampled_bytes = 0

    def sample(self) -> None:
        """Look at how fast the copying is; called when operations have ended."""
        now = self._loop.time()
        elapsed = now - self._sampled
        if elapsed < _SAMPLE_S:
            return
        done = self._engine.done_bytes
        self._rate = max((done - self._sampled_bytes) / elapsed, self._rate * _FORGET)
        self._sampled, self._sampled_bytes = now, done

    @property
    def may_begin(self) -> bool:
        """Whether the last hold is long enough ago."""
        return self._loop.time() >= self._not_before

    @property
    def is_possible(self) -> bool:
        """Whether the rest is small enough and the last hold long enough ago."""
        return self.may_begin and self._is_small

    @property
    def is_due(self) -> bool:
        """Whether a hold is possible and the rest has been small for a while already."""
        now = self._loop.time()
        if not self._is_small:
            self._near_since = 0.0
            return False
        self._near_since = self._near_since or now
        return now - self._near_since >= NEAR_S and self.may_begin

    @property
    def _is_small(self) -> bool:
        engine = self._engine
        if engine.failures.deferred:
            return False
        if engine.is_clean:
            return True
        left = engine.dirty_bytes + engine.in_flight_bytes
        return left <= self._rate * MAX_HOLD_S

    def postpone(self, delay_s: float) -> None:
        """Begin no hold for a while."""
        self._not_before = max(self._not_before, self._loop.time() + delay_s)
        self._record.wake_later(delay_s)

    async def empty(self) -> bool:
        """Let no guest in and wait until the last one is out; False when that takes too long.

        The caller must call ``release`` in any case.
        """
        self._number += 1
        number = self._number
        self._guests_out = False
        self._began = self._loop.time()
        give_up = self._alarm()
        self._drive.hold(lambda: self._report_empty(number))
        while not self._guests_out:
            if self._record.forced or self._loop.time() >= give_up:
                return False
            await self._record.news()
        return True

    def release(self) -> None:
        """Let guests in again, for a while at least."""
        self._drive.release()
        self.postpone((self._loop.time() - self._began) * PAUSE_SHARE)

    async def in_sync(self, then: Callable[[], Awaitable[bool]]) -> bool:
        """Hold guests, copy the rest, and return what ``then`` returns; guests go on afterwards.

        ``then`` runs in the instant in which both images are equal. False when that instant could
        not be reached; ``then`` was not called in that case.
        """
        record, engine = self._record, self._engine
        try:
            if not await self.empty():
                return False
            engine.urgent = True
            engine.pump()
            give_up = self._alarm()
            while not engine.is_clean:
                stopped = record.must_abort or record.pause_wanted or engine.failures.deferred
                if stopped or self._loop.time() >= give_up:
                    return False
                await record.news()
            return await then()
        finally:
            engine.urgent = False
            self.release()

    def _alarm(self) -> float:
        """Return the time at which to give up; the task looks again then."""
        self._record.wake_later(GIVE_UP_S)
        return self._loop.time() + GIVE_UP_S

    def _report_empty(self, number: int) -> None:
        self._loop.call_soon_threadsafe(self._on_empty, number)

    def _on_empty(self, number: int) -> None:
        # A report may come late, when its hold was given up and guests are in again.
        if number == self._number:
            self._guests_out = True
            self._record.wake()
