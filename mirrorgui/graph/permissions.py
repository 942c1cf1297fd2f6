"""What users of a node need of it and what they let others do, by QEMU's rules.

Every user of a node (a node above, an export, a job) needs some permissions and shares some with
all other users. A node passes on to its children what its own users need and share, by the part
that the child has for it. Pure values; who uses what is in ``nodes``.
"""

import enum
from dataclasses import dataclass


class Permission(enum.Flag):
    """What can be done with a node."""

    NONE = 0
    CONSISTENT_READ = 1
    """Read what was written, as a whole."""
    WRITE = 2
    """Change what others read."""
    WRITE_UNCHANGED = 4
    """Write what is there already."""
    RESIZE = 8

    @property
    def text(self) -> str:
        """QEMU's words, such as ``consistent read, write``."""
        return ", ".join(word for member, word in _WORDS.items() if member in self)


_WORDS = {
    Permission.CONSISTENT_READ: "consistent read",
    Permission.WRITE: "write",
    Permission.WRITE_UNCHANGED: "write unchanged",
    Permission.RESIZE: "resize",
}

ALL = Permission.CONSISTENT_READ | Permission.WRITE | Permission.WRITE_UNCHANGED | Permission.RESIZE
_CHANGING = Permission.WRITE | Permission.RESIZE
_READING = Permission.CONSISTENT_READ | Permission.WRITE_UNCHANGED


@dataclass(frozen=True, slots=True)
class Access:
    """What one user needs of a node, and what it lets the others do."""

    need: Permission = Permission.NONE
    share: Permission = ALL

    def joined(self, other: "Access") -> "Access":
        """Return what both of them together need and share."""
        return Access(self.need | other.need, self.share & other.share)


def of_export(*, writable: bool) -> Access:
    """An export: everything but the length may change under its clients."""
    need = Permission.CONSISTENT_READ | (Permission.WRITE if writable else Permission.NONE)
    return Access(need, ALL & ~Permission.RESIZE)


OF_MIRROR = Access(Permission.CONSISTENT_READ, ALL & ~Permission.RESIZE)
"""A mirror job, of the filter above its source."""

OF_MIRROR_SOURCE = Access(Permission.NONE, ALL & ~Permission.RESIZE)
OF_MIRROR_TARGET = Access(Permission.WRITE, Permission.WRITE_UNCHANGED)
"""Nobody else may read or write a copy that is not complete."""


class Part(enum.Enum):
    """What a child is to the node above."""

    FILTERED = "filtered"
    """The node above shows it as it is."""
    STORAGE = "storage"
    """It holds the guest's bytes of the node above, and nothing else."""
    FORMAT = "format"
    """It holds a format's structures."""
    BACKING = "backing"
    """It holds what the node above leaves unallocated."""

    def pass_on(self, above: Access, *, writable: bool) -> Access:
        """Return what a node's child is needed and shared for.

        Args:
            above: what all users of the node need and share.
            writable: the node can be written, whether anybody does or not.
        """
        if self is Part.FILTERED:
            return above
        if self is Part.STORAGE:
            return Access(above.need, above.share & ~Permission.RESIZE)
        if self is Part.FORMAT:
            need = above.need | Permission.CONSISTENT_READ
            need |= _CHANGING if writable else Permission.NONE
            return Access(need, above.share & ~_CHANGING)
        share = _CHANGING if Permission.WRITE in above.share else Permission.NONE
        return Access(above.need & Permission.CONSISTENT_READ, share | _READING)


def by_names(names: list[str]) -> Permission:
    """Return the permissions that QMP names, such as ``consistent-read``."""
    found = Permission.NONE
    for name in names:
        found |= Permission[name.replace("-", "_").upper()]
    return found
