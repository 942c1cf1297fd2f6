"""Zeroing and discarding guest bytes by changing entries, without writing data where possible."""

from collections.abc import Callable

import numpy as np

from mirrorgui.block.node import Extent, ExtentKind, chain_extents
from mirrorgui.block.qcow2.image import Image
from mirrorgui.block.qcow2.layout import (
    ALL_ALLOCATED,
    ALL_ZERO,
    COMPRESSED,
    COPIED,
    OFFSET_MASK,
    ZERO,
    Words,
    subcluster_mask,
)
from mirrorgui.block.qcow2.places import free_places
from mirrorgui.block.qcow2.tables import L2Table
from mirrorgui.block.qcow2.writeback import WriteBack
from mirrorgui.block.qcow2.writing import Writer
from mirrorgui.units import MiB, align_down, align_up

_ZEROES = memoryview(bytes(1 * MiB))
_U = np.uint64

_Change = Callable[[int, int, bool], int]
"""(low, high, may_unmap): change what one table describes; return up to where it was done."""


class Zeroer:
    """The way of a zeroing or discarding request.

    Args:
        image: open for writing.
        writer: for parts that only written zeroes can make zero.
        write_back: relieved when many tables have changed.
        pass_discard: give the storage of places that are no longer used back.
    """

    def __init__(
        self, image: Image, writer: Writer, write_back: WriteBack, *, pass_discard: bool
    ) -> None:
        assert image.allocator is not None
        self._image = image
        self._allocator = image.allocator
        self._geometry = image.geometry
        self._writer = writer
        self._write_back = write_back
        self._pass_discard = pass_discard

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool) -> None:
        """Make guest bytes read as zeroes.

        Raises:
            BlockIOError: as for a write.
        """
        unit = self._geometry.unit_size
        end = offset + length
        low, high = align_up(offset, unit), self._unit_end(end)
        if low >= high:
            self._write_zeroes(offset, end)
            return
        self._write_zeroes(offset, low)
        self._each_table(low, high, self._zero_table, may_unmap)
        if high < end:
            self._write_zeroes(high, end)

    def discard(self, offset: int, length: int) -> None:
        """Free whole clusters. They read as zeroes afterwards.

        Raises:
            BlockIOError: as for a write.
        """
        size = self._geometry.cluster_size
        end = offset + length
        low, high = align_up(offset, size), align_down(end, size)
        if end == self._image.size:
            high = align_up(end, size)
        if self._geometry.version < 3:  # no way to say that what is below is not to be seen
            low = max(low, self._end_of_below(low, high))
        self._each_table(low, high, self._discard_table, True)

    def _unit_end(self, end: int) -> int:
        unit = self._geometry.unit_size
        return align_up(end, unit) if end == self._image.size else align_down(end, unit)

    def _each_table(self, low: int, high: int, change: _Change, may_unmap: bool) -> None:
        span = self._geometry.l2_span
        while (low := self._over_nothing(low, high)) < high:
            stop = min(high, align_down(low, span) + span)
            low = change(low, stop, may_unmap)
            self._write_back.relieve()

    def _over_nothing(self, low: int, high: int) -> int:
        """Step over what has no table and reads as zeroes: there is nothing to change."""
        image = self._image
        if self._geometry.data_file or image.shows_below(low):
            return low
        with image.lock:
            l1_index, _ = image.tables.position(low)
            return max(image.tables.unnamed(l1_index, high), low)

    def _end_of_below(self, low: int, high: int) -> int:
        """Return up to where something may show below, in whole clusters of a range."""
        image = self._image
        if not image.shows_below(low):
            return low
        if image.backing is None:
            return high
        return min(align_up(image.backing.size, self._geometry.cluster_size), high)

    # Written zeroes

    def _write_zeroes(self, offset: int, end: int) -> None:
        """Write zeroes as data, where there are none already."""
        if offset >= end:
            return
        end = min(end, self._image.size)
        for run in self._as_read(offset, end):
            if run.kind is ExtentKind.ZERO:
                continue
            for start in range(run.offset, run.end, len(_ZEROES)):
                self._writer.write(start, _ZEROES[: min(len(_ZEROES), run.end - start)])

    def _as_read(self, offset: int, end: int) -> list[Extent]:
        """Return what is known to read as zeroes, also when the backing file will be open."""
        image = self._image
        found = []
        for run in image.extents(offset, end - offset):
            if run.kind is not ExtentKind.UNALLOCATED or image.unopened:
                kind = ExtentKind.ZERO if run.kind is ExtentKind.ZERO else ExtentKind.DATA
                found.append(Extent(run.offset, run.length, kind))
            elif image.backing is None or run.offset >= image.backing.size:
                found.append(Extent(run.offset, run.length, ExtentKind.ZERO))
            else:
                below = min(run.end, image.backing.size)
                found += chain_extents(image.backing, run.offset, below - run.offset)
                if below < run.end:
                    found.append(Extent(below, run.end - below, ExtentKind.ZERO))
        return found

    # Changed entries

    def _zero_table(self, low: int, high: int, may_unmap: bool) -> int:
        """Zero whole units inside one table's range; return up to where it was done."""
        size = self._geometry.cluster_size
        if self._geometry.version < 3 and self._image.shows_below(low):
            high = self._end_of_below(low, high)
            self._write_zeroes(low, high)
            return high
        if low % size or high - low < size:
            return self._zero_subclusters(low, min(high, align_down(low, size) + size))
        if self._geometry.data_file:
            return self._zero_data_file(low, align_down(high, size), may_unmap, discarding=False)
        return self._change_clusters(low, align_down(high, size), may_unmap, discarding=False)

    def _discard_table(self, low: int, high: int, may_unmap: bool) -> int:
        if self._geometry.data_file:
            return self._zero_data_file(low, high, may_unmap, discarding=True)
        return self._change_clusters(low, high, may_unmap, discarding=True)

    def _change_clusters(self, low: int, high: int, may_unmap: bool, *, discarding: bool) -> int:
        """Let the entries of whole clusters say zero."""
        with self._image.lock:
            self._wait_for(low, high)
            self._change_locked(low, high, may_unmap, discarding=discarding)
        return high

    def _change_locked(self, low: int, high: int, may_unmap: bool, *, discarding: bool) -> None:
        image, bits = self._image, self._geometry.cluster_bits
        l1_index, start = image.tables.position(low)
        below = image.shows_below(low)
        table = image.tables.find(l1_index)
        image.damage.check("discard" if discarding else "write_zeroes", low, high - low)
        if table is None:
            if not below:
                return
            table = image.tables.writable(l1_index)
        first, last = (low - start) >> bits, (high - start) >> bits
        entries, bitmaps = self._zeroed(
            table, first, last, may_unmap=may_unmap, below=below, plain=discarding
        )
        self._set(l1_index, table, first, entries, bitmaps)

    def _zeroed(
        self, table: L2Table, first: int, last: int, *, may_unmap: bool, below: bool, plain: bool
    ) -> tuple[Words, Words | None]:
        """Return the entries that clusters have to have.

        Args:
            table: that has them.
            first: index of the first cluster.
            last: index behind the last one.
            may_unmap: they need not keep their place.
            below: something might show where nothing is allocated.
            plain: leave nothing behind that says zero where nothing shows below.
        """
        entries = table.entries[first:last]
        if table.bitmaps is None and not entries.any():
            says = self._geometry.version >= 3 and below
            return np.full(len(entries), ZERO if says else 0, np.uint64), None
        placed = (entries & _U(OFFSET_MASK)) != 0
        packed = (entries & _U(COMPRESSED)) != 0
        kept = placed & ~packed & ((entries & _U(COPIED)) != 0)
        if self._geometry.data_file:
            kept = placed | ((entries & _U(COPIED)) != 0)
        if may_unmap:
            kept = np.zeros(len(entries), bool)
        can_say_zero = self._geometry.version >= 3
        says_zero = can_say_zero and (below or not plain)
        nothing = ~placed & ~packed & ((entries & _U(COPIED | ZERO)) == 0)
        if table.bitmaps is not None:
            bitmaps = table.bitmaps[first:last]
            new_bitmaps = np.full(len(entries), ALL_ZERO if says_zero else 0, np.uint64)
            if not below:  # what says nothing reads as zeroes as it is
                untouched = nothing & (bitmaps == 0)
                new_bitmaps[untouched] = 0
            new_bitmaps[kept] = ALL_ZERO
            return np.where(kept, entries, _U(0)), new_bitmaps
        flag = _U(ZERO if can_say_zero else 0)
        new = np.where(kept, entries | flag, flag if says_zero else _U(0))
        if not below:
            new[nothing] = 0
        if not may_unmap and not can_say_zero:
            new[kept] = 0
        return new, None

    def _set(
        self, l1_index: int, table: L2Table, first: int, entries: Words, bitmaps: Words | None
    ) -> None:
        """Let the table have these entries, and drop the places that it no longer names."""
        last = first + len(entries)
        old = table.entries[first:last].copy()
        same = bool((old == entries).all())
        if table.bitmaps is not None and bitmaps is not None:
            same &= bool((table.bitmaps[first:last] == bitmaps).all())
        if same:
            return
        table = self._image.tables.writable(l1_index)
        dropped = (old & _U(OFFSET_MASK | COMPRESSED)) != (entries & _U(OFFSET_MASK | COMPRESSED))
        table.entries[first:last] = entries
        if table.bitmaps is not None and bitmaps is not None:
            table.bitmaps[first:last] = bitmaps
        if table.broken is not None:
            dropped &= ~table.broken[first:last]
            table.broken[first:last] = False
        self._image.tables.note(table, first, last)
        free_places(self._geometry, self._allocator, old[dropped], discard=self._pass_discard)

    def _zero_subclusters(self, low: int, high: int) -> int:
        """Let some subclusters of one cluster say zero; a compressed one is written instead."""
        image, geometry = self._image, self._geometry
        start = align_down(low, geometry.cluster_size)
        with image.lock:
            self._wait_for(low, high)
            l1_index, table_start = image.tables.position(low)
            table = image.tables.find(l1_index)
            image.damage.check("write_zeroes", low, high - low)
            below = image.shows_below(start)
            if table is None and not below:
                return high
            index = (start - table_start) >> geometry.cluster_bits
            packed = table is not None and bool(int(table.entries[index]) & COMPRESSED)
            if not packed and not image.header.data_file_raw:
                table = image.tables.writable(l1_index)
                assert table.bitmaps is not None
                unit = geometry.unit_size
                mask = subcluster_mask((low - start) // unit, (high - start) // unit)
                bits = int(table.bitmaps[index])
                table.bitmaps[index] = bits & ~mask & ALL_ALLOCATED | bits & ALL_ZERO | mask << 32
                image.tables.note(table, index, index + 1)
                return high
        self._write_zeroes(low, high)
        return high

    def _zero_data_file(self, low: int, high: int, may_unmap: bool, *, discarding: bool) -> int:
        """Zero clusters of a data file: there as well, as no other place is ever used for them."""
        image, bits = self._image, self._geometry.cluster_bits
        file = image.store.file
        stop = max(min(high, image.size, file.size), low)
        raw = image.header.data_file_raw
        with image.lock:
            self._wait_for(low, high)
            # Held to the end: data that is written meanwhile must not be discarded with the rest.
            claim = image.requests.claim(low >> bits, ((high - 1) >> bits) + 1)
        try:
            if raw:
                file.write_zeroes(low, stop - low, may_unmap=may_unmap)
            with image.lock:
                self._change_locked(low, high, may_unmap, discarding=discarding)
            if may_unmap and not raw and self._pass_discard:
                file.discard(low, stop - low)
        finally:
            with image.lock:
                image.requests.release(claim)
        return high

    def _wait_for(self, low: int, high: int) -> None:
        """Wait until nobody is at work on the clusters of a range; the lock is held again then."""
        bits = self._geometry.cluster_bits
        first, last = low >> bits, ((high - 1) >> bits) + 1
        while self._image.requests.first_claimed(first, last) is not None:
            self._image.requests.wait()
