"""Opening a path of the host safely: regular files and block devices, nothing else."""

import errno
import os
import stat

from mirrorgui.block import locks
from mirrorgui.block.holders import who_holds
from mirrorgui.block.storage import in_use_sentence, place_of, uses_of
from mirrorgui.errors import ImageRefused

LOCKING = ("auto", "on", "off")
"""QEMU's values of the option ``locking``."""

_ODD_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
)


def check_kind(path: str, field: str) -> os.stat_result:
    """Refuse what is neither a regular file nor a block device, without opening it.

    Raises:
        ImageRefused: also when it is missing.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - also takes what is no path
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageRefused(field, path, f"Cannot read {path}: {reason}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageRefused(field, path, f"{path} is a folder. Choose an image file or a device.")
    for is_kind, words in _ODD_KINDS:
        if is_kind(status.st_mode):
            raise ImageRefused(
                field, path, f"{path} is {words}. Choose an image file or a block device."
            )
    return status


def open_host_file(path: str, field: str, *, read_only: bool, exclusive: bool) -> int:
    """Open a regular file or block device.

    Args:
        path: what to open.
        field: the option that named it.
        read_only: open for reading, else for reading and writing.
        exclusive: claim a block device; no effect on files.

    Returns:
        The descriptor, not inherited by child processes.

    Raises:
        ImageRefused: it cannot be opened, or was replaced by something else meanwhile.
    """
    before = check_kind(path, field)
    is_device = stat.S_ISBLK(before.st_mode)
    flags = os.O_RDONLY if read_only else os.O_RDWR
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    if is_device and exclusive:
        flags |= os.O_EXCL
    try:
        fd = os.open(path, flags)
    except OSError as error:
        raise ImageRefused(field, path, _open_failed(path, before, read_only, error)) from error
    now = os.fstat(fd)
    if stat.S_IFMT(now.st_mode) != stat.S_IFMT(before.st_mode):
        os.close(fd)
        raise ImageRefused(field, path, f"{path} was replaced while it was opened.")
    return fd


def lock_host_file(
    fd: int, path: str, field: str, *, read_only: bool, locking: str, resizes: bool = False
) -> bool:
    """Take QEMU's image locks on an open file.

    Args:
        fd: the open file.
        path: its name.
        field: the option that named it.
        read_only: lock it for reading, else for reading and writing.
        locking: one of ``LOCKING`` but ``off``.
        resizes: who writes may change its length as well.

    Returns:
        Whether they are held; false only where the system has none and ``locking`` is ``auto``.

    Raises:
        ImageRefused: somebody else is in the way, or there are no locks and ``locking`` is ``on``.
    """
    writing = locks.RESIZE if resizes else locks.READ_WRITE
    taken, shared = locks.READ_ONLY if read_only else writing
    try:
        locks.lock_image(fd, taken, shared)
    except locks.LockConflict as conflict:
        raise ImageRefused(field, path, in_use_text(fd, path, field, conflict)) from conflict
    except locks.LocksUnavailableError as error:
        if locking == "on":
            raise ImageRefused(
                field, path, f"{path} cannot be locked here: {error.strerror}."
            ) from error
        return False
    return True


def in_use_text(fd: int, path: str, field: str, conflict: locks.LockConflict) -> str:
    """Say who is in the way of a lock, and what to do."""
    holder = who_holds(fd)
    if conflict.writer and field != "target":
        return (
            f"Open for writing by {holder}. Two writers destroy an image. "
            "Stop that program or mirror through it."
        )
    return f"{os.path.basename(path)} is open in {holder}."  # noqa: PTH119 - a plain string


def _open_failed(path: str, status: os.stat_result, read_only: bool, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return in_use_sentence(path, uses_of(place_of(status)))
    if read_only:
        return f"Cannot read {path}: {error.strerror}."
    return f"Cannot open {path} for writing: {error.strerror}."
