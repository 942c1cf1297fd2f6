"""What happened, in order: a bounded log of events with sequence numbers.

Events have QEMU's names and fields (qapi/block-core.json, qapi/job.json). There is no event for a
chunk: chunks live in snapshots.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

logger = logging.getLogger(__name__)

MAX_EVENTS = 4096
"""Events kept; a reader that comes later than that is told how many it lost."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event.

    Attributes:
        sequence: 1, 2, 3, ... without gaps within one log.
        name: ``JOB_STATUS_CHANGE``, ``BLOCK_JOB_READY``, ``BLOCK_JOB_ERROR``, ...
        data: its fields, read-only, as QMP has them.
        time_ns: wall clock, nanoseconds since 1970.
    """

    sequence: int
    name: str
    data: Mapping[str, Any]
    time_ns: int

    def as_qmp(self) -> dict[str, Any]:
        """Return the event as a QMP message, ready for JSON."""
        seconds, rest = divmod(self.time_ns, 1_000_000_000)
        return {
            "event": self.name,
            "data": dict(self.data),
            "timestamp": {"seconds": seconds, "microseconds": rest // 1000},
        }


class EventLog:
    """A bounded log; belongs to the event loop's thread.

    A listener that raises is removed and logged: an observer must never hurt the job.
    """

    def __init__(self, capacity: int = MAX_EVENTS) -> None:
        self._events: deque[JobEvent] = deque(maxlen=capacity)
        self._sequence = 0
        self._listeners: list[Callable[[JobEvent], None]] = []

    @property
    def last_sequence(self) -> int:
        """Number of events ever emitted."""
        return self._sequence

    def emit(self, name: str, **data: Any) -> JobEvent:  # noqa: ANN401 - QMP fields of any kind
        """Add an event and tell the listeners. Underscores in field names become hyphens."""
        self._sequence += 1
        fields = {key.replace("_", "-"): value for key, value in data.items()}
        event = JobEvent(self._sequence, name, MappingProxyType(fields), time.time_ns())
        logger.debug("event name=%s data=%s", name, fields)
        self._add(event)
        return event

    def pass_on(self, event: JobEvent) -> None:
        """Add an event of another log, under a number of this one."""
        self._sequence += 1
        self._add(replace(event, sequence=self._sequence))

    def _add(self, event: JobEvent) -> None:
        self._events.append(event)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("event listener removed: it raised")
                self._listeners.remove(listener)

    def since(self, sequence: int) -> tuple[tuple[JobEvent, ...], int]:
        """Return the events behind ``sequence`` that are still kept, and how many were lost."""
        found = tuple(event for event in self._events if event.sequence > sequence)
        oldest = self._sequence - len(self._events) + 1
        return found, max(0, oldest - sequence - 1)

    def listen(self, listener: Callable[[JobEvent], None]) -> Callable[[], None]:
        """Call ``listener`` for every event from now on; returns a function that ends it."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop
