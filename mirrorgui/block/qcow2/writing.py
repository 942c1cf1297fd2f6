"""Writing guest bytes: in their place, or into new clusters with what stands around them."""

import errno
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from mirrorgui.block.qcow2.allocator import Allocation
from mirrorgui.block.qcow2.image import Image
from mirrorgui.block.qcow2.layout import ALL_ALLOCATED, COMPRESSED, COPIED, OFFSET_MASK, ZERO
from mirrorgui.block.qcow2.places import (
    Mode,
    Segment,
    free_places,
    segments_of,
    touched_masks,
)
from mirrorgui.block.qcow2.reading import Reader
from mirrorgui.block.qcow2.tables import L2Table
from mirrorgui.block.qcow2.writeback import WriteBack
from mirrorgui.errors import BlockIOError
from mirrorgui.units import KiB, align_down, align_up

_ONE_WRITE = 256 * KiB
"""Up to this length data is copied together with what stands around it, and written at once.
Longer data is written as it is, and only its first and last cluster are put together."""

_U = np.uint64


@dataclass(slots=True)
class _Plan:
    """Clusters that get their data now; they are claimed, and their table is pinned.

    Attributes:
        table: which will name them.
        first: index of the first one in the table.
        start: guest offset of the first one.
        mode: REUSE or FRESH.
        offset, end: what is written by the guest.
        low, high: what has to be written: the same, with what stands around it.
        pieces: (guest offset, host offset, length) of their places, in order.
        taken: what the allocator has handed out for it.
        claim: to be released.
    """

    table: L2Table
    first: int
    start: int
    mode: int
    offset: int
    end: int
    low: int
    high: int
    pieces: list[tuple[int, int, int]]
    taken: list[Allocation]
    claim: tuple[int, int]


class Writer:
    """The way of a write.

    Args:
        image: open for writing.
        reader: what stands around a write is read by.
        write_back: relieved when many tables have changed.
        pass_freed: give the storage of places that are no longer used back.
    """

    def __init__(
        self, image: Image, reader: Reader, write_back: WriteBack, *, pass_freed: bool
    ) -> None:
        assert image.allocator is not None
        self._image = image
        self._allocator = image.allocator
        self._geometry = image.geometry
        self._reader = reader
        self._write_back = write_back
        self._pass_freed = pass_freed

    def write(self, offset: int, data: memoryview) -> None:
        """Write guest bytes.

        Raises:
            BlockIOError: from a file below, ENOSPC, or EIO where the image is damaged.
        """
        position, end, full = offset, offset + len(data), False
        while position < end:
            try:
                position = self._advance(position, end, data[position - offset :])
            except BlockIOError as error:
                if error.errno != errno.ENOSPC or full:
                    raise
                full = True  # what was freed can be used once the tables are written
                self._write_back.flush()
        self._write_back.relieve()

    def _advance(self, offset: int, end: int, data: memoryview) -> int:
        """Write the first bytes of a range that can be written in one go; return where it ended."""
        image = self._image
        with image.lock:
            l1_index, start = image.tables.position(offset)
            end = min(end, start + self._geometry.l2_span)
            table = image.tables.find(l1_index)
            image.damage.check("write", offset, end - offset)  # also what was just found
            self._check_entries(table, start, offset, end)
            segments = segments_of(self._geometry, table, start, offset, end)
            if segments[0].mode == Mode.IN_PLACE:
                segments = list(takewhile(_is_in_place, segments))
                self._check_places(segments)
                plan, age = None, image.requests.enter()
            else:
                plan = self._plan(l1_index, start, segments[0])
                if plan is None:
                    return offset
        if plan is not None:
            self._carry_out(plan, data)
            return plan.end
        try:
            for each in segments:
                part = data[each.offset - offset : each.end - offset]
                image.store.write(each.place, part)
        finally:
            with image.lock:
                image.requests.leave(age)
        return segments[-1].end

    def _check_entries(self, table: L2Table | None, start: int, offset: int, end: int) -> None:
        if table is None or table.broken is None:
            return
        bits = self._geometry.cluster_bits
        first, last = (offset - start) >> bits, ((end - start - 1) >> bits) + 1
        if table.broken[first:last].any():
            index = first + int(table.broken[first:last].argmax())
            place = table.offset + index * self._geometry.l2_entry_size
            text = f"the L2 entry at {place} is not valid"
            raise self._image.damage.found("write", offset, end - offset, text)

    def _check_places(self, segments: list[Segment]) -> None:
        """Let no guest write over the image's own structures, wherever an entry points."""
        if self._geometry.data_file:
            return
        for each in segments:
            length = each.end - each.offset
            what = self._image.metadata.hit(each.place, length)
            if what:
                text = f"guest data at {each.place} would overwrite {what}"
                raise self._image.damage.found("write", each.offset, length, text)

    # Giving clusters a place

    def _plan(self, l1_index: int, start: int, segment: Segment) -> _Plan | None:
        """Find places for the clusters of a segment, and claim them.

        Returns:
            ``None`` after somebody else who was at work on the first one may have finished: it is
            to be looked at again.
        """
        image, bits = self._image, self._geometry.cluster_bits
        offset, end = segment.offset, segment.end
        first, last = offset >> bits, ((end - 1) >> bits) + 1
        claimed = image.requests.first_claimed(first, last)
        if claimed == first:
            image.requests.wait()
            return None
        if claimed is not None:
            last, end = claimed, claimed << bits
        table = image.tables.writable(l1_index)
        plan = _Plan(
            table=table,
            first=first - (start >> bits),
            start=first << bits,
            mode=segment.mode,
            offset=offset,
            end=end,
            low=offset,
            high=end,
            pieces=[],
            taken=[],
            claim=(first, last),
        )
        self._find_pieces(plan, segment.place, last - first)
        self._find_edges(plan)
        table.pins += 1
        image.requests.claim(first, last)
        return plan

    def _find_pieces(self, plan: _Plan, place: int, clusters: int) -> None:
        bits = self._geometry.cluster_bits
        if plan.mode == Mode.REUSE:
            host = align_down(place, self._geometry.cluster_size)
            self._check_places([Segment(plan.offset, plan.end, plan.mode, place)])
            plan.pieces = [(plan.start, host, clusters << bits)]
        elif self._geometry.data_file:
            plan.pieces = [(plan.start, plan.start, clusters << bits)]
        else:
            plan.taken = self._allocator.allocate(clusters)
            guest = plan.start
            for each in plan.taken:
                length = each.clusters << bits
                plan.pieces.append((guest, each.host_offset, length))
                guest += length

    def _find_edges(self, plan: _Plan) -> None:
        """Find how much around the data has to be written, so that whole units are data."""
        size, unit = self._geometry.cluster_size, self._geometry.unit_size
        last_start = align_down(plan.end - 1, size)
        last = plan.first + ((last_start - plan.start) >> self._geometry.cluster_bits)
        whole_first, known_first = self._edge(plan, plan.first, plan.offset)
        low = align_down(plan.offset, size if whole_first else unit)
        whole_last, known_last = self._edge(plan, last, plan.end - 1)
        high = align_up(plan.end, size if whole_last else unit)
        if self._geometry.data_file:  # which is not longer than the disk
            high = max(min(high, self._image.size), plan.end)
        plan.low = plan.offset if known_first else low
        plan.high = plan.end if known_last else high

    def _edge(self, plan: _Plan, index: int, offset: int) -> tuple[bool, bool]:
        """Say of a cluster that is written in part: (all of it moves, the rest is there already).

        Args:
            plan: what is written.
            index: of the cluster in the table.
            offset: the first or last guest byte that is written.
        """
        entry = int(plan.table.entries[index])
        moved = plan.mode == Mode.FRESH and bool(entry & (OFFSET_MASK | COMPRESSED))
        if self._geometry.data_file:
            moved = False
        if plan.table.bitmaps is None:
            zero = bool(entry & ZERO)
            whole = True
        else:
            unit = offset % self._geometry.cluster_size // self._geometry.unit_size
            bits = int(plan.table.bitmaps[index]) >> unit
            if plan.mode == Mode.REUSE and bits & 1:
                return False, True
            zero = bool(bits >> 32 & 1)
            whole = moved
        below = self._image.backing
        size = self._geometry.cluster_size
        nothing = not moved and (zero or below is None or align_down(offset, size) >= below.size)
        fresh = bool(plan.taken) and plan.taken[0 if index == plan.first else -1].fresh
        return whole, nothing and fresh

    def _carry_out(self, plan: _Plan, data: memoryview) -> None:
        """Write the data of a plan, then let the table name its places."""
        with self._write_back.naming(plan, lambda: self._name(plan)):
            for guest, part in self._parts(plan, data[: plan.end - plan.offset]):
                self._write_part(plan, guest, part)

    def _parts(self, plan: _Plan, data: memoryview) -> list[tuple[int, memoryview]]:
        """Return what to write as (guest offset, bytes), with what stands around the data."""
        size = self._geometry.cluster_size
        if plan.low == plan.offset and plan.high == plan.end:
            return [(plan.offset, data)]
        if plan.high - plan.low <= max(_ONE_WRITE, size):
            return [(plan.low, self._with_edges(plan.low, plan.high, plan.offset, data))]
        first_end = align_up(plan.offset, size) if plan.low < plan.offset else plan.offset
        last_start = align_down(plan.end, size) if plan.high > plan.end else plan.end
        head = data[: first_end - plan.offset]
        tail = data[last_start - plan.offset :]
        parts = [(first_end, data[first_end - plan.offset : last_start - plan.offset])]
        if plan.low < first_end:
            parts.insert(0, (plan.low, self._with_edges(plan.low, first_end, plan.offset, head)))
        if last_start < plan.high:
            parts.append((last_start, self._with_edges(last_start, plan.high, last_start, tail)))
        return parts

    def _with_edges(self, low: int, high: int, offset: int, data: memoryview) -> memoryview:
        """Return the bytes from ``low`` to ``high``: data at ``offset``, and what stands around."""
        whole = memoryview(bytearray(high - low))
        start, end = offset - low, offset - low + len(data)
        whole[start:end] = data
        self._read_guest(low, whole[:start])
        self._read_guest(low + end, whole[end:])
        return whole

    def _read_guest(self, offset: int, view: memoryview) -> None:
        """Read what a guest sees; behind the end of the disk it stays zeroes."""
        there = min(len(view), self._image.size - offset)
        if there > 0:
            self._reader.read(offset, view[:there])

    def _write_part(self, plan: _Plan, guest: int, part: memoryview) -> None:
        end = guest + len(part)
        for start, host, length in plan.pieces:
            low, high = max(guest, start), min(end, start + length)
            if low < high:
                self._image.store.write(host + low - start, part[low - guest : high - guest])

    def _name(self, plan: _Plan) -> None:
        """Let the table name the places that have been written."""
        table, bits = plan.table, self._geometry.cluster_bits
        last = plan.first
        if table.bitmaps is not None:
            self._name_subclusters(plan)
        for _, host, length in plan.pieces:
            first, last = last, last + (length >> bits)
            steps = np.arange(last - first, dtype=np.uint64) << _U(bits)
            if plan.mode == Mode.FRESH:
                old = table.entries[first:last]
                free_places(self._geometry, self._allocator, old, discard=self._pass_freed)
            table.entries[first:last] = steps + _U(host | COPIED)
        self._image.tables.note(table, plan.first, last)

    def _name_subclusters(self, plan: _Plan) -> None:
        table = plan.table
        assert table.bitmaps is not None
        touched = touched_masks(self._geometry, plan.start, plan.offset, plan.end)
        last = plan.first + len(touched)
        old = table.bitmaps[plan.first : last]
        new = (old & ~(touched | touched << _U(32))) | touched
        if plan.mode == Mode.FRESH:
            entries = table.entries[plan.first : last]
            moved = (entries & _U(OFFSET_MASK | COMPRESSED)) != 0
            new[moved] = ALL_ALLOCATED
        table.bitmaps[plan.first : last] = new


def _is_in_place(segment: Segment) -> bool:
    return segment.mode == Mode.IN_PLACE
