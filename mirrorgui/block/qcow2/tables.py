"""L1 and L2 tables: reading them into a bounded cache, changing them in memory.

Changes stay in memory until ``WriteBack`` takes them. A new table is not named by the file's L1
table before it has been written, so it may be written at any time.
"""

import errno
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mirrorgui.block.node import BlockNode, Range
from mirrorgui.block.qcow2.header import Header
from mirrorgui.block.qcow2.layout import (
    COMPRESSED,
    COPIED,
    MAX_HOST_OFFSET,
    OFFSET_MASK,
    Kind,
    Words,
    words_from,
    words_to,
)
from mirrorgui.block.qcow2.metadata import L2_TABLE, MetadataMap
from mirrorgui.block.qcow2.runs import Run, broken_entries, run_in_cluster, runs_of
from mirrorgui.errors import BlockIOError, ImageError
from mirrorgui.units import MiB, align_down, align_up

MAX_CACHE = 32 * MiB
"""Bytes of L2 tables kept by default at most, as in QEMU: enough for 256 GiB in 64 KiB clusters."""

_FEWEST_TABLES = 4
_WRITE_UNIT = 4096
"""Changed entries are written in whole pages, never in parts of one."""

_L1_STEP = 64
"""L1 entries looked at first, for the next one that names a table."""

_L1_RESERVED = ~(OFFSET_MASK | COPIED) & 0xFFFF_FFFF_FFFF_FFFF
_U = np.uint64


class L2Table:
    """One table in memory. Who changes entries says so by ``changed``.

    Attributes:
        l1_index: which entry of the L1 table names it.
        offset: where it stands in the file.
        entries: first words.
        bitmaps: second words where entries are extended.
        broken: which entries contradict the format; ``None`` where none does.
        pins: how many still need exactly this object; it stays in the cache.
        new: the file's L1 table does not name it yet.
    """

    __slots__ = ("bitmaps", "broken", "entries", "high", "l1_index", "low", "new", "offset", "pins")

    def __init__(self, l1_index: int, offset: int, words: Words, *, extended: bool) -> None:
        self.l1_index = l1_index
        self.offset = offset
        self.entries: Words = words[0::2].copy() if extended else words
        self.bitmaps: Words | None = words[1::2].copy() if extended else None
        self.broken: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
        self.pins = 0
        self.new = False
        self.low, self.high = len(self.entries), 0

    @property
    def dirty(self) -> bool:
        """Whether entries have changed since they were taken for writing."""
        return self.low < self.high

    def changed(self, first: int, end: int) -> None:
        """Note that entries have changed."""
        self.low, self.high = min(self.low, first), max(self.high, end)

    def encode(self, first: int, end: int) -> bytes:
        """Return entries as they stand in the file."""
        if self.bitmaps is None:
            return words_to(self.entries[first:end])
        pairs = np.stack([self.entries[first:end], self.bitmaps[first:end]], axis=1)
        return words_to(pairs.ravel())


class Tables:
    """The active L1 table and the L2 tables that it names.

    Args:
        file: the node that stores the image.
        header: of the image.
        metadata: where structures stand; the tables are added.
        field: the option that named the image, for refusals.
        cache_size: bytes of L2 tables kept in memory when nothing in them has changed.

    Attributes:
        allocate: gives a place to a new table: returns its host offset. Set by who can.
        free: takes the place of a table that is no longer named: called with its host offset.
        loaded: told of each table that comes into memory from the file.

    Raises:
        BlockIOError: the L1 table cannot be read.
        ImageError: it is damaged.

    Concurrency: none of its own; the caller holds the node's metadata lock.
    """

    def __init__(
        self,
        file: BlockNode,
        header: Header,
        metadata: MetadataMap,
        *,
        field: str,
        cache_size: int | None = None,
    ) -> None:
        self.geometry = header.geometry
        self.allocate: Callable[[], int] = _cannot_change
        self.free: Callable[[int], None] = _ignore
        self.loaded: Callable[[L2Table], None] = _ignore
        self._file = file
        self._size = header.size
        self._l1_offset = header.l1_offset
        self._metadata = metadata
        self._l1 = self._read_l1(header, field)
        self._changed_l1: set[int] = set()
        self._cache: OrderedDict[int, L2Table] = OrderedDict()
        if cache_size is None:
            cache_size = min(MAX_CACHE, len(self._l1) * self.geometry.cluster_size)
        self._limit = max(cache_size // self.geometry.cluster_size, _FEWEST_TABLES)
        self._dirty: dict[int, L2Table] = {}

    @property
    def crowded(self) -> bool:
        """Whether so many tables have changed that they should be written soon."""
        return len(self._dirty) * 2 > self._limit

    @property
    def dirty(self) -> bool:
        """Whether anything has changed that the file does not have."""
        return bool(self._dirty or self._changed_l1)

    def position(self, offset: int) -> tuple[int, int]:
        """Split a guest offset: (L1 index, guest offset where that table begins)."""
        l1_index = offset // self.geometry.l2_span
        return l1_index, l1_index * self.geometry.l2_span

    def find(self, l1_index: int) -> L2Table | None:
        """Return a table for reading; ``None`` where nothing in its range is allocated.

        Raises:
            BlockIOError: it cannot be read.
        """
        table = self._cache.get(l1_index)
        if table is not None:
            self._cache.move_to_end(l1_index)
            return table
        entry = int(self._l1[l1_index])
        if not entry & OFFSET_MASK:
            return None
        return self._keep(self._load(l1_index, entry & OFFSET_MASK))

    def writable(self, l1_index: int) -> L2Table:
        """Return a table for changing: a new one where there is none, or where it is shared.

        Raises:
            BlockIOError: it cannot be read, or there is no room for a new one. Nothing changed.
        """
        entry = int(self._l1[l1_index])
        old = self.find(l1_index)
        if old is not None and entry & COPIED:
            return old
        offset = self.allocate()
        table = self._new_table(l1_index, offset, old)
        self._metadata.add(L2_TABLE, offset, self.geometry.cluster_size)
        self._cache.pop(l1_index, None)
        self._keep(table)
        self.note(table, 0, len(table.entries))
        self._l1[l1_index] = offset | COPIED
        self._changed_l1.add(l1_index)
        if old is not None:
            self._metadata.remove(old.offset, self.geometry.cluster_size)
            self.free(old.offset)
        return table

    def note(self, table: L2Table, first: int, end: int) -> None:
        """Note that entries of a table have changed."""
        table.changed(first, end)
        self._dirty[table.l1_index] = table

    def runs(self, offset: int, end: int, *, cached_only: bool = False) -> list[Run] | None:
        """Describe a guest range, which is not empty.

        Args:
            offset: first byte.
            end: first byte behind it.
            cached_only: return ``None`` rather than read a table.

        Raises:
            BlockIOError: a table cannot be read.
        """
        l1_index, start = self.position(offset)
        span = self.geometry.l2_span
        if end <= start + span:
            return self._runs_in(l1_index, start, offset, end, cached_only=cached_only)
        found: list[Run] = []
        while offset < end:
            l1_index, start = self.position(offset)
            gap = self.unnamed(l1_index, end)
            if gap > offset:
                found.append(Run(offset, gap - offset, Kind.UNALLOCATED, 0))
                offset = gap
                continue
            stop = min(end, start + span)
            part = self._runs_in(l1_index, start, offset, stop, cached_only=cached_only)
            if part is None:
                return None
            found += part
            offset = stop
        return found

    def unnamed(self, l1_index: int, end: int) -> int:
        """Return up to which guest offset no table is named from one on, at most up to ``end``.

        The first one's own beginning, or less, where that is named.
        """
        last = self.geometry.l1_entries(end)
        first, step = l1_index, _L1_STEP
        while l1_index < last:
            named = self._l1[l1_index : min(l1_index + step, last)] != 0
            if named.any():
                l1_index += int(named.argmax())
                break
            l1_index += len(named)
            step *= 2  # looking stays in proportion to what is stepped over
        return min(l1_index * self.geometry.l2_span, end) if l1_index > first else 0

    def runs_of_ranges(self, ranges: Sequence[Range]) -> list[Run]:
        """Describe several guest ranges, one behind the other; none is empty.

        Raises:
            BlockIOError: a table cannot be read.
        """
        found = self._each_in_one_cluster(ranges) if len(ranges) > 1 else None
        if found is None:
            found = []
            for offset, length in ranges:
                found += self.runs(offset, offset + length) or []
        return found

    def _each_in_one_cluster(self, ranges: Sequence[Range]) -> list[Run] | None:
        """Describe ranges that lie under one plain table, each in one cluster; else ``None``."""
        l1_index, start = self.position(ranges[0][0])
        table = self.find(l1_index)
        if table is None or table.bitmaps is not None or table.broken is not None:
            return None
        bits, last = self.geometry.cluster_bits, len(table.entries)
        indices = []
        for offset, length in ranges:
            index = (offset - start) >> bits
            if not 0 <= index < last or offset + length > start + ((index + 1) << bits):
                return None
            indices.append(index)
        entries = table.entries[indices].tolist()
        return [
            run_in_cluster(self.geometry, entry, start + (index << bits), offset, offset + length)
            for entry, index, (offset, length) in zip(entries, indices, ranges, strict=True)
        ]

    def take_dirty(self) -> tuple[list[L2Table], list[tuple[int, bytes]], list[int]]:
        """Hand over what has changed, for writing; it is pinned until ``written`` or ``failed``.

        Returns:
            The tables; what to write of them, as (host offset, bytes); and the L1 indices.
        """
        tables = list(self._dirty.values())
        writes = []
        for table in tables:
            table.pins += 1
            low, high = self._whole_pages(table)
            size = self.geometry.l2_entry_size
            writes.append((table.offset + low * size, table.encode(low, high)))
            table.low, table.high = len(table.entries), 0
        self._dirty = {}
        l1_indices = sorted(self._changed_l1)
        self._changed_l1 = set()
        return tables, writes, l1_indices

    def written(self, tables: list[L2Table], l1_indices: list[int]) -> None:
        """Note that what was handed over is in the file."""
        named = set(l1_indices)
        for table in tables:
            table.pins -= 1
            if table.l1_index in named:
                table.new = False
        self._shrink()

    def failed(self, tables: list[L2Table], l1_indices: list[int]) -> None:
        """Note that what was handed over may not be in the file: it is to be written again."""
        for table in tables:
            table.pins -= 1
            self.note(table, 0, len(table.entries))
        self._changed_l1.update(l1_indices)

    def l1_writes(self, l1_indices: list[int]) -> list[tuple[int, bytes]]:
        """Return L1 entries as they are now, as (host offset, bytes)."""
        return [
            (self._l1_offset + 8 * index, words_to(self._l1[index : index + 1]))
            for index in l1_indices
        ]

    def _whole_pages(self, table: L2Table) -> tuple[int, int]:
        entries = min(_WRITE_UNIT // self.geometry.l2_entry_size, len(table.entries))
        return align_down(table.low, entries), align_up(table.high, entries)

    def _runs_in(
        self, l1_index: int, start: int, offset: int, end: int, *, cached_only: bool
    ) -> list[Run] | None:
        if cached_only and l1_index not in self._cache and int(self._l1[l1_index]):
            return None
        table = self.find(l1_index)
        if table is None:
            return [Run(offset, end - offset, Kind.UNALLOCATED, 0)]
        bits = self.geometry.cluster_bits
        first, last = (offset - start) >> bits, ((end - start - 1) >> bits) + 1
        bitmaps = None if table.bitmaps is None else table.bitmaps[first:last]
        base = start + (first << bits)
        entries = table.entries[first:last]
        found = runs_of(self.geometry, entries, bitmaps, base, offset, end)
        if table.broken is None or not table.broken[first:last].any():
            return found
        return list(self._with_broken(found, table, start))

    def _with_broken(self, runs: Iterable[Run], table: L2Table, start: int) -> Iterable[Run]:
        """Yield runs in which what damaged entries say is called broken."""
        assert table.broken is not None
        size = self.geometry.cluster_size
        for run in runs:
            offset, end = run.offset, run.offset + run.length
            while offset < end:
                index = (offset - start) // size
                stop = min(start + (index + 1) * size, end)
                kind, place = run.kind, run.place
                if table.broken[index]:
                    kind, place = Kind.BROKEN, table.offset + index * self.geometry.l2_entry_size
                elif kind != Kind.COMPRESSED:
                    place += offset - run.offset
                yield Run(offset, stop - offset, kind, place)
                offset = stop

    def _load(self, l1_index: int, offset: int) -> L2Table:
        data = bytearray(self.geometry.cluster_size)
        self._file.read_into(offset, data)
        table = L2Table(l1_index, offset, words_from(data), extended=self.geometry.extended_l2)
        start = l1_index * self.geometry.l2_span
        table.broken = broken_entries(
            self.geometry, table.entries, table.bitmaps, start, self._file.size
        )
        if not self.geometry.data_file:
            placed = (table.entries & _U(COMPRESSED)) == 0
            inside = placed & self._metadata.hits(table.entries & _U(OFFSET_MASK))
            inside &= (table.entries & _U(OFFSET_MASK)) != 0
            if inside.any():
                table.broken = inside if table.broken is None else table.broken | inside
        self.loaded(table)
        return table

    def _new_table(self, l1_index: int, offset: int, old: L2Table | None) -> L2Table:
        extended = self.geometry.extended_l2
        words = np.zeros(self.geometry.cluster_size // 8, np.uint64)
        table = L2Table(l1_index, offset, words, extended=extended)
        table.new = True
        if old is not None:
            table.entries = old.entries.copy()
            table.bitmaps = None if old.bitmaps is None else old.bitmaps.copy()
            table.broken = old.broken
        return table

    def _keep(self, table: L2Table) -> L2Table:
        self._cache[table.l1_index] = table
        self._shrink()
        return table

    def _shrink(self) -> None:
        """Drop the tables used longest ago that nobody needs and that have not changed."""
        excess = len(self._cache) - self._limit
        if excess <= 0:
            return
        newest = next(reversed(self._cache))
        for l1_index, table in list(self._cache.items()):
            if excess <= 0:
                break
            if not table.pins and not table.dirty and l1_index != newest:
                del self._cache[l1_index]
                excess -= 1

    def _read_l1(self, header: Header, field: str) -> Words:
        data = bytearray(header.l1_entries * 8)
        if header.l1_offset + len(data) > self._file.size:
            raise ImageError(field, self._file.name, 40, "the file ends in the L1 table")
        self._file.read_into(header.l1_offset, data)
        l1 = words_from(data)
        self._check_l1(l1, header, field)
        self._metadata.add_tables(l1[l1 != 0] & _U(OFFSET_MASK))
        return l1

    def _check_l1(self, l1: Words, header: Header, field: str) -> None:
        """Check that each entry names a place of its own, inside the file and off other tables."""
        offsets = l1 & _U(OFFSET_MASK)
        named = offsets != 0
        size = header.cluster_size
        highest = min(self._file.size, MAX_HOST_OFFSET + 1) - size
        problems = [
            ((l1 & _U(_L1_RESERVED)) != 0, "has reserved bits set"),
            ((offsets & _U(size - 1)) != 0, "does not point at the beginning of a cluster"),
            (named & (offsets.astype(np.int64) > highest), "points outside the file"),
            (named & _inside_fixed(header, offsets), "points at another structure of the image"),
            (named & _repeated(offsets), "points at the same L2 table as another entry"),
        ]
        for wrong, text in problems:
            if wrong.any():
                index = int(wrong.argmax())
                place = header.l1_offset + 8 * index
                value = f"entry {index} of the L1 table, {int(l1[index]):#x},"
                raise ImageError(field, self._file.name, place, f"{value} {text}")


def _inside_fixed(header: Header, offsets: Words) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Say which offsets stand in a structure that the header names."""
    inside = np.zeros(len(offsets), bool)
    for start, length in (
        (0, header.cluster_size),
        (header.l1_offset, header.l1_entries * 8),
        (header.refcount_table_offset, header.refcount_table_clusters * header.cluster_size),
        (header.snapshots_offset, min(header.snapshot_count, 1)),
    ):
        inside |= (offsets >= _U(start)) & (offsets < _U(start + length))
    return inside


def _repeated(offsets: Words) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Say which values stand at an earlier place as well."""
    repeated = np.ones(len(offsets), bool)
    repeated[np.unique(offsets, return_index=True)[1]] = False
    return repeated


def _cannot_change() -> int:
    raise BlockIOError("write", 0, 0, errno.EPERM, detail="the image is open for reading")


def _ignore(_: object) -> None:
    """Nothing is freed or checked where nothing is changed."""
