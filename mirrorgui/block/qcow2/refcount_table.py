"""The refcounts of an image: the table, its blocks in a bounded cache, and how they are written.

What is written when: a block that is new, then (with a flush between) the entry of the table that
names it. A new table and its blocks, then the header that names them. So a process that is killed
leaves refcounts that are too high at most.

What fails changes nothing here, or is done again by the next ``write_dirty``: a header that could
not be written, or not be flushed, may name either table, so the old one is kept until it does not.
"""

import errno
import struct
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.layout import (
    MAX_REFCOUNT_TABLE_SIZE,
    SECTOR,
    Geometry,
    Words,
    words_from,
    words_to,
)
from mirrorgui.block.qcow2.metadata import REFCOUNT_BLOCK, REFCOUNT_TABLE, MetadataMap
from mirrorgui.block.qcow2.refcounts import RefcountBlock, refcount_dtype
from mirrorgui.errors import BlockIOError
from mirrorgui.units import KiB, align_down, align_up

_TABLE_FIELDS = struct.Struct(">QI")
_TABLE_FIELDS_OFFSET = 48
"""Where the header names the refcount table: its offset and how many clusters it has."""

_FEWEST_BLOCKS = 4
"""QEMU keeps as many: one that is filled, one that is searched, and two that frees touch."""

_CACHE = 256 * KiB
_ENTRY = 8


class RefcountTable:
    """Refcounts by cluster number, read from and written to the file of an image.

    Args:
        file: the node that stores the image.
        geometry: of the image.
        offset: where the table begins in the file.
        clusters: how many clusters the table has.
        metadata: where refcount blocks and the table are noted.
        cache_size: bytes of refcount blocks kept in memory; at least four blocks are.

    Attributes:
        offset, clusters: where the table is now.
        entries_per_block: refcounts in a refcount block.
        on_damage: told what is wrong before an error says so.

    Raises:
        BlockIOError: the table cannot be read, or is damaged (EIO, with what is wrong).

    Concurrency: none of its own; the caller holds the node's metadata lock.
    """

    def __init__(
        self,
        file: BlockNode,
        *,
        geometry: Geometry,
        offset: int,
        clusters: int,
        metadata: MetadataMap,
        cache_size: int = _CACHE,
    ) -> None:
        self.on_damage: Callable[[str], object] = _ignore
        self._file = file
        self._bits = geometry.cluster_bits
        self._size = geometry.cluster_size
        self._order = geometry.refcount_order
        self._metadata = metadata
        self.offset = offset
        self.clusters = clusters
        self.entries_per_block = geometry.refcount_block_entries
        self._limit = max(cache_size // self._size, _FEWEST_BLOCKS)
        self._blocks: OrderedDict[int, RefcountBlock] = OrderedDict()
        self._dirty_entries: set[int] = set()
        self._old_tables: list[tuple[int, int]] = []
        self._is_named = True
        self._table = self._read_table()
        self._note_blocks()

    @property
    def covered(self) -> int:
        """First cluster that the table has no room to describe."""
        return len(self._table) * self.entries_per_block

    @property
    def blocks(self) -> Words:
        """Where the refcount blocks stand in the file, by the clusters that they describe.

        0 where there is none. Not to be written to.
        """
        return self._table

    def check(self) -> None:
        """Check that every block stands in the file, at a place of its own.

        Raises:
            BlockIOError: EIO; one does not, so the table is damaged.
        """
        for index in np.flatnonzero(self._table).tolist():
            self._check_entry(index)

    def has_block(self, cluster: int) -> bool:
        """Say whether there is a refcount block for a cluster; without one it is free."""
        index = cluster // self.entries_per_block
        return index < len(self._table) and self._table[index] != 0

    def get(self, cluster: int, count: int) -> NDArray[np.unsignedinteger]:
        """Return the refcounts of ``count`` clusters; not to be written to.

        Raises:
            BlockIOError: a block cannot be read, or the table is damaged there.
        """
        index, first = divmod(cluster, self.entries_per_block)
        if first + count <= self.entries_per_block:
            block = self._load(index)
            return block.get(first, count) if block else self._no_refcounts(count)
        parts = []
        while count:
            there = min(count, self.entries_per_block - cluster % self.entries_per_block)
            parts.append(self.get(cluster, there))
            cluster, count = cluster + there, count - there
        return np.concatenate(parts)

    def put(self, cluster: int, count: int, refcounts: int | NDArray[np.unsignedinteger]) -> None:
        """Set the refcounts of ``count`` clusters, which have blocks: one value, or one each.

        Raises:
            BlockIOError: as for ``get``; those before the damaged block are set.
        """
        done = 0
        while done < count:
            index, first = divmod(cluster + done, self.entries_per_block)
            there = min(count - done, self.entries_per_block - first)
            block = self._load(index)
            if block is None:
                raise self._damaged(self._entry_offset(index), "a refcount block is missing")
            part = refcounts if isinstance(refcounts, int) else refcounts[done : done + there]
            block.put(first, there, part)
            done += there

    def gather(self, clusters: Words) -> NDArray[np.uint64]:
        """Return the refcounts of clusters that are anywhere, in their order.

        Raises:
            BlockIOError: as for ``get``.
        """
        order = np.argsort(clusters, kind="stable")
        ordered = clusters[order]
        blocks = ordered // np.uint64(self.entries_per_block)
        starts = np.flatnonzero(np.diff(blocks, prepend=np.uint64(1 << 63))).tolist()
        found = np.empty(len(clusters), np.uint64)
        for low, high in pairwise([*starts, len(ordered)]):
            first = int(ordered[low])
            refcounts = self.get(first, int(ordered[high - 1]) - first + 1)
            found[order[low:high]] = refcounts[ordered[low:high] - np.uint64(first)]
        return found

    def create_block(self, cluster: int, place: int | None = None) -> None:
        """Make the refcount block that describes a cluster; the table must have room for it.

        Args:
            cluster: one that has no block yet.
            place: where the block stands: a free cluster that it describes itself; by default the
                first one. The file must reach behind it before the next ``write_dirty``.

        Raises:
            BlockIOError: something else stands there, so the image is damaged.
        """
        index = cluster // self.entries_per_block
        first = index * self.entries_per_block
        offset = (first if place is None else place) << self._bits
        what = self._metadata.hit(offset, self._size)
        if what:
            raise self._damaged(offset, f"{what} has no refcount")
        block = RefcountBlock(bytearray(self._size), self._order)
        block.put((offset >> self._bits) - first, 1, 1)
        block.mark_dirty(0, self._size)
        self._make_room()
        self._blocks[index] = block
        self._table[index] = offset
        self._dirty_entries.add(index)
        self._metadata.add(REFCOUNT_BLOCK, offset, self._size)

    def write_dirty(self) -> bool:
        """Write everything that differs from the file, in an order that is safe.

        Returns:
            Whether anything was written.

        Raises:
            BlockIOError: what was not written is still known as dirty.
        """
        written = False
        for index, block in self._blocks.items():
            if block.dirty:
                self._write_block(index, block)
                written = True
        if self._dirty_entries:
            self._file.flush()  # no entry may name a block that a crash has lost
            self._write_entries()
            written = True
        if not self._is_named:
            self._name_table()
            written = True
        return written

    def plan_growth(self, cluster: int) -> tuple[int, int]:
        """Say where a longer table goes, so that it can describe a cluster.

        Returns:
            The first cluster of the area for the new table and the refcount blocks that describe
            this area, and how many clusters it takes. It begins where the old table ends.

        Raises:
            BlockIOError: EFBIG; QEMU would not open an image with a longer table.
        """
        first = self.covered
        blocks, table = self._growth(cluster)
        return first, blocks + table

    def grow(self, cluster: int) -> None:
        """Replace the table by a longer one that can describe a cluster.

        The file must reach behind what ``plan_growth`` has said. See ``take_old_tables`` for what
        becomes of the old one.

        Raises:
            BlockIOError: the old table is still the valid one; or the new one is, and the header
                is written again by the next ``write_dirty``.
        """
        first = self.covered
        blocks, table = self._growth(cluster)
        what = self._metadata.hit(first << self._bits, (blocks + table) << self._bits)
        if what:
            raise self._damaged(first << self._bits, f"{what} has no refcount")
        self.write_dirty()
        per_block = self.entries_per_block
        new = np.zeros(table * self._size // _ENTRY, np.uint64)
        new[: len(self._table)] = self._table
        for number in range(blocks):
            block = RefcountBlock(bytearray(self._size), self._order)
            block.put(0, min(per_block, blocks + table - number * per_block), 1)
            self._file.write((first + number) << self._bits, block.data)
            new[first // per_block + number] = (first + number) << self._bits
        offset = (first + blocks) << self._bits
        self._file.write(offset, words_to(new))
        self._file.flush()
        self._old_tables.append((self.offset, self.clusters << self._bits))
        self._metadata.add(REFCOUNT_TABLE, offset, table << self._bits)
        for number in range(blocks):
            self._metadata.add(REFCOUNT_BLOCK, (first + number) << self._bits, self._size)
        self._table, self.offset, self.clusters = new, offset, table
        self._is_named = False
        self._name_table()

    def take_old_tables(self) -> list[tuple[int, int]]:
        """Hand over tables that nothing names any more: offset and length in bytes of each.

        Their clusters still have refcounts.
        """
        if not self._is_named:
            return []
        old, self._old_tables = self._old_tables, []
        for each in old:
            self._metadata.remove(*each)
        return old

    def _name_table(self) -> None:
        """Let the header name the table, which is stable."""
        self._file.write(_TABLE_FIELDS_OFFSET, _TABLE_FIELDS.pack(self.offset, self.clusters))
        self._file.flush()
        self._is_named = True

    def _growth(self, cluster: int) -> tuple[int, int]:
        """How many new blocks and table clusters are needed; half as much again as before."""
        longest = MAX_REFCOUNT_TABLE_SIZE // _ENTRY
        least = cluster // self.entries_per_block + 1
        entries = max(least, min(len(self._table) * 3 // 2, longest))
        blocks = table = 0
        while True:
            entries = max(entries, -(-(self.covered + blocks + table) // self.entries_per_block))
            if entries > longest:
                text = f"its refcount table would be longer than {MAX_REFCOUNT_TABLE_SIZE} bytes"
                raise BlockIOError("write", 0, 0, errno.EFBIG, self._file.name, detail=text)
            before = blocks, table
            table = -(-entries * _ENTRY // self._size)
            blocks = -(-(blocks + table) // self.entries_per_block)
            if before == (blocks, table):
                return blocks, table

    def _read_table(self) -> NDArray[np.uint64]:
        length = self.clusters << self._bits
        if not 0 < length <= MAX_REFCOUNT_TABLE_SIZE:
            raise self._damaged(_TABLE_FIELDS_OFFSET, f"a refcount table of {length} bytes")
        if self.offset + length > self._file.size:
            raise self._damaged(_TABLE_FIELDS_OFFSET, "the refcount table is cut off")
        raw = bytearray(length)
        self._file.read_into(self.offset, raw)
        return words_from(raw)

    def _note_blocks(self) -> None:
        """Let nothing else be written where the blocks are, and no block over anything else."""
        offsets = self._table[self._table != 0]
        # An entry that is wrong is found when it is used, as the rest may serve well.
        sound = offsets[(offsets & np.uint64(self._size - 1)) == 0]
        self._wrong = self._clashing(sound)
        self._metadata.add(REFCOUNT_TABLE, self.offset, self.clusters << self._bits)
        self._metadata.add_tables(sound)

    def _clashing(self, offsets: NDArray[np.uint64]) -> set[int]:
        """Return blocks that stand where something else does, or twice."""
        found, times = np.unique(offsets, return_counts=True)
        wrong = set(found[times > 1].tolist())
        table = self.offset, self.offset + (self.clusters << self._bits)
        wrong.update(found[(found >= table[0]) & (found < table[1])].tolist())
        wrong.update(one for one in found.tolist() if self._metadata.hit(one, self._size))
        return wrong

    def _load(self, index: int) -> RefcountBlock | None:
        """Return a block through the cache; ``None`` where the table has none."""
        block = self._blocks.get(index)
        if block is not None:
            self._blocks.move_to_end(index)
            return block
        if index >= len(self._table) or self._table[index] == 0:
            return None
        offset = self._check_entry(index)
        block = RefcountBlock(bytearray(self._size), self._order)
        self._file.read_into(offset, block.data)
        self._make_room()
        self._blocks[index] = block
        return block

    def _check_entry(self, index: int) -> int:
        """Return where a block stands, if that can be."""
        offset = int(self._table[index])
        if offset & (self._size - 1):
            raise self._damaged(self._entry_offset(index), f"a refcount block at {offset}")
        if offset in self._wrong:
            text = f"a refcount block at {offset}, where something else is"
            raise self._damaged(self._entry_offset(index), text)
        if offset + self._size > self._file.size:
            text = f"a refcount block at {offset}, behind the end of the file"
            raise self._damaged(self._entry_offset(index), text)
        return offset

    def _make_room(self) -> None:
        """Let the cache have room for a block that comes next.

        Before the block is put in, so that none is left there half known when this fails.
        """
        while len(self._blocks) >= self._limit:
            oldest, other = next(iter(self._blocks.items()))
            if other.dirty:
                self._write_block(oldest, other)
            del self._blocks[oldest]

    def _write_block(self, index: int, block: RefcountBlock) -> None:
        low = align_down(block.dirty_low, SECTOR)
        high = align_up(block.dirty_high, SECTOR)
        offset = int(self._table[index])
        self._file.write(offset + low, memoryview(block.data)[low:high])
        block.mark_clean()

    def _write_entries(self) -> None:
        """Write the entries of the table that have changed, and none between them."""
        for low, high in _runs(sorted(self._dirty_entries)):
            self._file.write(self._entry_offset(low), words_to(self._table[low:high]))
        self._dirty_entries.clear()

    def _entry_offset(self, index: int) -> int:
        return self.offset + index * _ENTRY

    def _no_refcounts(self, count: int) -> NDArray[np.unsignedinteger]:
        return np.zeros(count, refcount_dtype(self._order))

    def _damaged(self, offset: int, text: str) -> BlockIOError:
        self.on_damage(text)
        return BlockIOError("read", offset, 0, errno.EIO, self._file.name, detail=text)


def _ignore(text: str) -> None:
    """Leave it to the error."""


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Join neighbours: from (1, 2, 3, 7) to (1, 4), (7, 8)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = found[-1][0], number + 1
        else:
            found.append((number, number + 1))
    return found
