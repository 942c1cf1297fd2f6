"""Slices of an L2 table as runs: what is where, for reading."""

from typing import NamedTuple

import numpy as np

from mirrorgui.block.qcow2.layout import (
    COMPRESSED,
    COPIED,
    OFFSET_MASK,
    ZERO,
    Geometry,
    Kind,
    Words,
    classify,
)

_U = np.uint64
# Plain numbers: members of an enumeration take longer.
_UNALLOCATED, _ZERO, _ZERO_HOST = int(Kind.UNALLOCATED), int(Kind.ZERO), int(Kind.ZERO_HOST)
_DATA, _COMPRESSED = int(Kind.DATA), int(Kind.COMPRESSED)
_FEW = 32
"""So many entries are looked at one by one: what a megabyte has. Arrays take longer for them."""

_PLACED = np.array([kind in (Kind.UNALLOCATED_HOST, Kind.ZERO_HOST, Kind.DATA) for kind in Kind])


class Run(NamedTuple):
    """Guest bytes of one kind that stand one behind the other in the file.

    Attributes:
        offset, length: in guest bytes.
        kind: of all of it.
        place: host offset of its first byte; for a compressed cluster, its L2 entry.
    """

    offset: int
    length: int
    kind: int
    place: int


def runs_of(
    geometry: Geometry, entries: Words, bitmaps: Words | None, start: int, offset: int, end: int
) -> list[Run]:
    """Describe a guest range by the L2 entries of its clusters.

    Args:
        geometry: of the image.
        entries: first words of the clusters that the range touches.
        bitmaps: their second words where entries are extended.
        start: guest offset of the first of these clusters.
        offset: first byte of the range.
        end: first byte behind it.
    """
    if bitmaps is None and len(entries) == 1:
        return [run_in_cluster(geometry, int(entries[0]), start, offset, end)]
    if bitmaps is None and len(entries) <= _FEW:
        return _few(geometry, entries.tolist(), start, offset, end)
    if bitmaps is None and _is_one_piece(geometry, entries):
        place = (int(entries[0]) & OFFSET_MASK) + offset - start
        return [Run(offset, end - offset, Kind.DATA, place)]
    return _general(geometry, entries, bitmaps, start, offset, end)


def _few(geometry: Geometry, entries: list[int], start: int, offset: int, end: int) -> list[Run]:
    """Describe a few clusters one by one."""
    size, first = geometry.cluster_size, entries[0]
    if _begins_in_place(geometry, first):
        if entries == list(range(first, first + size * len(entries), size)):
            return [Run(offset, end - offset, _DATA, (first & OFFSET_MASK) + offset - start)]
    elif not any(entries):
        return [Run(offset, end - offset, _UNALLOCATED, 0)]
    found: list[Run] = []
    for entry in entries:
        low, start = max(start, offset), start + size
        run = run_in_cluster(geometry, entry, start - size, low, min(start, end))
        if found and _continues(found[-1], run):
            last = found[-1]
            found[-1] = Run(last.offset, last.length + run.length, last.kind, last.place)
        else:
            found.append(run)
    return found


def _continues(last: Run, run: Run) -> bool:
    if run.kind != last.kind or run.kind == _COMPRESSED:
        return False
    return run.kind in (_UNALLOCATED, _ZERO) or run.place == last.place + last.length


def run_in_cluster(geometry: Geometry, entry: int, start: int, offset: int, end: int) -> Run:
    """Describe one cluster: the case of small requests, without arrays."""
    if entry & COMPRESSED:
        return Run(offset, end - offset, _COMPRESSED, entry)
    place = entry & OFFSET_MASK
    if place or (geometry.data_file and entry & COPIED):
        kind = _ZERO_HOST if entry & ZERO else _DATA
    else:
        kind = _ZERO if entry & ZERO else _UNALLOCATED
    return Run(offset, end - offset, kind, place + offset - start)


def _begins_in_place(geometry: Geometry, entry: int) -> bool:
    """Say whether an entry is that of plain data which nothing else uses."""
    return entry & ~OFFSET_MASK == COPIED and bool(entry & OFFSET_MASK or geometry.data_file)


def _is_one_piece(geometry: Geometry, entries: Words) -> bool:
    """Say whether all clusters are data, each behind the one before it."""
    first = int(entries[0])
    if not _begins_in_place(geometry, first):
        return False
    steps = np.arange(len(entries), dtype=np.uint64) * _U(geometry.cluster_size)
    return bool((entries == steps + _U(first)).all())


def _general(
    geometry: Geometry, entries: Words, bitmaps: Words | None, start: int, offset: int, end: int
) -> list[Run]:
    unit, units = geometry.unit_size, geometry.units
    kinds = classify(entries, bitmaps, data_file=geometry.data_file)
    places = entries & _U(OFFSET_MASK)
    packed = kinds[::units] == _COMPRESSED
    places[packed] = entries[packed]
    if units > 1:
        steps = np.arange(units, dtype=np.uint64) * _U(unit)
        steps_of = np.where(packed[:, None], _U(0), steps[None, :])
        places = (places[:, None] + steps_of).ravel()
    first, last = (offset - start) // unit, -(-(end - start) // unit)
    kinds, places = kinds[first:last], places[first:last]
    broken = kinds[1:] != kinds[:-1]
    broken |= _PLACED[kinds[1:]] & (places[1:] != places[:-1] + _U(unit))
    # A compressed cluster is a run of its own, even where a damaged table has its entry twice.
    borders = np.arange(first + 1, first + len(kinds)) % units == 0
    broken |= (kinds[1:] == _COMPRESSED) & borders
    heads = [0, *(np.flatnonzero(broken) + 1).tolist()]
    base = start + first * unit
    runs = []
    for head, stop in zip(heads, [*heads[1:], len(kinds)], strict=True):
        low, high = base + head * unit, min(base + stop * unit, end)
        kind, place = int(kinds[head]), int(places[head])
        if low < offset:
            if _PLACED[kind]:
                place += offset - low
            low = offset
        runs.append(Run(low, high - low, kind, place))
    return runs


def broken_entries(
    geometry: Geometry, entries: Words, bitmaps: Words | None, guest_start: int, file_size: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    """Find L2 entries that contradict the format; ``None`` where there are none.

    Args:
        geometry: of the image.
        entries: first words of a whole table.
        bitmaps: their second words where entries are extended.
        guest_start: guest offset of the first entry.
        file_size: bytes of the file in which the places are; ignored for a data file.
    """
    kinds = classify(entries, bitmaps, data_file=geometry.data_file).reshape(-1, geometry.units)
    packed = kinds[:, 0] == Kind.COMPRESSED
    places = entries & _U(OFFSET_MASK)
    allowed = OFFSET_MASK & -geometry.cluster_size | COPIED
    if not geometry.extended_l2 and geometry.version >= 3:
        allowed |= ZERO
    bad = (entries & _U(~allowed & 0xFFFF_FFFF_FFFF_FFFF)) != 0
    bad |= (kinds == Kind.BROKEN).any(axis=1)
    data = (kinds == Kind.DATA).any(axis=1)
    if geometry.data_file:
        steps = np.arange(len(entries), dtype=np.uint64) << _U(geometry.cluster_bits)
        placed = data | ((entries & _U(COPIED)) != 0)
        bad |= placed & (places != steps + _U(guest_start))
        bad |= packed
    else:
        # The last cluster may reach beyond the end of the file: it reads as zeroes there.
        bad |= data & (places >= _U(file_size))
        bad[packed] = [
            geometry.compressed_place(int(entry))[0] >= file_size for entry in entries[packed]
        ]
    return bad if bad.any() else None
