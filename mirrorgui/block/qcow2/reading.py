"""Reading guest bytes: from the file, from compressed clusters, from the backing node."""

import errno
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from mirrorgui.block.node import BlockNode, Range
from mirrorgui.block.qcow2.compressed import ClusterCache, DecompressionError
from mirrorgui.block.qcow2.image import Image
from mirrorgui.block.qcow2.layout import Kind
from mirrorgui.block.qcow2.runs import Run
from mirrorgui.block.qcow2.store import fill_zeroes
from mirrorgui.errors import BlockIOError

_ZERO_KINDS = (Kind.ZERO, Kind.ZERO_HOST)
_OPEN_KINDS = (Kind.UNALLOCATED, Kind.UNALLOCATED_HOST)


@dataclass(slots=True)
class _Gathered:
    """Runs that fill neighbouring parts of a buffer, and are read by one request.

    Attributes:
        first: the first of them.
        start, end: where they belong in the buffer.
        ranges: of the guest, in the order of the buffer.
    """

    first: Run
    start: int
    end: int
    ranges: list[Range] = field(default_factory=list)

    def continues(self, run: Run) -> bool:
        """Say whether a run that follows in the buffer can be read together with these."""
        if run.kind == Kind.DATA == self.first.kind:
            return run.place == self.first.place + self.end - self.start
        return run.kind in _OPEN_KINDS and self.first.kind in _OPEN_KINDS


class Reader:
    """The way of a read.

    Args:
        image: what is read.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._decompressed = ClusterCache(image.geometry.cluster_size)
        self._decompressing = threading.Lock()

    def read(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill a buffer with guest bytes.

        Raises:
            BlockIOError: from a file below, or EIO where the image is damaged.
        """
        image = self._image
        if not len(buffer):
            return
        with image.lock:
            runs = image.tables.runs(offset, offset + len(buffer)) or []
            age = image.requests.enter()
        try:
            if len(runs) == 1 and runs[0].kind == Kind.DATA:
                image.store.read(runs[0].place, buffer)
                return
            view = memoryview(buffer)
            for run in runs:
                start = run.offset - offset
                self._read_run(run, view[start : start + run.length])
        finally:
            with image.lock:
                image.requests.leave(age)

    def read_ranges(self, ranges: Sequence[Range], buffer: memoryview) -> None:
        """Fill a buffer with the bytes of several ranges, one behind the other.

        Raises:
            BlockIOError: as for ``read``.
        """
        image = self._image
        with image.lock:
            runs = image.tables.runs_of_ranges(ranges)
            age = image.requests.enter()
        try:
            for each in _gathered(runs):
                view = buffer[each.start : each.end]
                if each.first.kind in _OPEN_KINDS and len(each.ranges) > 1:
                    self._read_ranges_below(each.ranges, view)
                else:
                    self._read_run(each.first._replace(length=len(view)), view)
        finally:
            with image.lock:
                image.requests.leave(age)

    def try_read(self, offset: int, buffer: bytearray | memoryview) -> bool:
        """Do as ``read`` if neither a table nor data has to be waited for; say whether it was."""
        image = self._image
        if not len(buffer):
            return True
        with image.lock:
            runs = image.tables.runs(offset, offset + len(buffer), cached_only=True)
            if runs is None:
                return False
            age = image.requests.enter()
        try:
            view = memoryview(buffer)
            return all(
                self._try_run(run, view[run.offset - offset :][: run.length]) for run in runs
            )
        finally:
            with image.lock:
                image.requests.leave(age)

    def _read_run(self, run: Run, view: memoryview) -> None:
        if run.kind == Kind.DATA:
            self._image.store.read(run.place, view)
        elif run.kind in _ZERO_KINDS:
            fill_zeroes(view)
        elif run.kind in _OPEN_KINDS:
            self._read_below(run.offset, view)
        elif run.kind == Kind.COMPRESSED:
            size = self._image.geometry.cluster_size
            start = run.offset % size
            view[:] = self._decompress(run)[start : start + run.length]
        else:
            raise self._image.damage.found(
                "read", run.offset, run.length, f"the L2 entry at {run.place} is not valid"
            )

    def _try_run(self, run: Run, view: memoryview) -> bool:
        if run.kind == Kind.DATA:
            file = self._image.store.file
            if run.place + run.length > file.size:
                return False
            return file.try_read_into(run.place, view)
        if run.kind in _ZERO_KINDS:
            fill_zeroes(view)
            return True
        if run.kind in _OPEN_KINDS:
            below = self._image.backing
            there = self._there(below, run.offset, run.length)
            if there and not (below and below.try_read_into(run.offset, view[:there])):
                return False
            fill_zeroes(view[there:])
            return True
        return False

    def _read_below(self, offset: int, view: memoryview) -> None:
        """Read what the backing node has; zeroes where it ends before, or where there is none."""
        below = self._image.backing
        there = self._there(below, offset, len(view))
        if below is not None and there:
            below.read_into(offset, view[:there])
        if there < len(view):
            fill_zeroes(view[there:])

    def _read_ranges_below(self, ranges: list[Range], view: memoryview) -> None:
        """Do as ``_read_below`` for ranges whose bytes stand one behind the other in a buffer."""
        below = self._image.backing
        if below is not None and all(sum(each) <= below.size for each in ranges):
            below.read_ranges(ranges, view)
            return
        start = 0
        for offset, length in ranges:
            self._read_below(offset, view[start : start + length])
            start += length

    @staticmethod
    def _there(below: BlockNode | None, offset: int, length: int) -> int:
        return 0 if below is None else max(0, min(length, below.size - offset))

    def _decompress(self, run: Run) -> bytes:
        """Return the whole cluster to which a run belongs."""
        found = self._decompressed.get(run.place)
        if found is not None:
            return found
        image = self._image
        host_offset, length = image.geometry.compressed_place(run.place)
        data = bytearray(max(0, min(length, image.file.size - host_offset)))
        image.file.read_into(host_offset, data)
        try:
            content = image.decompress(data, image.geometry.cluster_size)
        except DecompressionError as error:
            # Not a sign that tables are damaged: QEMU does not mark the image for it either.
            raise BlockIOError(
                "read",
                run.offset,
                run.length,
                errno.EIO,
                image.name,
                detail=f"the compressed cluster at {host_offset} is damaged: {error}",
            ) from error
        self._decompressed.put(run.place, content)
        return content


def _gathered(runs: list[Run]) -> list[_Gathered]:
    """Join runs whose bytes stand one behind the other in a buffer, where one request reads them.

    Other ranges than the neighbours' may lie between them for the guest.
    """
    found: list[_Gathered] = []
    start = 0
    for run in runs:
        end = start + run.length
        if not found or not found[-1].continues(run):
            found.append(_Gathered(run, start, start))
        found[-1].end = end
        found[-1].ranges.append((run.offset, run.length))
        start = end
    return found
