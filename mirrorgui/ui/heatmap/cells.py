"""From packed bits to counts: how many chunks of each state lie in each cell of the map.

Free of Qt. A cell stands for ``per_cell`` chunks, a power of two, so that it is a whole number of
words or of equal parts of one. Counting is popcount and adding neighbours: 16 Mi chunks fold to a
screenful of cells in about a millisecond.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.snapshot import OperationView
from mirrorgui.units import is_power_of_two

WORD_BITS = 64

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]
Ranges = NDArray[np.int64]
"""Shape (n, 2): chunks [first, end), ascending, disjoint and not touching."""


class ChunkState(enum.Enum):
    """What is the matter with a chunk; where several apply, the first one counts."""

    FAILED = "failed"
    IN_FLIGHT = "in-flight"
    AGAIN = "again"
    """To copy again: it was copied, then written."""
    TO_COPY = "to-copy"
    IN_SYNC = "in-sync"
    NOT_ALLOCATED = "not-allocated"
    """Nothing to copy there, or skipped."""


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Chunks by state in each of a row of cells.

    Attributes:
        first: the first cell's first chunk.
        per_cell: chunks per cell; the image's last cell may have fewer.
        total, failed, in_flight, again, to_copy, in_sync: chunks per cell.
        in_flight_again: those in flight that had been copied before.
    """

    first: int
    per_cell: int
    total: Counts
    failed: Counts
    in_flight: Counts
    again: Counts
    to_copy: Counts
    in_sync: Counts
    in_flight_again: Counts

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.total)

    @property
    def not_allocated(self) -> Counts:
        """Chunks that are in no other state."""
        return self.total - self.failed - self.in_flight - self.again - self.to_copy - self.in_sync

    def of(self, state: ChunkState) -> Counts:
        """Return the counts of one state."""
        found: Counts = getattr(self, state.name.lower())
        return found

    def sums(self, begin: int = 0, end: int | None = None) -> dict[ChunkState, int]:
        """Return the chunks by state in cells [begin, end)."""
        return {state: int(self.of(state)[begin:end].sum()) for state in ChunkState}


def fold(
    words: MapWords,
    in_flight: Ranges,
    first: int,
    cells: int,
    per_cell: int,
) -> CellCounts:
    """Count the states of the chunks in a row of cells.

    Args:
        words: the job's maps; only read.
        in_flight: the chunks in flight, as ``in_flight_chunks`` gives them.
        first: first chunk of the first cell, a multiple of ``per_cell``.
        cells: how many cells are wanted; those that lie behind the image are left out.
        per_cell: chunks per cell, a power of two.
    """
    if not is_power_of_two(per_cell):
        raise ValueError(f"chunks per cell must be a power of two, not {per_cell}")
    if first % per_cell:
        raise ValueError(f"first chunk {first} is not at the border of a cell of {per_cell}")
    cells = max(min(cells, -(-(words.chunks - first) // per_cell)), 0)
    begin, end = first // WORD_BITS, -(-(first + cells * per_cell) // WORD_BITS)
    dirty, copied, failed = (
        array[begin:end] for array in (words.dirty, words.copied, words.failed)
    )
    skip = first % WORD_BITS // min(per_cell, WORD_BITS)
    again = _fold_words(dirty & copied, per_cell, skip, cells)
    counts = CellCounts(
        first,
        per_cell,
        _totals(words.chunks, first, cells, per_cell),
        np.zeros(cells, np.int64),
        np.zeros(cells, np.int64),
        again,
        _fold_words(dirty, per_cell, skip, cells) - again,
        _fold_words(copied, per_cell, skip, cells) - again,
        np.zeros(cells, np.int64),
    )
    if cells:
        # Few words have failed chunks or chunks in flight: those are corrected one by one.
        where = nonzero_words(failed)
        _take_out(counts, words, begin + where, failed[where], counts.failed)
        end = min(first + cells * per_cell, words.chunks)
        index, bits = range_words(np.clip(in_flight, first, end))
        bits &= ~words.failed[index]
        _take_out(counts, words, index, bits, counts.in_flight)
        _add(counts, counts.in_flight_again, index, bits & words.copied[index])
    return counts


def nonzero_words(words: Words) -> NDArray[np.int64]:
    """Return where words have any bit set; quick when there are none."""
    if not words.any():
        return np.empty(0, np.int64)
    return np.flatnonzero(words != 0)


def _totals(chunks: int, first: int, cells: int, per_cell: int) -> Counts:
    total = np.full(cells, per_cell, np.int64)
    if cells:
        total[-1] = min(per_cell, chunks - first - (cells - 1) * per_cell)
    return total


def _fold_words(words: Words, per_cell: int, skip: int, cells: int) -> Counts:
    """Count bits per cell; ``skip`` cells of the first word lie before the window."""
    parts = _count_parts(words, min(per_cell, WORD_BITS))
    bits = WORD_BITS
    while bits < per_cell:
        if len(parts) % 2:
            parts = np.append(parts, parts.dtype.type(0))
        if bits * 2 > np.iinfo(parts.dtype).max:
            parts = parts.astype(_WIDER[parts.dtype.itemsize])
        parts = parts[0::2] + parts[1::2]
        bits *= 2
    return parts[skip : skip + cells].astype(np.int64)


_WIDER: dict[int, type[np.unsignedinteger]] = {1: np.uint16, 2: np.uint32, 4: np.uint64}


def _count_parts(words: Words, bits: int) -> NDArray[np.unsignedinteger]:
    """Count the set bits in each run of ``bits`` bits, a power of two up to a word's."""
    little = words.astype("<u8", copy=False)
    if bits >= 8:
        counted: NDArray[np.unsignedinteger] = np.bitwise_count(little.view(f"<u{bits // 8}"))
        return counted
    parts = np.unpackbits(little.view(np.uint8), bitorder="little")
    while bits > 1:
        parts = parts[0::2] + parts[1::2]
        bits //= 2
    return parts


def in_flight_chunks(operations: Iterable[OperationView], granularity: int, chunks: int) -> Ranges:
    """Return the chunks that the operations touch, each once.

    A guest's write need not begin at a chunk's border, so two of them may share a chunk.
    """
    spans = sorted(
        (each.offset // granularity, -(-(each.offset + each.length) // granularity))
        for each in operations
        if each.length > 0
    )
    merged: list[list[int]] = []
    for begin, end in spans:
        end = min(end, chunks)
        if begin >= end:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return np.array(merged, np.int64).reshape(-1, 2)


def range_words(ranges: Ranges) -> tuple[NDArray[np.int64], Words]:
    """Return the words that the ranges of chunks touch, each once, and their bits in each."""
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    if not len(ranges):
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    indices, masks = [], []
    for begin, end in ranges.tolist():
        index = np.arange(begin // WORD_BITS, -(-end // WORD_BITS))
        mask = np.full(len(index), ~np.uint64(0))
        mask[0] &= ~np.uint64(0) << np.uint64(begin % WORD_BITS)
        mask[-1] &= ~np.uint64(0) >> np.uint64(-end % WORD_BITS)
        indices.append(index)
        masks.append(mask)
    index, where = np.unique(np.concatenate(indices), return_inverse=True)
    bits = np.zeros(len(index), np.uint64)
    np.bitwise_or.at(bits, where, np.concatenate(masks))
    return index, bits


def _take_out(
    counts: CellCounts, words: MapWords, index: NDArray[np.int64], bits: Words, target: Counts
) -> None:
    """Move chunks from the counts of their maps' states to another count."""
    if not len(index):
        return
    dirty, copied = words.dirty[index], words.copied[index]
    _add(counts, target, index, bits)
    _add(counts, counts.again, index, bits & dirty & copied, -1)
    _add(counts, counts.to_copy, index, bits & dirty & ~copied, -1)
    _add(counts, counts.in_sync, index, bits & copied & ~dirty, -1)


def _add(
    counts: CellCounts, target: Counts, index: NDArray[np.int64], bits: Words, sign: int = 1
) -> None:
    """Add the bits of some words to the cells that they lie in."""
    bits_per_part = min(counts.per_cell, WORD_BITS)
    parts = WORD_BITS // bits_per_part
    chunk = (index[:, None] * WORD_BITS + np.arange(parts) * bits_per_part).reshape(-1)
    cell = (chunk - counts.first) // counts.per_cell
    inside = (cell >= 0) & (cell < counts.cells)
    part = _count_parts(bits, bits_per_part).astype(np.int64)
    np.add.at(target, cell[inside], sign * part[inside])


def count_states(words: MapWords, in_flight: Ranges, first: int, end: int) -> dict[ChunkState, int]:
    """Return the chunks by state in [first, end), which need not begin or end at any border."""
    index, mask = range_words(np.array([[first, end]]))
    low = int(index[0]) if len(index) else 0
    dirty, copied, failed = (
        array[low : low + len(index)] & mask for array in (words.dirty, words.copied, words.failed)
    )
    busy = np.zeros(len(index), np.uint64)
    where, bits = range_words(np.clip(in_flight, first, max(end, first)))
    busy[where - low] = bits
    busy &= ~failed
    idle = ~(failed | busy)
    counts = {
        ChunkState.FAILED: failed,
        ChunkState.IN_FLIGHT: busy,
        ChunkState.AGAIN: dirty & copied & idle,
        ChunkState.TO_COPY: dirty & ~copied & idle,
        ChunkState.IN_SYNC: copied & ~dirty & idle,
    }
    sums = {state: int(np.bitwise_count(bits).sum()) for state, bits in counts.items()}
    sums[ChunkState.NOT_ALLOCATED] = max(end - first, 0) - sum(sums.values())
    return sums


def state_bytes(
    sums: dict[ChunkState, int], granularity: int, tail_state: ChunkState | None, slack: int
) -> dict[ChunkState, int]:
    """Turn chunks by state into bytes.

    Args:
        sums: chunks by state.
        granularity: bytes per chunk.
        tail_state: state of the image's last chunk when it is among them, else None.
        slack: bytes that the last chunk is shorter than ``granularity``.
    """
    return {
        state: count * granularity - (slack if state is tail_state else 0)
        for state, count in sums.items()
    }


def chunk_state(words: MapWords, in_flight: Ranges, chunk: int) -> ChunkState:
    """Return the state of one chunk."""
    index, bit = chunk // WORD_BITS, np.uint64(chunk % WORD_BITS)

    def has(array: Words) -> bool:
        return bool(array[index] >> bit & np.uint64(1))

    if has(words.failed):
        return ChunkState.FAILED
    if any(begin <= chunk < end for begin, end in in_flight.tolist()):
        return ChunkState.IN_FLIGHT
    if has(words.dirty):
        return ChunkState.AGAIN if has(words.copied) else ChunkState.TO_COPY
    return ChunkState.IN_SYNC if has(words.copied) else ChunkState.NOT_ALLOCATED
