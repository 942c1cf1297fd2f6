"""The few Linux calls that Python has no name for. Imports everywhere; works on Linux."""

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10

SYNC_FILE_RANGE_WRITE = 0x2

# <linux/fs.h>; _IO(0x12, nr) is the same number on every architecture that QEMU runs on but
# alpha, mips, powerpc and sparc, where the "no direction" bit is 0x20000000.
_IOC_NONE = (
    0x20000000
    if os.name == "posix" and os.uname().machine.startswith(("alpha", "mips", "ppc", "sparc"))
    else 0
)
BLKSSZGET = _IOC_NONE | 0x1268
BLKDISCARD = _IOC_NONE | 0x1277
BLKZEROOUT = _IOC_NONE | 0x127F
FICLONERANGE = (0x80000000 if _IOC_NONE else 0x40000000) | 32 << 16 | 0x94 << 8 | 13

UNAVAILABLE = frozenset((errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL))
"""What a file system or device answers when it lacks a feature (EINVAL: a device's ioctl)."""

_Call = Callable[..., int]


def _libc_call(name: str, arguments: "list[type[ctypes._SimpleCData[int]]]") -> _Call | None:
    """Look up a function of the C library that reports by errno; the GIL is released in it."""
    if sys.platform != "linux":
        return None
    function: _Call | None = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.argtypes = arguments  # type: ignore[attr-defined]
    return function


_fallocate = _libc_call(
    "fallocate64", [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
) or _libc_call("fallocate", [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long])
_sync_file_range = _libc_call(
    "sync_file_range", [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
)

HAS_SYNC_FILE_RANGE = _sync_file_range is not None


def _checked(function: _Call | None, *arguments: int) -> None:
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while function(*arguments) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Change how a range of a file is stored: ``FALLOC_FL_*``.

    Raises:
        OSError: EOPNOTSUPP where the file system cannot, ENOSYS off Linux.
    """
    _checked(_fallocate, fd, mode, offset, length)


def sync_file_range(fd: int, offset: int, length: int, flags: int) -> None:
    """Start writing a range of dirty pages out; which promises nothing yet.

    Raises:
        OSError: ENOSYS off Linux.
    """
    _checked(_sync_file_range, fd, offset, length, flags)


def blk_range_ioctl(fd: int, request: int, offset: int, length: int) -> None:
    """Zero (BLKZEROOUT) or discard (BLKDISCARD) a range of a block device.

    Args:
        fd: the open device.
        request: the ioctl.
        offset: a multiple of the logical block size.
        length: likewise.

    Raises:
        OSError: also ENOSYS off Linux.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import fcntl

    fcntl.ioctl(fd, request, struct.pack("=QQ", offset, length))


def logical_block_size(fd: int) -> int:
    """Return a block device's logical block size in bytes; 512 where it cannot be told."""
    if sys.platform != "linux":
        return 512
    import fcntl

    try:
        answer = fcntl.ioctl(fd, BLKSSZGET, struct.pack("=i", 0))
    except OSError:
        return 512
    size: int = struct.unpack("=i", answer)[0]
    return size


def queue_limit(fd: int, name: str) -> int:
    """Return a number from a block device's queue, as ``discard_max_bytes``; 0 where unknown."""
    status = os.fstat(fd)
    if not stat.S_ISBLK(status.st_mode):
        return 0
    device = Path(f"/sys/dev/block/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")
    for queue in (device / "queue", device / ".." / "queue"):  # a partition uses its disk's queue
        try:
            return int((queue / name).read_text())
        except (OSError, ValueError):
            continue
    return 0


def clone_range(fd: int, offset: int, other_fd: int, other_offset: int, length: int) -> None:
    """Let a range of a file share the storage of a range of another one.

    Raises:
        OSError: EXDEV, EOPNOTSUPP, EINVAL and such where that cannot be done.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import fcntl

    fcntl.ioctl(fd, FICLONERANGE, struct.pack("qQQQ", other_fd, other_offset, length, offset))
