"""Where an image's own structures stand, so that data never overwrites them."""

from array import array
from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.qcow2.layout import Words, distinct

L2_TABLE = "an L2 table"
REFCOUNT_TABLE = "the refcount table"
REFCOUNT_BLOCK = "a refcount block"


class MetadataMap:
    """The host clusters that hold metadata of the active image and the tables of snapshots.

    Args:
        cluster_bits: logarithm of the cluster size.

    Concurrency: none of its own; the caller holds the node's metadata lock.
    """

    def __init__(self, cluster_bits: int) -> None:
        self._bits = cluster_bits
        # A sorted array of machine words: a look-up takes half a microsecond, and an image with
        # a million tables takes 8 MB. A set would take ten times that.
        self._clusters = array("Q")
        self._names: dict[int, str] = {}
        # Structures of more clusters: an image of many snapshots may have millions of clusters in
        # a few thousand of them. They do not overlap.
        self._firsts: list[int] = []
        self._areas: list[tuple[int, str]] = []
        self._bounds: tuple[Words, Words] | None = None

    def add(self, what: str, offset: int, length: int) -> None:
        """Note a structure of ``length`` bytes at ``offset`` in the file, which is aligned.

        Args:
            what: its name for messages, with an article.
            offset: where it begins; longer ones do not overlap.
            length: how much of the file it takes, rounded up to clusters.
        """
        first, last = self._span(offset, length)
        if first < last:
            position = bisect_left(self._firsts, first)
            self._firsts.insert(position, first)
            self._areas.insert(position, (last, what))
            self._bounds = None
            return
        self._clusters.insert(bisect_left(self._clusters, first), first)
        if what != L2_TABLE:
            self._names[first] = what

    def add_tables(self, offsets: NDArray[np.unsignedinteger]) -> None:
        """Note many structures of one cluster each, such as all L2 tables that an L1 table names.

        Those that are noted already, or twice, count once.
        """
        found = offsets.astype(np.uint64) >> np.uint64(self._bits)
        merged = distinct(np.concatenate([np.frombuffer(self._clusters, np.uint64), found]))
        self._clusters = array("Q", merged.tobytes())

    def remove(self, offset: int, length: int) -> None:
        """Forget a structure, or a table, that has moved away or is no longer used."""
        first, last = self._span(offset, length)
        low, high = bisect_left(self._clusters, first), bisect_left(self._clusters, last + 1)
        for cluster in self._clusters[low:high]:
            self._names.pop(cluster, None)
        del self._clusters[low:high]
        low, high = bisect_left(self._firsts, first), bisect_left(self._firsts, last + 1)
        if low < high:
            del self._firsts[low:high], self._areas[low:high]
            self._bounds = None

    def hit(self, offset: int, length: int) -> str:
        """Say which structure a range of the file would overwrite; empty where none.

        Args:
            offset: first byte of the range in the file.
            length: in bytes, at least 1.
        """
        first, last = offset >> self._bits, (offset + length - 1) >> self._bits
        area = bisect_right(self._firsts, last) - 1
        if area >= 0 and self._areas[area][0] >= first:
            return self._areas[area][1]
        clusters = self._clusters
        position = bisect_left(clusters, first)
        if position >= len(clusters) or clusters[position] > last:
            return ""
        return self._names.get(clusters[position], L2_TABLE)

    def hits(self, offsets: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
        """Say of each of many offsets whether a structure stands in its cluster."""
        clusters = offsets.astype(np.uint64) >> np.uint64(self._bits)
        found = np.zeros(len(clusters), bool)
        if self._clusters:
            known = np.frombuffer(self._clusters, np.uint64)
            positions = np.minimum(np.searchsorted(known, clusters), len(known) - 1)
            found |= known[positions] == clusters
        if self._firsts:
            if self._bounds is None:
                lasts = [last for last, _ in self._areas]
                self._bounds = np.array(self._firsts, np.uint64), np.array(lasts, np.uint64)
            firsts, ends = self._bounds
            areas = np.searchsorted(firsts, clusters, "right") - 1
            found |= (areas >= 0) & (clusters <= ends[areas])
        return found

    def _span(self, offset: int, length: int) -> tuple[int, int]:
        return offset >> self._bits, (offset + max(length, 1) - 1) >> self._bits
