"""Which parts of a file hold data, by SEEK_DATA and SEEK_HOLE."""

import errno
import os

from mirrorgui.block.node import Extent, ExtentKind

HAS_SEEK_DATA = hasattr(os, "SEEK_DATA")

_RACE_LIMIT = 8
"""Looks at one place that others punch between two calls, before it is called data."""


def seek_extents(fd: int, offset: int, end: int, size: int) -> tuple[list[Extent], tuple[int, int]]:
    """Map a range of a file.

    Moves the descriptor's seek position, so the caller must not rely on one. Changes by others
    between the calls never make a hole of data that was there before the call.

    Args:
        fd: a regular file.
        offset: first byte of the range.
        end: byte behind the range; above ``offset``.
        size: what the file's length must be at least.

    Returns:
        The runs of DATA and ZERO that cover the range, and the bounds of the last run of data,
        which may reach behind the range.

    Raises:
        OSError: EIO when the file has become shorter than ``size``.
    """
    runs: list[Extent] = []
    known = (0, 0)
    position, tries = offset, 0
    while position < end:
        data = _next_data(fd, position, size)
        if data > position:
            stop = min(data, end)
            runs.append(Extent(position, stop - position, ExtentKind.ZERO))
            position = stop
            continue
        hole = _next_hole(fd, position, end)
        if hole <= position and tries < _RACE_LIMIT:  # punched since: look again
            tries += 1
            continue
        if hole <= position:
            hole = end
        known = (position, hole)
        stop = min(hole, end)
        runs.append(Extent(position, stop - position, ExtentKind.DATA))
        position, tries = stop, 0
    return runs, known


def _next_data(fd: int, position: int, size: int) -> int:
    """Offset of the next data at or behind a position; ``size`` where only a hole follows."""
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            if os.fstat(fd).st_size < size:  # not a hole: the file was cut short
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
            return size
        if error.errno == errno.EINVAL:  # the file system does not know: all may be data
            return position
        raise


def _next_hole(fd: int, position: int, end: int) -> int:
    try:
        return os.lseek(fd, position, os.SEEK_HOLE)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EINVAL):  # cut short since, or not known
            return end
        raise
