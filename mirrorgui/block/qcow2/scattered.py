"""Writing many new clusters that lie apart for the guest: side by side in the file, in one go.

What a mirror copies is often scattered. Cluster by cluster, finding a place and naming it takes
longer than moving the data.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mirrorgui.block.node import Range
from mirrorgui.block.qcow2.allocator import Allocation
from mirrorgui.block.qcow2.image import Image
from mirrorgui.block.qcow2.layout import COPIED, ZERO, Words
from mirrorgui.block.qcow2.tables import L2Table
from mirrorgui.block.qcow2.writeback import WriteBack
from mirrorgui.errors import BlockIOError

_U = np.uint64


@dataclass(frozen=True, slots=True)
class _Plan:
    """Clusters that get their data now; they are claimed, and their table is pinned.

    Attributes:
        table: which will name them.
        indices: of the clusters in the table, in the order of their data.
        taken: their places, in the same order.
        claim: to be released. It also covers what lies between them, so that it is one.
    """

    table: L2Table
    indices: Words
    taken: list[Allocation]
    claim: tuple[int, int]


class ScatteredWriter:
    """The way of a write to several ranges of whole clusters of which none has a place.

    Args:
        image: open for writing.
        write_back: told of what a table names.
    """

    def __init__(self, image: Image, write_back: WriteBack) -> None:
        assert image.allocator is not None
        self._image = image
        self._allocator = image.allocator
        self._write_back = write_back

    def write(self, ranges: Sequence[Range], data: memoryview) -> bool:
        """Write guest bytes, if all ranges are of that kind, under one table, and free to be taken.

        Returns:
            Whether it was done; otherwise nothing has changed.

        Raises:
            BlockIOError: from a file below, or EIO where the image is damaged.
        """
        with self._image.lock:
            plan = self._plan(ranges)
        if plan is None:
            return False
        self._carry_out(plan, data)
        return True

    def _plan(self, ranges: Sequence[Range]) -> _Plan | None:
        image, geometry = self._image, self._image.geometry
        if geometry.extended_l2 or geometry.data_file:
            return None
        bits, below = geometry.cluster_bits, geometry.cluster_size - 1
        l1_index, start = image.tables.position(ranges[0][0])
        first, last = 0, geometry.l2_entries
        indices: list[int] = []
        for offset, length in ranges:
            if (offset | length) & below:
                return None
            first = (offset - start) >> bits
            if first < 0 or first + (length >> bits) > last:
                return None
            indices.extend(range(first, first + (length >> bits)))
        low, high = min(indices) + (start >> bits), max(indices) + 1 + (start >> bits)
        if image.requests.first_claimed(low, high) is not None:
            return None  # who finishes first decides what the others find
        table = image.tables.find(l1_index)
        image.damage.check("write", ranges[0][0], len(indices) << bits)
        wanted: Words = np.array(indices, np.uint64)
        if table is not None and not self._is_free(table, wanted):
            return None
        try:
            table = image.tables.writable(l1_index)
            taken = self._allocator.allocate(len(indices))
        except BlockIOError as error:
            if error.errno != errno.ENOSPC:
                raise
            return None  # one by one, what was freed comes into use again
        table.pins += 1
        return _Plan(table, wanted, taken, image.requests.claim(low, high))

    @staticmethod
    def _is_free(table: L2Table, indices: Words) -> bool:
        if table.broken is not None and table.broken[indices].any():
            return False
        return bool((table.entries[indices] <= _U(ZERO)).all())

    def _carry_out(self, plan: _Plan, data: memoryview) -> None:
        """Write the data of a plan, then let the table name its places."""
        bits = self._image.geometry.cluster_bits
        start = 0
        with self._write_back.naming(plan, lambda: self._name(plan)):
            for each in plan.taken:
                length = each.clusters << bits
                self._image.store.write(each.host_offset, data[start : start + length])
                start += length

    def _name(self, plan: _Plan) -> None:
        """Let the table name the places that have been written."""
        bits = self._image.geometry.cluster_bits
        first = 0
        for each in plan.taken:
            last = first + each.clusters
            steps = np.arange(each.clusters, dtype=np.uint64) << _U(bits)
            plan.table.entries[plan.indices[first:last]] = steps + _U(each.host_offset | COPIED)
            first = last
        low, high = int(plan.indices.min()), int(plan.indices.max()) + 1
        self._image.tables.note(plan.table, low, high)
