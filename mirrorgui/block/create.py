"""Making new images."""

import errno
import os
from pathlib import Path

from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.units import MiB

_REASONS = {
    errno.EEXIST: "{path} exists already.",
    errno.ENOENT: "The folder {parent} does not exist.",
    errno.ENOTDIR: "{parent} is not a folder.",
    errno.ENOSPC: "There is no space left in {parent}.",
    errno.EDQUOT: "Your quota in {parent} is used up.",
    errno.EFBIG: "This filesystem cannot store a file of {size} bytes.",
    errno.EINVAL: "This filesystem cannot store a file of {size} bytes.",
    errno.EROFS: "{parent} is on a read-only filesystem.",
}


PREALLOCATIONS = ("off", "falloc", "full")
"""How storage of a raw image is reserved, in QEMU's words."""

_ZEROES = bytes(1 * MiB)


def create_raw(
    path: str | os.PathLike[str], size: int, *, preallocation: str = "off", field: str = "target"
) -> None:
    """Create a raw image that reads as zeroes. It survives a crash that follows at once.

    Args:
        path: a name that does not exist yet.
        size: length in bytes.
        preallocation: ``off`` leaves it sparse, ``falloc`` reserves its storage, ``full`` writes
            zeroes, which also file systems have that cannot reserve.
        field: the option that named it, for refusals.

    Raises:
        InvalidInput: the preallocation is not known.
        ImageRefused: it cannot be created; nothing is left behind.
    """
    if preallocation not in PREALLOCATIONS:
        text = f"must be one of {', '.join(PREALLOCATIONS)} for a raw image"
        raise InvalidInput("preallocation", preallocation, text)
    name = os.fspath(path)
    if size < 0:
        raise ImageRefused(field, name, f"The size must not be negative, as {size} is.")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(name, flags, 0o666)
    except (OSError, ValueError) as error:
        raise refused(field, name, size, error) from error
    try:
        os.ftruncate(fd, size)
        preallocate_file(fd, 0, size, preallocation)
        os.fsync(fd)
    except (OSError, OverflowError) as error:
        os.close(fd)
        Path(name).unlink()
        raise refused(field, name, size, error) from error
    os.close(fd)
    sync_folder(Path(name).parent)


def preallocate_file(fd: int, offset: int, length: int, preallocation: str) -> None:
    """Reserve storage for a range of a file that reads as zeroes, and goes on to do so.

    Raises:
        OSError: there is not enough, or (``falloc``) the file system cannot reserve any.
    """
    if preallocation == "falloc" and length:
        if not hasattr(os, "posix_fallocate"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.posix_fallocate(fd, offset, length)
    elif preallocation == "full":
        end = offset + length
        while offset < end:
            offset += os.pwrite(fd, memoryview(_ZEROES)[: end - offset], offset)


def refused(
    field: str, name: str, size: int, error: OSError | ValueError | OverflowError
) -> ImageRefused:
    """Say why a file of ``size`` bytes cannot be created."""
    if isinstance(error, OverflowError):
        text = _REASONS[errno.EFBIG]
    elif isinstance(error, OSError):
        text = _REASONS.get(error.errno or 0, f"Cannot create {{path}}: {error.strerror}.")
    else:  # a null byte in the path
        text = f"Cannot create {{path}}: {error}."
    return ImageRefused(field, name, text.format(path=name, parent=Path(name).parent, size=size))


def sync_folder(folder: Path) -> None:
    """Make the new name itself stable, where the platform lets one sync a folder."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
