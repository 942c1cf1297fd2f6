"""Repairing what a crash leaves of an image with lazy refcounts: the dirty bit says so.

All references are counted, and the refcounts set to what was counted; then the flags in L1 and L2
entries that say whether a refcount is one. The dirty bit is cleared last, so that a crash on the
way only means to begin again. What no crash of that kind can leave is refused: a reference to
outside the file, or to another structure.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.bits import FeatureBits
from mirrorgui.block.qcow2.features import Incompatible
from mirrorgui.block.qcow2.header import Header
from mirrorgui.block.qcow2.layout import (
    COMPRESSED,
    COPIED,
    OFFSET_MASK,
    Words,
    distinct,
    words_to,
)
from mirrorgui.block.qcow2.metadata import REFCOUNT_BLOCK, MetadataMap
from mirrorgui.block.qcow2.refcount_table import RefcountTable
from mirrorgui.block.qcow2.refcounts import highest_refcount
from mirrorgui.block.qcow2.references import Clusters, References
from mirrorgui.block.qcow2.structures import read_structures
from mirrorgui.errors import BlockIOError, ImageError

_log = logging.getLogger(__name__)

_WINDOW_BITS = 24
"""Clusters counted at a time, as a power of two: 64 MiB of counters, for 1 TiB in 64 KiB clusters.

A window holds whole refcount blocks: none has more entries than 1 << 24.
"""

_LOW = (1 << _WINDOW_BITS) - 1
_ALL = (1 << 64) - 1
_U = np.uint64


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was wrong and is right now, in clusters or entries.

    Attributes:
        raised: refcounts that were too low.
        lowered: refcounts that were too high: leaks.
        blocks: refcount blocks that were missing.
        flags: entries of L1 and L2 tables whose flag was wrong.
    """

    raised: int = 0
    lowered: int = 0
    blocks: int = 0
    flags: int = 0


def repair(file: BlockNode, header: Header, *, field: str = "filename") -> RepairReport:
    """Repair a dirty image, and clear its dirty bit in the file.

    Args:
        file: the node that stores the image, open for writing; nobody else uses it.
        header: the image's; its dirty bit is stale afterwards.
        field: the option that named the image, for refusals.

    Raises:
        BlockIOError: it cannot be read or written; the image is dirty still.
        ImageError: it is damaged beyond what can be repaired here, and dirty still. Nothing was
            written, unless it has more than 1 << 24 clusters: then some refcounts may be right now.
    """
    report = _Repair(file, header, field).run()
    bits = FeatureBits(file, header)
    bits.clear(Incompatible.DIRTY)
    file.flush()
    _log.info("repaired %s: %s", file.name, report)
    return report


class _Repair:
    """One repair."""

    def __init__(self, file: BlockNode, header: Header, field: str) -> None:
        self._file = file
        self._header = header
        self._field = field
        self._bits = header.cluster_bits
        self._structures = read_structures(file, header, field)
        self._references = References(file, header, self._structures, field)
        self._table = self._read_table()
        self._per_block = self._table.entries_per_block
        self._span = self._counted_span()
        self._raised = self._lowered = self._blocks = self._flags = 0

    def run(self) -> RepairReport:
        """Do all of it; the tables are stable afterwards."""
        counts, windows = self._count_first()
        for window in sorted(windows):
            if window:
                counts = self._count(window)
            self._check_counts(window, counts)
            self._check_structures(window, counts)
            self._set_refcounts(window, counts)
        self._table.write_dirty()
        self._file.flush()
        self._repair_flags()
        self._file.flush()
        return RepairReport(self._raised, self._lowered, self._blocks, self._flags)

    def _read_table(self) -> RefcountTable:
        metadata = MetadataMap(self._bits)
        self._structures.add_to(metadata)
        try:
            table = RefcountTable(
                self._file,
                geometry=self._header.geometry,
                offset=self._header.refcount_table_offset,
                clusters=self._header.refcount_table_clusters,
                metadata=metadata,
            )
            table.check()
        except BlockIOError as error:
            if not error.detail:
                raise
            raise self._beyond(error.offset, error.detail) from error
        return table

    # Counting

    def _walk(self) -> Iterator[tuple[Clusters, int]]:
        yield self._block_clusters(), 1
        yield from self._references.walk()

    def _block_clusters(self) -> Clusters:
        offsets = self._table.blocks
        clusters: Clusters = offsets[offsets != 0] >> _U(self._bits)
        return clusters

    def _counted_span(self) -> int:
        """Return how many clusters to count at a time: whole refcount blocks, a window at most."""
        described = np.flatnonzero(self._table.blocks)
        blocks = int(described[-1]) + 1 if len(described) else 1
        clusters = self._header.geometry.clusters(self._file.size)
        blocks = max(blocks, -(-clusters // self._per_block))
        return min(blocks * self._per_block, 1 << _WINDOW_BITS)

    def _count_first(self) -> tuple[NDArray[np.uint32], set[int]]:
        """Look at every reference before anything is written; count those of the first window.

        Returns:
            The counts, and which windows have references or refcount blocks.
        """
        counts = np.zeros(self._span, np.uint32)
        described = np.flatnonzero(self._table.blocks) * self._per_block >> _WINDOW_BITS
        windows = {0, *distinct(described).tolist()}
        for clusters, times in self._walk():
            windows.update(distinct(clusters >> _U(_WINDOW_BITS)).tolist())
            _add(counts, 0, clusters, times)
        return counts, windows

    def _count(self, window: int) -> NDArray[np.uint32]:
        counts = np.zeros(self._span, np.uint32)
        for clusters, times in self._walk():
            _add(counts, window, clusters, times)
        return counts

    def _check_structures(self, window: int, counts: NDArray[np.uint32]) -> None:
        """Check that nothing but the header references what the header names."""
        blocks = self._block_clusters()
        mine = blocks[blocks >> _U(_WINDOW_BITS) == window]
        shared = mine[counts[mine & _U(_LOW)] != 1]
        if len(shared):
            raise self._shared(REFCOUNT_BLOCK, int(shared[0]))
        for each in self._structures.named:
            first = each.offset >> self._bits
            for cluster in range(first, first + self._header.geometry.clusters(each.length)):
                if cluster >> _WINDOW_BITS == window and counts[cluster & _LOW] != 1:
                    raise self._shared(each.what, cluster)

    def _check_counts(self, window: int, counts: NDArray[np.uint32]) -> None:
        """Check that refcounts can say what was counted."""
        first = window << _WINDOW_BITS
        most, highest = highest_refcount(self._header.refcount_order), int(counts.argmax())
        if int(counts[highest]) > most:
            at = (first + highest) << self._bits
            raise self._beyond(at, f"the cluster has more references than {most}")
        for number in self._needed_blocks(window, counts):
            cluster = first + number * self._per_block
            if cluster >= self._table.covered:
                text = "the refcount table is too short for it, and it is in use"
                raise self._beyond(cluster << self._bits, text)
            start = number * self._per_block
            if not self._table.has_block(cluster) and counts[start:][: self._per_block].all():
                text = "there is no refcount block for it, nor room for one"
                raise self._beyond(cluster << self._bits, text)

    # Setting what was counted

    def _set_refcounts(self, window: int, counts: NDArray[np.uint32]) -> None:
        for number in self._needed_blocks(window, counts):
            wanted = counts[number * self._per_block :][: self._per_block]
            cluster = (window << _WINDOW_BITS) + number * self._per_block
            if not self._table.has_block(cluster):
                self._add_block(cluster, wanted)
            self._set_block(cluster, wanted)

    def _needed_blocks(self, window: int, counts: NDArray[np.uint32]) -> list[int]:
        """Return which refcount blocks of a window there are, or have to be; from 0."""
        first = (window << _WINDOW_BITS) // self._per_block
        by_block = counts.reshape(-1, self._per_block)
        described = self._table.blocks[first : first + len(by_block)] != 0
        needed: NDArray[np.bool_] = np.logical_or.reduce(by_block != 0, axis=1)
        needed[: len(described)] |= described
        numbers: list[int] = np.flatnonzero(needed).tolist()
        return numbers

    def _set_block(self, cluster: int, wanted: NDArray[np.uint32]) -> None:
        refcounts = self._table.get(cluster, self._per_block)
        raised, lowered = int((refcounts < wanted).sum()), int((refcounts > wanted).sum())
        if raised or lowered:
            self._raised += raised
            self._lowered += lowered
            self._table.put(cluster, self._per_block, wanted)

    def _add_block(self, cluster: int, wanted: NDArray[np.uint32]) -> None:
        """Make a refcount block that the table lacks, in a free cluster that it describes."""
        free = int(wanted.argmin())
        end = (cluster + free + 1) << self._bits
        if end > self._file.size:
            self._file.resize(end)
        self._table.create_block(cluster, cluster + free)
        wanted[free] = 1
        self._blocks += 1

    # Flags

    def _repair_flags(self) -> None:
        """Let the flag "refcount is one" be true in all tables that the active L1 table names."""
        header = self._header
        for place, words in self._references.read_words(header.l1_offset, header.l1_entries):
            offsets = words & _U(OFFSET_MASK)
            self._write_changes(place, words, self._flagged(words, offsets))
            for where, entries in self._references.read_l2(distinct(offsets[offsets != 0])):
                self._write_changes(where, entries, self._flagged_l2(entries))

    def _flagged(self, words: Words, offsets: Words) -> Words:
        """Return entries with the flag set where the cluster at the offset has one reference."""
        named = offsets != 0
        single = np.zeros(len(words), bool)
        single[named] = self._table.gather(offsets[named] >> _U(self._bits)) == 1
        return np.where(single, words | _U(COPIED), words & _U(~COPIED & _ALL))

    def _flagged_l2(self, words: Words) -> Words:
        if self._header.has_data_file:  # nothing is counted there, and everything is flagged
            return words
        step = self._header.geometry.l2_entry_size // 8
        entries = words[::step]
        packed = (entries & _U(COMPRESSED)) != 0
        flagged = words.copy()
        flagged[::step] = self._flagged(entries, np.where(packed, _U(0), entries & _U(OFFSET_MASK)))
        return flagged

    def _write_changes(self, place: int, old: Words, new: Words) -> None:
        changed = np.flatnonzero(old != new)
        if len(changed):
            low, high = int(changed[0]), int(changed[-1]) + 1
            self._file.write(place + low * 8, words_to(new[low:high]))
            self._flags += len(changed)

    def _shared(self, what: str, cluster: int) -> ImageError:
        return self._beyond(cluster << self._bits, f"{what} is referenced as something else too")

    def _beyond(self, offset: int, reason: str) -> ImageError:
        text = f"{reason}; try qemu-img check -r all on a copy of it"
        return ImageError(self._field, self._file.name, offset, text)


def _add(counts: NDArray[np.uint32], window: int, clusters: Clusters, times: int) -> None:
    """Count references to clusters of a window."""
    mine = clusters[clusters >> _U(_WINDOW_BITS) == window]
    np.add.at(counts, mine & _U(_LOW), np.uint32(times))
