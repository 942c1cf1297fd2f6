"""Locks on image files, the same bytes that QEMU's raw driver locks.

So a running QEMU refuses an image that is open here, and the other way round. For every permission
an opener *takes*, byte ``100 + bit`` is locked; for every one that it does *not share* with
others, byte ``200 + bit``. All are shared (read) locks of the open file description: a conflict is
found by asking whether anybody else holds a byte of the opposite row. Both sides lock first and
ask afterwards, so of two that start at the same time at most one wins.

See QEMU's docs/system/qemu-block-drivers and the constants RAW_LOCK_PERM_BASE and
RAW_LOCK_SHARED_BASE.
"""

import enum
import errno
import struct
import sys
from typing import Final

if sys.platform == "linux":
    import fcntl

    _READ_LOCK: Final = fcntl.F_RDLCK
    _WRITE_LOCK: Final = fcntl.F_WRLCK
    _NO_LOCK: Final = fcntl.F_UNLCK
else:
    _READ_LOCK, _WRITE_LOCK, _NO_LOCK = 0, 1, 2

_PERM_BASE = 100
_SHARED_BASE = 200
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock with 64-bit offsets

_NO_LOCKS = frozenset((errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS))
"""What file systems answer that know no such locks."""


class Permission(enum.IntFlag):
    """What an opener does, or lets others do. The bits are QEMU's BLK_PERM numbers."""

    CONSISTENT_READ = 1
    WRITE = 2
    WRITE_UNCHANGED = 4
    RESIZE = 8

    @property
    def label(self) -> str:
        """QEMU's words for a single permission."""
        return (self.name or "").lower().replace("_", " ")


ALL_PERMISSIONS: Final = Permission(15)
READ_ONLY: Final = (
    Permission.CONSISTENT_READ,
    ALL_PERMISSIONS ^ Permission.WRITE ^ Permission.RESIZE,
)
"""(taken, shared) of a reader: nobody may change the bytes below it."""
READ_WRITE: Final = (READ_ONLY[0] | Permission.WRITE, READ_ONLY[1])
"""(taken, shared) of a writer: others may look on."""
RESIZE: Final = (READ_WRITE[0] | Permission.RESIZE, READ_WRITE[1])
"""(taken, shared) of a writer that also changes the file's length: of an image format."""


class LocksUnavailableError(OSError):
    """The file system or platform has no such locks; nothing is locked."""


class LockConflict(Exception):
    """Somebody else holds, or does not share, what was asked for. Nothing is locked.

    Attributes:
        permission: the first permission in conflict.
        shared: whether the other one *takes* what must not be shared (else: does not share it).
    """

    def __init__(self, permission: Permission, *, shared: bool) -> None:
        self.permission = permission
        self.shared = shared
        super().__init__(f'Failed to get {"shared " if shared else ""}"{permission.label}" lock')

    @property
    def writer(self) -> bool:
        """Whether the other one has the image open for writing."""
        return self.shared and self.permission is not Permission.CONSISTENT_READ


def lock_image(fd: int, taken: Permission, shared: Permission) -> None:
    """Take the locks of an opener, until ``fd`` and its duplicates are closed.

    Args:
        fd: an open file or device, readable.
        taken: what the opener will do.
        shared: what others may do meanwhile.

    Raises:
        LockConflict: somebody else is in the way; no lock is left.
        LocksUnavailableError: no lock is left.
    """
    wanted = [_PERM_BASE + bit for bit in _bits(taken)]
    wanted += [_SHARED_BASE + bit for bit in _bits(ALL_PERMISSIONS & ~shared)]
    try:
        for byte in wanted:
            _lock_byte(fd, byte)
        _check(fd, taken, shared)
    except BaseException:
        unlock_image(fd)
        raise


def check_image(fd: int, taken: Permission, shared: Permission) -> None:
    """Say whether ``lock_image`` would succeed, without locking anything.

    Raises:
        LockConflict: it would not.
        LocksUnavailableError: it cannot be told.
    """
    _check(fd, taken, shared)


def unlock_image(fd: int) -> None:
    """Give up all locks of an opener; never fails."""
    for base in (_PERM_BASE, _SHARED_BASE):
        for bit in _bits(ALL_PERMISSIONS):
            try:
                _set(fd, base + bit, lock=False)
            except OSError:
                return


def _bits(permissions: Permission) -> list[int]:
    return [bit for bit in range(4) if permissions >> bit & 1]


def _check(fd: int, taken: Permission, shared: Permission) -> None:
    for bit in _bits(taken):
        if _held_by_others(fd, _SHARED_BASE + bit):
            raise LockConflict(Permission(1 << bit), shared=False)
    for bit in _bits(ALL_PERMISSIONS & ~shared):
        if _held_by_others(fd, _PERM_BASE + bit):
            raise LockConflict(Permission(1 << bit), shared=True)


def _lock_byte(fd: int, byte: int) -> None:
    try:
        _set(fd, byte, lock=True)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        # An exclusive lock, as other programs put on whole files; QEMU takes none.
        raise LockConflict(Permission(1 << byte % _PERM_BASE), shared=False) from error


def _set(fd: int, byte: int, *, lock: bool) -> None:
    _call(fd, _READ_LOCK if lock else _NO_LOCK, byte, ask=False)


def _held_by_others(fd: int, byte: int) -> bool:
    answer = _call(fd, _WRITE_LOCK, byte, ask=True)
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != _NO_LOCK


def _call(fd: int, kind: int, byte: int, *, ask: bool) -> bytes:
    if sys.platform != "linux":
        raise LocksUnavailableError(errno.ENOSYS, "no such locks on this platform")
    command = fcntl.F_OFD_GETLK if ask else fcntl.F_OFD_SETLK
    try:
        return fcntl.fcntl(fd, command, _FLOCK.pack(kind, 0, byte, 1, 0))
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise LocksUnavailableError(error.errno, error.strerror) from error
        raise
