"""Which operation is shown in which slot, and what a slot says. Free of Qt."""

import enum
from dataclasses import dataclass

from mirrorgui.mirror.options import MAX_IN_FLIGHT, operation_cap
from mirrorgui.mirror.snapshot import JobSnapshot, OperationKind, OperationView
from mirrorgui.ui.heatmap.texts import hex_range, place
from mirrorgui.ui.i18n import tr
from mirrorgui.units import format_size

SLOW_S = 1.0
HUNG_S = 5.0
"""A slow disk answers within a second; what takes five is probably hung."""


class Pace(enum.Enum):
    """How long an operation has been under way."""

    GOOD = "good"
    SLOW = "slow"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class Slot:
    """An operation as shown.

    Attributes:
        offset, length: bytes.
        age_s: seconds since it began.
        share: its length, 1.0 is the longest that operations get.
        guest: a guest's write (write-blocking mode).
    """

    offset: int
    length: int
    age_s: float
    share: float
    guest: bool

    @property
    def pace(self) -> Pace:
        """Whether its age gives reason to worry."""
        if self.age_s > HUNG_S:
            return Pace.HUNG
        return Pace.SLOW if self.age_s > SLOW_S else Pace.GOOD

    @property
    def age_text(self) -> str:
        """The age: ``12 ms``, ``1.4 s``, ``waiting 7 s``."""
        if self.pace is Pace.HUNG:
            return tr("waiting {n} s", n=int(self.age_s))
        if self.pace is Pace.SLOW:
            return tr("{n} s", n=f"{self.age_s:.1f}")
        return tr("{n} ms", n=int(self.age_s * 1000))

    @property
    def details(self) -> str:
        """Everything about it, for tooltips and people who cannot see the slots."""
        who = tr("client's write") if self.guest else tr("copy")
        return tr(
            "{who}: {offset} + {length} ({hex}), for {age}",
            who=who,
            offset=place(self.offset),
            length=format_size(self.length),
            hex=hex_range(self.offset, self.length),
            age=self.age_text,
        )


_Key = tuple[int, int, int]


class SlotBoard:
    """Gives each operation a slot that it keeps until it ends, so that the eye can follow it.

    Attributes:
        slots: what each slot shows, None when it is free.
        more: operations for which no slot is left.
        cap: the longest operation in bytes.
    """

    def __init__(self) -> None:
        self.slots: list[Slot | None] = [None] * MAX_IN_FLIGHT
        self.more = 0
        self.cap = 0
        self.count = 0
        self._keys: list[_Key | None] = [None] * MAX_IN_FLIGHT

    def update(self, snapshot: JobSnapshot) -> None:
        """Take the operations of a snapshot in."""
        self.cap = operation_cap(snapshot.buf_size, snapshot.granularity)
        current = {
            (each.offset, each.length, each.started_ns): each for each in snapshot.operations
        }
        self._keys = [key if key in current else None for key in self._keys]
        placed = set(self._keys)
        waiting = [key for key in current if key not in placed]
        for number, key in enumerate(self._keys):
            if key is None and waiting:
                self._keys[number] = waiting.pop(0)
        self.more, self.count = len(waiting), len(current)
        self.slots = [
            self._slot(current[key], snapshot.time_ns) if key is not None else None
            for key in self._keys
        ]

    def clear(self) -> None:
        """Show no operation."""
        self.slots, self._keys = [None] * MAX_IN_FLIGHT, [None] * MAX_IN_FLIGHT
        self.more = self.count = 0

    def _slot(self, operation: OperationView, now_ns: int) -> Slot:
        return Slot(
            operation.offset,
            operation.length,
            max(now_ns - operation.started_ns, 0) / 1e9,
            min(operation.length / self.cap, 1.0) if self.cap else 1.0,
            operation.kind is OperationKind.GUEST,
        )

    @property
    def count_text(self) -> str:
        """How many there are, of how many: ``16 / 16``."""
        return f"{self.count} / {MAX_IN_FLIGHT}"

    @property
    def cap_text(self) -> str:
        """How long they may be: ``up to 1.0 MiB each``."""
        return tr("up to {size} each", size=format_size(self.cap)) if self.cap else ""

    @property
    def description(self) -> str:
        """All of it in words, the oldest first."""
        busy = sorted((each for each in self.slots if each), key=lambda each: -each.age_s)
        head = tr("In flight {count}", count=self.count_text)
        return "; ".join([head, *(each.details for each in busy)])
