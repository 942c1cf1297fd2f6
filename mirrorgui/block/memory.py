"""An image in RAM, with allocation tracking and an optional backing node."""

import errno
import threading

import numpy as np

from mirrorgui.block.checks import check_change, check_range
from mirrorgui.block.node import BlockLimits, BlockNode, Buffer, Extent, ExtentKind
from mirrorgui.errors import BlockIOError
from mirrorgui.units import KiB

DEFAULT_CLUSTER_SIZE = 64 * KiB
"""Allocation unit in bytes: the same as qcow2's default."""

_UNALLOCATED, _ZERO, _DATA = 0, 1, 2
_KINDS = (ExtentKind.UNALLOCATED, ExtentKind.ZERO, ExtentKind.DATA)


class MemoryNode(BlockNode):
    """A RAM image that behaves like a format with clusters: copy-on-write, zero clusters, holes.

    Args:
        content: a size in bytes (then nothing is allocated), or the initial bytes (then all of
            them are allocated).
        name: for messages.
        node_name: its name among nodes.
        read_only: refuse every changing request.
        backing: read where nothing is allocated here. It may be shorter or longer, and is not
            closed with this node.
        can_zero: ``write_zeroes`` makes zero clusters. Otherwise it stores written zeroes, as a
            driver without the feature does.
        can_discard: ``discard`` drops whole clusters. Otherwise it does nothing.
        cluster_size: the unit of allocation in bytes; any positive number.

    Concurrency: one lock around each request; a request is atomic to all others of the node,
    except for what a read takes from the backing node.
    """

    driver = "memory"

    def __init__(
        self,
        content: int | Buffer,
        *,
        name: str = "memory",
        node_name: str = "",
        read_only: bool = False,
        backing: BlockNode | None = None,
        can_zero: bool = True,
        can_discard: bool = True,
        cluster_size: int = DEFAULT_CLUSTER_SIZE,
    ) -> None:
        self.size = content if isinstance(content, int) else len(content)
        self.name = name
        self.node_name = node_name
        self.read_only = read_only
        self.backing = backing
        if backing is not None:  # which a write reads as well, to copy up
            self.reads_wait = self.writes_wait = backing.reads_wait
        self.limits = BlockLimits(
            cluster_size=cluster_size, can_zero=can_zero, can_discard=can_discard
        )
        self._cluster_size = cluster_size
        self._lock = threading.Lock()
        self._array = np.zeros(self.size, np.uint8)
        self._bytes = self._array.data
        clusters = -(-self.size // cluster_size)
        # Invariant: the bytes of a cluster that is known to read as zeroes are zero.
        self._states = np.full(clusters, _UNALLOCATED, np.uint8)
        if not isinstance(content, int):
            self._bytes[:] = content
            self._states[:] = _DATA

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See ``BlockNode.read_into``."""
        check_range(self, "read", offset, len(buffer))
        end = offset + len(buffer)
        with self._lock:
            buffer[:] = self._bytes[offset:end]
            if self.backing is None:
                return
            runs = self._runs(offset, end)
        # Outside the lock, because the backing node may hang: what was unallocated at the moment
        # above has in the backing node the content of that moment.
        for run in runs:
            if run.kind is ExtentKind.UNALLOCATED:
                start = run.offset - offset
                self._read_backing(run.offset, memoryview(buffer)[start : start + run.length])

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``."""
        check_change(self, "write", offset, len(data))
        if not len(data):
            return
        with self._lock:
            self._allocate("write", offset, offset + len(data))
            self._bytes[offset : offset + len(data)] = data

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """See ``BlockNode.write_zeroes``. Whole clusters become zero clusters."""
        check_change(self, "write_zeroes", offset, length)
        if not length:
            return
        end = offset + length
        with self._lock:
            if not self.limits.can_zero:
                self._allocate("write_zeroes", offset, end)
                self._array[offset:end] = 0
                return
            self._clear(offset, end, self._empty_state() if may_unmap else _ZERO)

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``. Whole clusters read as zeroes afterwards."""
        check_change(self, "discard", offset, length)
        if not self.limits.can_discard:
            return
        first, last = self._whole_clusters(offset, offset + length)
        if first < last:
            with self._lock:
                start = first * self._cluster_size
                end = min(last * self._cluster_size, self.size)
                self._array[start:end] = 0
                self._states[first:last] = self._empty_state()

    def flush(self) -> None:
        """Do nothing: RAM is as stable as it gets."""

    def close(self) -> None:
        """Give the memory back; the backing node stays open."""
        self._array = np.zeros(0, np.uint8)
        self._bytes = self._array.data

    def extents(self, offset: int, length: int) -> list[Extent]:
        """See ``BlockNode.extents``."""
        check_range(self, "extents", offset, length)
        with self._lock:
            return self._runs(offset, offset + length)

    def resize(self, size: int) -> None:
        """See ``BlockNode.resize``."""
        if self.read_only or size < 0:
            code = errno.EPERM if self.read_only else errno.EINVAL
            raise BlockIOError("resize", size, 0, code, self.name)
        with self._lock:
            kept = min(size, self.size)
            array = np.zeros(size, np.uint8)
            array[:kept] = self._array[:kept]
            states = np.full(-(-size // self._cluster_size), _UNALLOCATED, np.uint8)
            count = min(len(states), len(self._states))
            states[:count] = self._states[:count]
            if size > self.size and self.backing is not None:
                # What is new reads as zeroes, not as what a longer backing node has there.
                states[count:] = _ZERO
                if kept % self._cluster_size and states[count - 1] == _UNALLOCATED:
                    self._array, self._bytes = array, array.data
                    self._copy_up("resize", (count - 1) * self._cluster_size, kept)
                    states[count - 1] = _DATA
            self._array, self._bytes = array, array.data
            self._states, self.size = states, size

    def cancel_in_flight(self) -> None:
        """Pass it on: only the backing node can hang."""
        if self.backing is not None:
            self.backing.cancel_in_flight()

    def content(self) -> bytes:
        """Return all bytes that a guest reads, backing seen."""
        whole = bytearray(self.size)
        self.read_into(0, whole)
        return bytes(whole)

    def allocated_bytes(self) -> int:
        """Return how many bytes this node itself stores as data, in whole clusters."""
        return sum(run.length for run in self.extents(0, self.size) if run.kind is ExtentKind.DATA)

    def _empty_state(self) -> int:
        """State of a cluster that was given back: it must not show the backing node's bytes."""
        return _UNALLOCATED if self.backing is None else _ZERO

    def _whole_clusters(self, offset: int, end: int) -> tuple[int, int]:
        """Clusters that a range covers whole; a short last cluster counts as whole."""
        last = len(self._states) if end == self.size else end // self._cluster_size
        return -(-offset // self._cluster_size), last

    def _clear(self, offset: int, end: int, state: int) -> None:
        """Zero a range: whole clusters get a state, partly covered ones stored zeroes."""
        for run in self._runs(offset, end):
            if run.kind is ExtentKind.DATA:  # touch no page that was never written
                self._array[run.offset : run.end] = 0
        first, last = self._whole_clusters(offset, end)
        if first >= last:
            edges = [(offset, end)]
        else:
            start, stop = first * self._cluster_size, min(last * self._cluster_size, self.size)
            self._states[first:last] = state
            edges = [(offset, start), (stop, end)]
        for low, high in edges:
            if low < high and self._shows_more_than_zeroes(low, high):
                self._allocate("write_zeroes", low, high)
                self._array[low:high] = 0

    def _shows_more_than_zeroes(self, offset: int, end: int) -> bool:
        """Say whether a part of a range reads as something that is not known to be zero."""
        empty = self._empty_state()
        states = self._states[offset // self._cluster_size : -(-end // self._cluster_size)]
        return bool(((states != empty) & (states != _ZERO)).any())

    def _allocate(self, operation: str, offset: int, end: int) -> None:
        """Make the touched clusters _DATA, with the backing's bytes around the range."""
        size = self._cluster_size
        first, last = offset // size, -(-end // size)
        if self.backing is not None:
            for cluster in {first, last - 1}:
                start, stop = cluster * size, min((cluster + 1) * size, self.size)
                covered = offset <= start and stop <= end
                if self._states[cluster] == _UNALLOCATED and not covered:
                    self._copy_up(operation, start, stop)
        self._states[first:last] = _DATA

    def _copy_up(self, operation: str, start: int, stop: int) -> None:
        try:
            self._read_backing(start, self._bytes[start:stop])
        except BlockIOError as error:  # for the caller it is the write that failed
            raise BlockIOError(operation, start, stop - start, error.errno, self.name) from error

    def _read_backing(self, offset: int, into: memoryview) -> None:
        """Read what the backing node has; zeroes where it ends before."""
        assert self.backing is not None
        there = max(0, min(len(into), self.backing.size - offset))
        if there:
            self.backing.read_into(offset, into[:there])
        into[there:] = bytes(len(into) - there)

    def _runs(self, offset: int, end: int) -> list[Extent]:
        if offset == end:
            return []
        size = self._cluster_size
        first = offset // size
        states = self._states[first : -(-end // size)]
        changes = np.flatnonzero(states[1:] != states[:-1]) + 1 + first
        starts = [first, *changes.tolist()]
        bounds = [offset, *(index * size for index in starts[1:]), end]
        return [
            Extent(low, high - low, _KINDS[self._states[index]])
            for index, low, high in zip(starts, bounds[:-1], bounds[1:], strict=True)
        ]
