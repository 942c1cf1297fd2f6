"""What the engine has in flight, and why it begins nothing more."""

import enum
from dataclasses import dataclass, field

from mirrorgui.mirror.ranges import Claim
from mirrorgui.mirror.snapshot import OperationView


class Stall(enum.Enum):
    """Why no further operation was begun."""

    FULL = "full"
    """The limit of operations or of claimed bytes is reached."""
    THROTTLED = "throttled"
    """The speed limit says: later."""
    CLEAN = "clean"
    """Nothing is dirty."""
    BUSY = "busy"
    """All that is dirty is claimed by somebody."""
    RESTING = "resting"
    """READY, and the last pass has just begun."""
    SUSPENDED = "suspended"
    """Not now."""


@dataclass(eq=False, slots=True)
class Operation:
    """What is claimed, handed over and counted as one: a run, or several scattered ones.

    Attributes:
        pieces: those that have not ended yet.
        started_ns: monotonic clock at which it was claimed.
    """

    started_ns: int
    pieces: list["Piece"] = field(default_factory=list)

    def view(self) -> OperationView:
        """Return it as the window sees it."""
        ranges = tuple(sorted((piece.offset, piece.length) for piece in self.pieces))
        length = sum(length for _, length in ranges)
        return OperationView(ranges[0][0], length, self.started_ns, ranges=ranges)


@dataclass(eq=False, slots=True)
class Piece:
    """One range of an operation: what a copy thread moves at a time.

    Attributes:
        claim: the whole chunks that it stands for.
        operation: what it belongs to.
        span: offset and length of what is copied of them.
    """

    claim: Claim
    operation: Operation
    span: tuple[int, int]

    @property
    def offset(self) -> int:
        """First byte."""
        return self.claim.offset

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.claim.length
