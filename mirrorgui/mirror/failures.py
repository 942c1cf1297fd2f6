"""Places that failed: their records for people, and when to try them again.

A place that failed under the ``ignore`` policy is tried again after a pause that doubles, chunk by
chunk, so that a bad megabyte does not hold back its good chunks and a dead target is not asked
thousands of times a second.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.policy import Action
from mirrorgui.mirror.snapshot import MAX_ERROR_RECORDS, ErrorRecord

FIRST_RETRY_NS = 100_000_000
LAST_RETRY_NS = 10_000_000_000
"""Pauses before a failed chunk is tried again: 0.1 s, doubled up to 10 s."""

MAX_DEFERRED = 4096
"""More failing chunks than this at once are no bad spots but a dead image: ``ignore`` gives up."""


_FLUSH = -1
"""Stands for the offset of a failed flush, which has none."""


class Failures:
    """The failed places of one job. Belongs to the event loop's thread.

    Attributes:
        failed: chunks whose last try failed.
        count: failures ever.
        lost: records dropped to keep the list bounded.
    """

    def __init__(
        self, size: int, granularity: int, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.failed = DirtyBitmap(size, granularity)
        self.count = 0
        self.lost = 0
        self._size = size
        self._granularity = granularity
        self._clock_ns = clock_ns
        self._records: OrderedDict[tuple[str, int], ErrorRecord] = OrderedDict()
        self._deferred: dict[int, int] = {}  # chunk -> when it is due
        self._tries: dict[int, int] = {}
        self._frozen: tuple[ErrorRecord, ...] | None = ()

    def note(self, error: BlockIOError, offset: int, length: int, action: Action) -> ErrorRecord:
        """Record a failure of the range; returns its record, with repeated failures counted."""
        self.count += 1
        if length:
            self.failed.mark(offset, length)
        operation = "read" if error.is_read else "write"
        now = time.time_ns()
        key = (operation, offset if length else _FLUSH)
        known = self._records.pop(key, None)
        record = ErrorRecord(
            offset=offset,
            length=length,
            operation=operation,
            errno=error.errno,
            message=error.strerror,
            action=action.value,
            tries=known.tries + 1 if known else 1,
            first_ns=known.first_ns if known else now,
            last_ns=now,
        )
        self._records[key] = record
        self._frozen = None
        if len(self._records) > MAX_ERROR_RECORDS:
            self._records.popitem(last=False)
            self.lost += 1
        return record

    def solved(self, offset: int, length: int) -> None:
        """A range was copied: its chunks have not failed any more."""
        if not self.failed.touches(offset, length):
            return
        self.failed.clear(offset, length)
        end = offset + length
        for chunk in range(offset, end, self._granularity):
            self._tries.pop(chunk, None)
            self._deferred.pop(chunk, None)  # a guest wrote there, so it was tried early
        for key, record in self._records.items():
            inside = offset < record.offset + record.length and record.offset < end
            if inside and not self.failed.touches(record.offset, record.length):
                self._records[key] = replace(record, solved=True)
                self._frozen = None

    def flush_solved(self) -> None:
        """A flush succeeded: earlier failed ones are solved."""
        for key, record in self._records.items():
            if not record.length and not record.solved:
                self._records[key] = replace(record, solved=True)
                self._frozen = None

    # What is tried again later. A deferred chunk is not in the dirty bitmap meanwhile.

    @property
    def deferred(self) -> int:
        """Number of chunks that wait for their next try."""
        return len(self._deferred)

    @property
    def deferred_bytes(self) -> int:
        """Bytes in those chunks, the last chunk of the image counted as long as it is."""
        last = (self._size - 1) // self._granularity * self._granularity
        slack = last + self._granularity - self._size if last in self._deferred else 0
        return len(self._deferred) * self._granularity - slack

    def defer(self, offset: int, length: int) -> bool:
        """Put the chunks of a range aside for a while; False when there are too many."""
        now = self._clock_ns()
        for chunk in range(offset, offset + length, self._granularity):
            tries = self._tries.get(chunk, 0)
            self._tries[chunk] = tries + 1
            pause = min(FIRST_RETRY_NS << min(tries, 10), LAST_RETRY_NS)
            self._deferred[chunk] = now + pause
        return len(self._deferred) <= MAX_DEFERRED

    def next_due_ns(self) -> int | None:
        """Return when the next deferred chunk is due (the job's clock), or None."""
        return min(self._deferred.values(), default=None)

    def take_due(self, everything: bool = False) -> list[int]:
        """Remove and return the offsets of the deferred chunks that are due."""
        now = self._clock_ns()
        due = [chunk for chunk, due_ns in self._deferred.items() if everything or due_ns <= now]
        for chunk in due:
            del self._deferred[chunk]
        return due

    def must_split(self, offset: int) -> bool:
        """Say whether the chunk at ``offset`` has failed and is to be tried alone."""
        return offset in self.failed

    def records(self) -> tuple[ErrorRecord, ...]:
        """Return the places that failed, the newest last."""
        if self._frozen is None:
            self._frozen = tuple(self._records.values())
        return self._frozen
