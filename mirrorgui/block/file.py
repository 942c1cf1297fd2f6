"""Raw files and block devices of the host."""

import contextlib
import errno
import os
import stat
import sys
import threading
from dataclasses import replace

from mirrorgui.block import linux
from mirrorgui.block.checks import check_change, check_range
from mirrorgui.block.holes import HAS_SEEK_DATA, seek_extents
from mirrorgui.block.hostfile import lock_host_file, open_host_file
from mirrorgui.block.mounts import mount_of
from mirrorgui.block.node import BlockLimits, BlockNode, Buffer, Extent, ExtentKind, Mapped
from mirrorgui.block.seeking import SeekingFile
from mirrorgui.block.zeroing import Zeroing
from mirrorgui.errors import BlockIOError
from mirrorgui.units import KiB, MiB, align_down, align_up

HAS_POSITIONAL_IO = hasattr(os, "preadv") and hasattr(os, "pwrite")

_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)
"""Read only what the page cache has; Linux. Some file systems do not know it."""

_PAGE = 4 * KiB

_ZEROES = bytes(1 * MiB)
"""What is written where zeroing has no shortcut: one request of the size the job itself uses."""


class FileNode(BlockNode):
    """A regular file or a block device, read and written through the page cache.

    Args:
        path: the file or device.
        read_only: open for reading.
        name: for messages; the path by default.
        node_name: its name among nodes.
        field: the option that named the path, for refusals: ``source``, ``target``, ...
        locking: ``auto`` takes QEMU's image locks where they exist, ``on`` refuses an image where
            they do not, ``off`` neither asks nor locks.
        force_share: read although others write: for a look at an image, never for a copy.
        exclusive: claim a block device, so that it cannot be mounted meanwhile, and fail when it
            is. By default when it is opened for writing.
        write_out: start writing dirty pages out after each so many bytes written; 0 leaves it to
            the system. It keeps the final flush short.
        positional_io: read and write without a seek position. ``False`` is the way of platforms
            that cannot: one request at a time.
        resizes: lock it as one who also changes its length, which image formats do.

    Raises:
        ImageRefused: it is missing, cannot be opened, is not a file or block device, is in use.

    Concurrency: requests of several threads run in the kernel at the same time.
    """

    driver = "file"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        name: str | None = None,
        node_name: str = "",
        field: str = "filename",
        locking: str = "auto",
        force_share: bool = False,
        exclusive: bool | None = None,
        write_out: int = 0,
        positional_io: bool = HAS_POSITIONAL_IO,
        resizes: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self.name = self.path if name is None else name
        self.node_name = node_name
        self.read_only = read_only
        self.locked = False
        """Whether QEMU's image locks are held."""
        if exclusive is None:
            exclusive = not read_only
        self._fd = open_host_file(self.path, field, read_only=read_only, exclusive=exclusive)
        try:
            self.is_device = stat.S_ISBLK(os.fstat(self._fd).st_mode)
            if locking != "off" and not force_share:
                self.locked = lock_host_file(
                    self._fd,
                    self.path,
                    field,
                    read_only=read_only,
                    locking=locking,
                    resizes=resizes,
                )
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
            self._zeroing = Zeroing(
                self._fd, self.path, is_device=self.is_device, read_only=read_only
            )
            self._can_ask_cache = False
            self.reads_wait = positional_io and self._may_wait()
        except BaseException:
            os.close(self._fd)
            raise
        if self.is_device:
            self.driver = "host_device"
        self.limits = BlockLimits(
            request_alignment=self._zeroing.alignment,
            can_zero=self._zeroing.can_zero,
            can_discard=self._zeroing.can_discard,
        )
        self._known_data = (0, 0)
        self._seeking: SeekingFile | None = None
        if not positional_io:
            self._seeking = SeekingFile(self._fd, read_only=read_only)
        self._write_out = write_out if linux.HAS_SYNC_FILE_RANGE else 0
        self._unsynced = 0
        self._flush_error = 0
        self._resizing = threading.Lock()

    def lock_resizing(self, field: str) -> None:
        """Lock it as one who also changes its length: it has turned out to hold a format.

        Raises:
            ImageRefused: somebody else is in the way.
        """
        if self.locked and not self.read_only:
            lock_host_file(
                self._fd, self.path, field, read_only=False, locking="auto", resizes=True
            )

    def fileno(self) -> int:
        """Return the open descriptor, for checks of identity. It stays this node's."""
        return self._fd

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See ``BlockNode.read_into``. A file cut short by others fails with EIO, never zeroes."""
        length = len(buffer)
        if offset < 0 or offset + length > self.size:
            raise BlockIOError("read", offset, length, errno.EINVAL, self.name)
        try:
            if self._seeking is not None:
                self._seeking.read(offset, memoryview(buffer))
                return
            done = os.preadv(self._fd, (buffer,), offset)
            if done != length:
                self._read_rest(offset, memoryview(buffer), done)
        except OSError as error:
            raise self._failed("read", offset, length, error) from error

    def try_read_into(self, offset: int, buffer: bytearray | memoryview) -> bool:
        """See ``BlockNode.try_read_into``: it succeeds where the page cache has all of it."""
        if offset < 0 or offset + len(buffer) > self.size:
            check_range(self, "read", offset, len(buffer))
        if not self.reads_wait:
            self.read_into(offset, buffer)
            return True
        if not self._can_ask_cache:
            return False
        try:
            return os.preadv(self._fd, (buffer,), offset, _NO_WAIT) == len(buffer)
        except OSError:  # EAGAIN mostly; of real errors the reading that follows will tell
            return False

    def prefetch(self, offset: int, length: int) -> bool:
        """See ``BlockNode.prefetch``: the kernel reads into the page cache."""
        if not self._can_ask_cache:
            return False
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_WILLNEED)
            return True
        return False

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``."""
        length = len(data)
        if self.read_only or offset < 0 or offset + length > self.size:
            check_change(self, "write", offset, length)
        try:
            if self._seeking is not None:
                self._seeking.write(offset, memoryview(data))
            else:
                done = os.pwrite(self._fd, data, offset)
                if done != length:
                    self._write_rest(offset, memoryview(data), done)
            if self._write_out:
                self._start_write_out(length)
        except OSError as error:
            raise self._failed("write", offset, length, error) from error

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """See ``BlockNode.write_zeroes``. Written zeroes where the system has no shortcut."""
        check_change(self, "write_zeroes", offset, length)
        self._known_data = (0, 0)
        end = offset + length
        # Devices zero whole logical blocks only; the edges are written.
        start = min(align_up(offset, self._zeroing.alignment), end)
        stop = max(align_down(end, self._zeroing.alignment), start)
        try:
            if may_unmap and end == self.size:
                stop = max(stop, self._end_of_last_page())
            if start < stop and not self._zeroing.zero(start, stop - start, may_unmap=may_unmap):
                self.limits = replace(self.limits, can_zero=False)
                start = stop = end
            self._write_out_zeroes(offset, start)
            self._write_out_zeroes(stop, end)
        except OSError as error:
            raise self._failed("write_zeroes", offset, length, error) from error

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``."""
        check_change(self, "discard", offset, length)
        start = align_up(offset, self._zeroing.alignment)
        stop = align_down(offset + length, self._zeroing.alignment)
        if start >= stop:
            return
        self._known_data = (0, 0)
        try:
            self._zeroing.discard(start, stop - start)
        except OSError as error:
            raise self._failed("discard", offset, length, error) from error

    def flush(self) -> None:
        """See ``BlockNode.flush``.

        After one failure every later flush fails: the kernel has marked the lost pages clean, so
        a later success would promise what is not there.
        """
        if self.read_only:
            return
        if self._flush_error:
            raise BlockIOError("flush", 0, 0, self._flush_error, self.name)
        try:
            _sync_data(self._fd)
        except OSError as error:
            self._flush_error = error.errno or errno.EIO
            raise self._failed("flush", 0, 0, error) from error

    def resize(self, size: int) -> None:
        """See ``BlockNode.resize``. A device cannot."""
        if self.read_only or size < 0:
            code = errno.EPERM if self.read_only else errno.EINVAL
            raise BlockIOError("resize", size, 0, code, self.name)
        if self.is_device:
            raise BlockIOError("resize", size, 0, errno.EOPNOTSUPP, self.name)
        with self._resizing:  # the length that is noted is that of the last one
            try:
                os.ftruncate(self._fd, size)
            except OSError as error:
                raise self._failed("resize", size, 0, error) from error
            self._known_data = (0, 0)
            self.size = size

    def close(self) -> None:
        """See ``BlockNode.close``."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def extents(self, offset: int, length: int) -> list[Extent]:
        """See ``BlockNode.extents``. Holes are ZERO: a raw file has nothing below it."""
        check_range(self, "extents", offset, length)
        if not length:
            return []
        low, high = self._known_data
        if low <= offset and offset + length <= high:
            return [Extent(offset, length, ExtentKind.DATA)]
        if self.is_device or not HAS_SEEK_DATA or self._seeking is not None:
            return [Extent(offset, length, ExtentKind.DATA)]
        try:
            runs, known = seek_extents(self._fd, offset, offset + length, self.size)
        except OSError as error:
            raise self._failed("extents", offset, length, error) from error
        if known[1] > offset + length:
            # Long runs of data are looked up once, not once a request: SEEK_HOLE walks the pages
            # of the run on tmpfs. A stale answer calls a hole data, which is allowed.
            self._known_data = known
        return runs

    def map(self, offset: int, length: int) -> list[Mapped]:
        """See ``BlockNode.map``: everything is where it seems to be."""
        check_range(self, "extents", offset, length)
        return [Mapped(offset, length, self, offset)] if length else []

    def clone_from(self, offset: int, other: BlockNode, other_offset: int, length: int) -> bool:
        """See ``BlockNode.clone_from``: where both are files of one btrfs, xfs and the like."""
        check_change(self, "write", offset, length)
        if not isinstance(other, FileNode):
            return False
        try:
            linux.clone_range(self._fd, offset, other._fd, other_offset, length)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise self._failed("write", offset, length, error) from error
            return False
        return True

    def _may_wait(self) -> bool:
        """Find out whether reads may wait for a device, and whether the cache can be asked."""
        if not _NO_WAIT:
            return True
        try:
            os.preadv(self._fd, (bytearray(1),), 0, _NO_WAIT)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                mount = mount_of(self.path)
                return mount is None or mount.type not in ("tmpfs", "ramfs")
        self._can_ask_cache = True
        return True

    def _end_of_last_page(self) -> int:
        """How far a hole at the end may reach, so that tmpfs gives its last page back as well."""
        if self.is_device or os.fstat(self._fd).st_size != self.size:
            return 0
        return align_up(self.size, _PAGE)

    def _failed(self, operation: str, offset: int, length: int, error: OSError) -> BlockIOError:
        return BlockIOError(operation, offset, length, error.errno or errno.EIO, self.name)

    def _read_rest(self, offset: int, view: memoryview, done: int) -> None:
        """Go on after a short read. At the end of the file that is an error: it was cut short."""
        count = done
        while done < len(view):
            if count == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            count = os.preadv(self._fd, (view[done:],), offset + done)
            done += count

    def _write_rest(self, offset: int, view: memoryview, done: int) -> None:
        """Go on after a short write; what stopped it, such as ENOSPC, is raised by the next."""
        while done < len(view):
            count = os.pwrite(self._fd, view[done:], offset + done)
            if count == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            done += count

    def _write_out_zeroes(self, start: int, stop: int) -> None:
        """Write zeroes the plain way."""
        for offset in range(start, stop, len(_ZEROES)):
            self.write(offset, memoryview(_ZEROES)[: stop - offset])

    def _start_write_out(self, length: int) -> None:
        # Without a lock: when two threads lose a count, the write-out only starts a little later.
        self._unsynced += length
        if self._unsynced >= self._write_out:
            self._unsynced = 0
            try:
                linux.sync_file_range(self._fd, 0, 0, linux.SYNC_FILE_RANGE_WRITE)
            except OSError:  # a mere hint: the flush says whether the data arrived
                self._write_out = 0


def _sync_data(fd: int) -> None:
    """Bring data to stable storage, and of the metadata what is needed to read it back."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync leaves it in the drive's cache there
    else:
        getattr(os, "fdatasync", os.fsync)(fd)
