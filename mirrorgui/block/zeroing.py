"""Zeroing and discarding ranges of a file or device without writing zeroes, where that works."""

import contextlib
import errno
import os
from collections.abc import Callable

from mirrorgui.block import linux
from mirrorgui.block.mounts import NO_HOLES_TYPES, mount_of
from mirrorgui.units import GiB, KiB, align_up

_KEEP = linux.FALLOC_FL_KEEP_SIZE
_PUNCH = linux.FALLOC_FL_PUNCH_HOLE | _KEEP
_ZERO_RANGE = linux.FALLOC_FL_ZERO_RANGE | _KEEP

_PROBE_BLOCK = 4 * KiB
"""A block behind the end of a file, to ask whether holes can be punched: a page everywhere."""

_PUNCHING_TYPES = frozenset(("ext4", "xfs", "btrfs", "f2fs", "bcachefs", "tmpfs"))
"""File system types that punch holes since the oldest kernel in use."""

_LONGEST = 1 * GiB
"""Longest single call: none can be interrupted, and a device may turn it into slow writes."""

_Way = Callable[[int, int, int], None]
"""(fd, offset, length); raises OSError."""


def _punch(fd: int, offset: int, length: int) -> None:
    linux.fallocate(fd, _PUNCH, offset, length)


def _zero_range(fd: int, offset: int, length: int) -> None:
    linux.fallocate(fd, _ZERO_RANGE, offset, length)


def _punch_and_allocate(fd: int, offset: int, length: int) -> None:
    linux.fallocate(fd, _PUNCH, offset, length)
    linux.fallocate(fd, _KEEP, offset, length)


def _blk_zero_out(fd: int, offset: int, length: int) -> None:
    linux.blk_range_ioctl(fd, linux.BLKZEROOUT, offset, length)


def _blk_discard(fd: int, offset: int, length: int) -> None:
    linux.blk_range_ioctl(fd, linux.BLKDISCARD, offset, length)


class Zeroing:
    """The ways that one open file or device has; those that turn out not to work are forgotten.

    Attributes:
        alignment: ``zero`` and ``discard`` take multiples of it only.
        can_zero: zeroing is cheap here, as far as was asked and seen.
        can_discard: discarding gives storage back, likewise.
    """

    def __init__(self, fd: int, path: str, *, is_device: bool, read_only: bool) -> None:
        self._fd = fd
        self.alignment = linux.logical_block_size(fd) if is_device else 1
        self._ways: dict[str, tuple[_Way, ...]] = {
            "unmap": (_punch, _blk_zero_out if is_device else _zero_range),
            "keep": (_zero_range, _blk_zero_out if is_device else _punch_and_allocate),
            "discard": (_blk_discard if is_device else _punch,),
        }
        if read_only:
            self.can_zero = self.can_discard = False
        elif is_device:
            self.can_zero = linux.queue_limit(fd, "write_zeroes_max_bytes") > 0
            self.can_discard = linux.queue_limit(fd, "discard_max_bytes") > 0
        else:
            self.can_zero = self.can_discard = _can_punch(fd, path)

    def zero(self, offset: int, length: int, *, may_unmap: bool) -> bool:
        """Make a range read as zeroes.

        Returns:
            False when there is no way, and zeroes must be written.

        Raises:
            OSError: a way that exists failed, as with ENOSPC.
        """
        done = self._try("unmap" if may_unmap else "keep", offset, length)
        self.can_zero = self.can_zero and done
        return done

    def discard(self, offset: int, length: int) -> None:
        """Give storage back, or do nothing.

        Raises:
            OSError: it exists and failed.
        """
        if self.can_discard:
            self.can_discard = self._try("discard", offset, length)

    def _try(self, goal: str, offset: int, length: int) -> bool:
        for way in self._ways[goal]:
            try:
                for start in range(offset, offset + length, _LONGEST):
                    way(self._fd, start, min(_LONGEST, offset + length - start))
            except OSError as error:
                if error.errno in linux.UNAVAILABLE:
                    self._ways[goal] = tuple(one for one in self._ways[goal] if one is not way)
                elif error.errno != errno.EBUSY:  # a device's page cache is busy: the next way
                    raise
            else:
                return True
        return False


def _can_punch(fd: int, path: str) -> bool:
    """Say whether the file system punches holes: by its type, or by asking.

    It is asked by punching behind the end of the file, where nothing can be lost. That changes
    the file's times, which an image that is only opened should keep.
    """
    mount = mount_of(path)
    if mount is not None and mount.type in _PUNCHING_TYPES | NO_HOLES_TYPES:
        return mount.type in _PUNCHING_TYPES
    before = os.fstat(fd)
    behind = align_up(before.st_size, _PROBE_BLOCK) + _PROBE_BLOCK
    try:
        _punch(fd, behind, _PROBE_BLOCK)
    except OSError:
        return False
    with contextlib.suppress(OSError):  # somebody else's file: the time stays changed
        os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    return True
