"""Which host clusters are free: handing them out, taking them back, growing the file."""

import contextlib
import errno
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.growth import Growth
from mirrorgui.block.qcow2.layout import Geometry, Words
from mirrorgui.block.qcow2.metadata import MetadataMap
from mirrorgui.block.qcow2.pending import Free, Pending
from mirrorgui.block.qcow2.refcount_table import RefcountTable
from mirrorgui.errors import BlockIOError
from mirrorgui.units import KiB

_WINDOW = 64 * KiB
"""Refcounts looked at in one go for free clusters: 40 µs."""

_LOOK_AHEAD = 8
"""Free runs looked at for one that is long enough, before several short ones are taken."""

_MOST_RUNS = 64 * KiB
"""Free runs kept in memory; when frees leave more, they are searched for again."""


class Allocation(NamedTuple):
    """A run of clusters that was handed out, each with refcount 1.

    Attributes:
        host_offset: where it begins in the file, in bytes.
        clusters: how many.
        fresh: the file reads as zeroes there, as nothing was ever written.
    """

    host_offset: int
    clusters: int
    fresh: bool


class Allocator:
    """Free and used clusters of one image.

    Changes are made in memory. ``write_dirty`` brings them to the file, which has to happen before
    anything that names the new clusters is written. Clusters that are freed stay used until what
    named them is gone from the file as well: ``free_later``, then ``release_pending``.

    Args:
        file: the node that stores the image.
        geometry: of the image.
        table_offset: where the refcount table begins in the file.
        table_clusters: how many clusters the refcount table has.
        metadata: the structures that are known already: header, L1 and L2 tables, snapshots.
        cache_size: bytes of refcount blocks kept in memory; at least four blocks are.

    Raises:
        BlockIOError: the refcount table cannot be read, or is damaged.

    Concurrency: none of its own; the caller holds the node's metadata lock.
    """

    def __init__(
        self,
        file: BlockNode,
        geometry: Geometry,
        *,
        table_offset: int,
        table_clusters: int,
        metadata: MetadataMap,
        cache_size: int = 256 * KiB,
    ) -> None:
        self.metadata = metadata
        self._file = file
        self._bits = geometry.cluster_bits
        self._table = RefcountTable(
            file,
            geometry=geometry,
            offset=table_offset,
            clusters=table_clusters,
            metadata=metadata,
            cache_size=cache_size,
        )
        # Invariant: every free cluster below the cursor is in one of the runs, which do not
        # overlap, and none from the cursor on is.
        self._runs: deque[tuple[int, int]] = deque()
        self._cursor = 0
        self._ever_used = geometry.clusters(file.size)
        self._growth = Growth(file, geometry.cluster_bits)
        self._pending = Pending()

    def when_damaged(self, tell: Callable[[str], object]) -> None:
        """Let somebody know what is wrong with the image, before an error says so."""
        self._table.on_damage = tell

    @property
    def table_place(self) -> tuple[int, int]:
        """Where the refcount table is now: (offset in bytes, clusters). The header says so too."""
        return self._table.offset, self._table.clusters

    def refcount(self, host_offset: int) -> int:
        """Return the refcount of the cluster at ``host_offset``, pending frees not seen.

        Raises:
            BlockIOError: a refcount block cannot be read, or the image is damaged.
        """
        return int(self._table.get(host_offset >> self._bits, 1)[0])

    def first_unused(self, host_offsets: Words) -> int | None:
        """Return the first of these offsets whose cluster has refcount 0; ``None`` if all are used.

        What a table names must be used: otherwise the image is damaged.

        Raises:
            BlockIOError: as for ``refcount``.
        """
        clusters = host_offsets >> np.uint64(self._bits)
        unused = self._table.gather(clusters) == 0
        return int(clusters[unused.argmax()]) << self._bits if unused.any() else None

    def allocate(self, clusters: int) -> list[Allocation]:
        """Hand out free clusters: one run where there is one that is long enough.

        Args:
            clusters: how many; at least 1.

        Raises:
            BlockIOError: ENOSPC or EFBIG when there is no room; EIO when a refcount block cannot
                be read or the image is damaged. Nothing was handed out.
        """
        if not self._runs:
            self._search()
        start, end = self._runs[0]
        if end - start > clusters and (start + clusters) << self._bits <= self._file.size:
            allocation = self._claim(start, clusters)
            self._runs[0] = start + clusters, end
            return [allocation]
        fixed = self._growth.fixed
        try:
            return self._allocate_somewhere(clusters)
        except BlockIOError:
            if fixed == self._growth.fixed:
                raise
        self._drop_unreachable()
        # The file turned out to be a device, which does not grow; what it has may be enough.
        return self._allocate_somewhere(clusters)

    def give_back(self, allocations: list[Allocation]) -> None:
        """Take clusters back that nothing in the file names: they are free at once.

        Those whose refcounts cannot be read now are freed with what is freed later.
        """
        freed: list[tuple[int, int]] = []
        for host_offset, clusters, _ in allocations:
            for part in self._by_block(host_offset >> self._bits, clusters):
                try:
                    self._table.put(*part, 0)
                    freed.append(part)
                except BlockIOError:
                    self._pending.add(Free(*part, discard=False))
        for first, count in _joined(freed):
            self._add_free(first, count)

    def free_later(self, host_offset: int, clusters: int, *, discard: bool = False) -> None:
        """Drop one reference of each cluster of a run, once the tables without it are stable.

        Args:
            host_offset: where it begins in the file; a multiple of the cluster size.
            clusters: how many.
            discard: give the storage back to the file system or device when they become free.
        """
        self._pending.add(Free(host_offset >> self._bits, clusters, discard))

    def mark_pending(self) -> int:
        """Return a mark for ``release_pending``: it stands for what was freed up to now.

        To be taken when the tables are copied for writing: what is freed while they are on their
        way to the file is not released with them.
        """
        return self._pending.mark()

    def release_pending(self, mark: int | None = None) -> None:
        """Drop the references that are pending; the tables that no longer name them are stable.

        Args:
            mark: only what was pending at that ``mark_pending``; by default everything.

        Raises:
            BlockIOError: a refcount block cannot be read; or a refcount is 0 already (EIO), so the
                image is damaged. What was not released is pending still.
        """
        todo = self._pending.take(mark)[::-1]
        freed: list[tuple[int, int]] = []
        try:
            while todo:
                first, clusters, discard = todo[-1]
                # A block at a time, whose references are dropped all or none: what was dropped
                # before an error must not be dropped again.
                _, count = next(self._by_block(first, clusters))
                became_free = self._release(first, count)
                freed += became_free
                todo[-1] = Free(first + count, clusters - count, discard)
                if count == clusters:
                    todo.pop()
                if discard:
                    self._discard(became_free)
        finally:
            self._pending.put_back(todo)
            for first, clusters in _joined(freed):
                self._add_free(first, clusters)

    def write_dirty(self) -> bool:
        """Write all changed refcounts to the file; without a flush at the end.

        Returns:
            Whether there were any.

        Raises:
            BlockIOError: what was not written is known as changed still.
        """
        written = self._table.write_dirty()
        if self._release_old_tables():
            self._table.write_dirty()
        return written

    def close(self) -> None:
        """Write what is left and trim what the file has grown ahead. No request may be running.

        The pending frees are not released: that is for whoever knows that the tables are stable.

        Raises:
            BlockIOError: see ``write_dirty``; the file may be longer than needed.
        """
        self.write_dirty()
        self._growth.trim(self._last_used())

    def _claim(self, start: int, clusters: int) -> Allocation:
        """Set the refcounts of a free run, which is not taken out of the runs."""
        offset, end = start << self._bits, start + clusters
        what = self.metadata.hit(offset, clusters << self._bits)
        if what:
            raise self._damaged(offset, clusters, f"{what} at a cluster with refcount 0")
        self._growth.reach(end)
        try:
            self._table.put(start, clusters, 1)
        except BlockIOError:
            with contextlib.suppress(BlockIOError):  # it ends where the other one did
                self._table.put(start, clusters, 0)
            raise
        fresh = start >= self._ever_used
        if end > self._ever_used:
            self._ever_used = end
        return Allocation(offset, clusters, fresh)

    def _claim_of(self, position: int, clusters: int) -> Allocation:
        """Hand out the beginning of one of the runs."""
        start, end = self._runs[position]
        allocation = self._claim(start, clusters)
        if start + clusters < end:
            self._runs[position] = start + clusters, end
        else:
            del self._runs[position]
        return allocation

    def _allocate_somewhere(self, clusters: int) -> list[Allocation]:
        for position in range(min(len(self._runs), _LOOK_AHEAD)):
            start, end = self._runs[position]
            if end - start >= clusters:
                return [self._claim_of(position, clusters)]
        return self._allocate_pieces(clusters)

    def _allocate_pieces(self, clusters: int) -> list[Allocation]:
        taken: list[Allocation] = []
        try:
            while clusters:
                if not self._runs:
                    self._search()
                start, end = self._runs[0]
                taken.append(self._claim_of(0, min(clusters, end - start)))
                clusters -= taken[-1].clusters
        except BlockIOError:
            self.give_back(taken)
            raise
        return taken

    def _search(self) -> None:
        """Find free clusters from the cursor on, and note at least one run of them."""
        while not self._runs:
            first = self._cursor
            if self._growth.fixed and first >= self._growth.limit:
                raise self._growth.full()
            if not self._table.has_block(first):
                self._make_block(first)
            per_block = self._table.entries_per_block
            count = min(_WINDOW, per_block - first % per_block)
            free = self._table.get(first, count) == 0
            self._cursor = first + count
            bounds = (np.flatnonzero(np.diff(free, prepend=False, append=False)) + first).tolist()
            self._runs.extend(zip(bounds[::2], bounds[1::2], strict=True))
            self._drop_unreachable()

    def _make_block(self, cluster: int) -> None:
        """Let the cluster have a refcount block, with a longer table where it needs that."""
        if cluster >= self._table.covered:
            start, count = self._table.plan_growth(cluster)
            self._growth.reach(start + count)
            self._ever_used = max(self._ever_used, start + count)
            self._table.grow(cluster)
            self._release_old_tables()
        else:
            self._growth.reach(cluster + 1)
            self._ever_used = max(self._ever_used, cluster + 1)
            self._table.create_block(cluster)

    def _release_old_tables(self) -> bool:
        """Free the refcount tables that longer ones have replaced; say whether there were any."""
        old = self._table.take_old_tables()
        for offset, length in old:
            for part in self._by_block(offset >> self._bits, length >> self._bits):
                try:
                    freed = self._release(*part)
                except BlockIOError:
                    self._pending.add(Free(*part, discard=False))
                    continue
                for first, clusters in freed:
                    self._add_free(first, clusters)
        return bool(old)

    def _by_block(self, first: int, clusters: int) -> Iterator[tuple[int, int]]:
        """Part a run into what single refcount blocks describe: (first, clusters) of each."""
        per_block = self._table.entries_per_block
        while clusters:
            count = min(clusters, per_block - first % per_block)
            yield first, count
            first, clusters = first + count, clusters - count

    def _drop_unreachable(self) -> None:
        """Forget free clusters that a device of a fixed size does not have."""
        limit = self._growth.limit
        while self._growth.fixed and self._runs and self._runs[-1][1] > limit:
            start, _ = self._runs.pop()
            if start < limit:
                self._runs.append((start, limit))

    def _release(self, first: int, clusters: int) -> list[tuple[int, int]]:
        """Drop one reference of each cluster; return runs (first, count) that became free."""
        refcounts = self._table.get(first, clusters)
        if not refcounts.all():
            bad = first + int(np.argmin(refcounts != 0))
            raise self._damaged(bad << self._bits, 1, "a cluster in use has refcount 0")
        last_references = refcounts == 1
        if last_references.all():
            self._table.put(first, clusters, 0)
            return [(first, clusters)]
        self._table.put(first, clusters, refcounts - 1)
        bounds = np.flatnonzero(np.diff(last_references, prepend=False, append=False)).tolist()
        return [
            (first + low, high - low) for low, high in zip(bounds[::2], bounds[1::2], strict=True)
        ]

    def _add_free(self, first: int, clusters: int) -> None:
        """Note a run that has become free, unless the search is yet to come by."""
        end = min(first + clusters, self._cursor)
        if first < end:
            self._runs.appendleft((first, end))
        if len(self._runs) > _MOST_RUNS:
            self._runs.clear()
            self._cursor = 0

    def _discard(self, runs: list[tuple[int, int]]) -> None:
        for first, clusters in runs:
            with contextlib.suppress(BlockIOError):  # it only saves space
                self._file.discard(first << self._bits, clusters << self._bits)

    def _last_used(self) -> int:
        """First cluster behind the last one with a refcount, not below the first file size."""
        end, floor = self._ever_used, self._growth.first_size >> self._bits
        while end > floor:
            low = max(end - _WINDOW, floor)
            used = np.flatnonzero(self._table.get(low, end - low))
            if len(used):
                return low + int(used[-1]) + 1
            end = low
        return end

    def _damaged(self, offset: int, clusters: int, text: str) -> BlockIOError:
        length = clusters << self._bits
        self._table.on_damage(text)
        return BlockIOError("write", offset, length, errno.EIO, self._file.name, detail=text)


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join neighbours among runs (first, count), highest first."""
    found: list[tuple[int, int]] = []
    for first, count in sorted(runs):
        if found and sum(found[-1]) == first:
            found[-1] = found[-1][0], found[-1][1] + count
        else:
            found.append((first, count))
    return found[::-1]
