"""Where an image's own structures stand, so that data never overwrites them."""

from array import array
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

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
        self._named: list[tuple[str, int, int]] = []

    def add(self, what: str, offset: int, length: int) -> None:
        """Note a structure of ``length`` bytes at ``offset`` in the file, which is aligned.

        Args:
            what: its name for messages, with an article.
            offset: where it begins.
            length: how much of the file it takes, rounded up to clusters.
        """
        first, last = self._span(offset, length)
        position = bisect_left(self._clusters, first)
        self._clusters[position:position] = array("Q", range(first, last + 1))
        if what != L2_TABLE:
            self._named.append((what, first, last))

    def add_tables(self, offsets: NDArray[np.unsignedinteger]) -> None:
        """Note many structures of one cluster each, such as all L2 tables that an L1 table names.

        Those that are noted already, or twice, count once.
        """
        found = np.unique(offsets.astype(np.uint64) >> np.uint64(self._bits))
        merged = np.union1d(np.frombuffer(self._clusters, np.uint64), found)
        self._clusters = array("Q", merged.tobytes())

    def remove(self, offset: int, length: int) -> None:
        """Forget a structure, or a table, that has moved away or is no longer used."""
        first, last = self._span(offset, length)
        low = bisect_left(self._clusters, first)
        high = bisect_left(self._clusters, last + 1)
        del self._clusters[low:high]
        self._named = [entry for entry in self._named if not first <= entry[1] <= last]

    def hit(self, offset: int, length: int) -> str:
        """Say which structure a range of the file would overwrite; empty where none.

        Args:
            offset: first byte of the range in the file.
            length: in bytes, at least 1.
        """
        clusters = self._clusters
        first, last = offset >> self._bits, (offset + length - 1) >> self._bits
        position = bisect_left(clusters, first)
        if position >= len(clusters) or clusters[position] > last:
            return ""
        return self._name_of(clusters[position])

    def hits(self, offsets: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
        """Say of each of many offsets whether a structure stands in its cluster."""
        clusters = offsets.astype(np.uint64) >> np.uint64(self._bits)
        if not self._clusters:
            return np.zeros(len(clusters), bool)
        known = np.frombuffer(self._clusters, np.uint64)
        positions = np.minimum(np.searchsorted(known, clusters), len(known) - 1)
        found: NDArray[np.bool_] = known[positions] == clusters
        return found

    def _span(self, offset: int, length: int) -> tuple[int, int]:
        return offset >> self._bits, (offset + max(length, 1) - 1) >> self._bits

    def _name_of(self, cluster: int) -> str:
        for what, first, last in self._named:
            if first <= cluster <= last:
                return what
        return L2_TABLE
