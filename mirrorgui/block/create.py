"""Making new images."""

import errno
import os
from pathlib import Path

from mirrorgui.errors import ImageRefused

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


def create_raw(path: str | os.PathLike[str], size: int, *, field: str = "target") -> None:
    """Create a sparse raw image that reads as zeroes. It survives a crash that follows at once.

    Args:
        path: a name that does not exist yet.
        size: length in bytes.
        field: the option that named it, for refusals.

    Raises:
        ImageRefused: it cannot be created; nothing is left behind.
    """
    name = os.fspath(path)
    if size < 0:
        raise ImageRefused(field, name, f"The size must not be negative, as {size} is.")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(name, flags, 0o666)
    except (OSError, ValueError) as error:
        raise _refused(field, name, size, error) from error
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    except (OSError, OverflowError) as error:
        os.close(fd)
        Path(name).unlink()
        raise _refused(field, name, size, error) from error
    os.close(fd)
    _sync_folder(Path(name).parent)


def _refused(
    field: str, name: str, size: int, error: OSError | ValueError | OverflowError
) -> ImageRefused:
    if isinstance(error, OverflowError):
        text = _REASONS[errno.EFBIG]
    elif isinstance(error, OSError):
        text = _REASONS.get(error.errno or 0, f"Cannot create {{path}}: {error.strerror}.")
    else:  # a null byte in the path
        text = f"Cannot create {{path}}: {error}."
    return ImageRefused(field, name, text.format(path=name, parent=Path(name).parent, size=size))


def _sync_folder(folder: Path) -> None:
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
