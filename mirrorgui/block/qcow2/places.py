"""Slices of an L2 table as segments: where a write may go, for writing."""

import enum
from typing import NamedTuple

import numpy as np

from mirrorgui.block.qcow2.allocator import Allocator
from mirrorgui.block.qcow2.layout import (
    ALL_ALLOCATED,
    COMPRESSED,
    COPIED,
    OFFSET_MASK,
    ZERO,
    Geometry,
    Words,
    subcluster_mask,
)
from mirrorgui.block.qcow2.tables import L2Table

_U = np.uint64


class Mode(enum.IntEnum):
    """What a write to a cluster needs."""

    IN_PLACE = 0
    """Nothing: its place is this image's alone, and all that the write touches is data there."""
    REUSE = 1
    """Its place is this image's alone, but what the write touches is not data there yet."""
    FRESH = 2
    """A new place."""


# Plain numbers: numpy takes ten times as long over members of an enumeration.
_IN_PLACE, _REUSE, _FRESH = int(Mode.IN_PLACE), int(Mode.REUSE), int(Mode.FRESH)


class Segment(NamedTuple):
    """Guest bytes whose clusters need the same and stand one behind the other in the file.

    Attributes:
        offset, end: in guest bytes.
        mode: of all of it.
        place: host offset of the byte at ``offset``; without meaning where mode is FRESH.
    """

    offset: int
    end: int
    mode: int
    place: int


def segments_of(
    geometry: Geometry, table: L2Table | None, start: int, offset: int, end: int
) -> list[Segment]:
    """Part a guest range by what writing it needs.

    Args:
        geometry: of the image.
        table: which describes the range; ``None`` where there is none yet.
        start: guest offset where the table's range begins.
        offset: first byte of the range.
        end: first byte behind it.
    """
    if table is None:
        return [Segment(offset, end, _FRESH, 0)]
    bits, size = geometry.cluster_bits, geometry.cluster_size
    first, last = (offset - start) >> bits, ((end - start - 1) >> bits) + 1
    entries = table.entries[first:last]
    base = start + (first << bits)
    if table.bitmaps is None and _is_one_piece(entries, size):
        place = (int(entries[0]) & OFFSET_MASK) + offset - base
        return [Segment(offset, end, _IN_PLACE, place)]
    if not entries.any():
        return [Segment(offset, end, _FRESH, 0)]
    places = entries & _U(OFFSET_MASK)
    own = (entries & _U(COPIED)) != 0
    if geometry.data_file:
        own |= places != 0
    else:
        own &= (places != 0) & ((entries & _U(COMPRESSED)) == 0)
    if table.bitmaps is None:
        data = (entries & _U(ZERO)) == 0
    else:
        touched = touched_masks(geometry, base, offset, end)
        data = (table.bitmaps[first:last] & touched) == touched
    modes = np.where(own, np.where(data, _IN_PLACE, _REUSE), _FRESH)
    breaks = modes[1:] != modes[:-1]
    breaks |= (modes[1:] != _FRESH) & (places[1:] != places[:-1] + _U(size))
    heads = [0, *(np.flatnonzero(breaks) + 1).tolist()]
    found = []
    for head, stop in zip(heads, [*heads[1:], len(entries)], strict=True):
        low = max(base + head * size, offset)
        high = min(base + stop * size, end)
        place = int(places[head]) + low - (base + head * size)
        found.append(Segment(low, high, int(modes[head]), place))
    return found


def _is_one_piece(entries: Words, cluster_size: int) -> bool:
    """Say whether all clusters are data in places of their own, each behind the one before it."""
    first = int(entries[0])
    if first & ~OFFSET_MASK != COPIED:
        return False
    if len(entries) == 1:
        return first != COPIED
    steps = np.arange(len(entries), dtype=np.uint64) * _U(cluster_size)
    return first != COPIED and bool((entries == steps + _U(first)).all())


def touched_masks(geometry: Geometry, base: int, offset: int, end: int) -> Words:
    """Return the subclusters that a range touches, as a bitmap for each of its clusters.

    Args:
        geometry: with subclusters.
        base: guest offset where the first of the clusters begins.
        offset: first byte of the range.
        end: first byte behind it.
    """
    unit, units = geometry.unit_size, geometry.units
    count = ((end - base - 1) >> geometry.cluster_bits) + 1
    masks = np.full(count, ALL_ALLOCATED, np.uint64)
    last_base = base + ((count - 1) << geometry.cluster_bits)
    masks[0] &= _U(subcluster_mask((offset - base) // unit, units))
    masks[-1] &= _U(subcluster_mask(0, -(-(end - last_base) // unit)))
    return masks


def free_places(geometry: Geometry, allocator: Allocator, entries: Words, *, discard: bool) -> None:
    """Drop the places that entries named before; nothing of a data file is counted.

    Args:
        geometry: of the image.
        allocator: of the image.
        entries: first words as they were.
        discard: give the storage back when it becomes free.
    """
    if geometry.data_file:
        return
    packed = (entries & _U(COMPRESSED)) != 0
    for entry in entries[packed].tolist():
        allocator.free_later(*geometry.compressed_clusters(entry), discard=discard)
    places = entries[~packed] & _U(OFFSET_MASK)
    places = places[places != 0]
    if not len(places):
        return
    breaks = np.flatnonzero(places[1:] != places[:-1] + _U(geometry.cluster_size)) + 1
    heads = [0, *breaks.tolist()]
    for head, stop in zip(heads, [*heads[1:], len(places)], strict=True):
        allocator.free_later(int(places[head]), stop - head, discard=discard)
