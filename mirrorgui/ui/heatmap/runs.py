"""Runs of chunks in the same state, and the next chunk that is marked. Free of Qt."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.ui.heatmap.cells import WORD_BITS, ChunkState, Ranges, Words

SLICE = 1 << 20
"""Chunks looked at in one step of a scan: 4 ms of work, so that the window never stalls."""

_STATES = tuple(ChunkState)
_CODE = {state: number for number, state in enumerate(_STATES)}


@dataclass(frozen=True, slots=True)
class Run:
    """Adjacent chunks [first, end) in one state."""

    state: ChunkState
    first: int
    end: int

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self.end - self.first


def chunk_codes(words: MapWords, in_flight: Ranges, first: int, end: int) -> NDArray[np.uint8]:
    """Return the state of each chunk in [first, end) as an index into ``ChunkState``."""
    begin = first // WORD_BITS
    dirty, copied, failed = (
        _flags(array[begin : -(-end // WORD_BITS)])[first - begin * WORD_BITS :][: end - first]
        for array in (words.dirty, words.copied, words.failed)
    )
    codes = np.full(end - first, _CODE[ChunkState.NOT_ALLOCATED], np.uint8)
    codes[copied] = _CODE[ChunkState.IN_SYNC]
    codes[dirty] = _CODE[ChunkState.TO_COPY]
    codes[dirty & copied] = _CODE[ChunkState.AGAIN]
    for low, high in in_flight.tolist():
        codes[max(low - first, 0) : max(high - first, 0)] = _CODE[ChunkState.IN_FLIGHT]
    codes[failed] = _CODE[ChunkState.FAILED]
    return codes


def _flags(words: Words) -> NDArray[np.bool_]:
    raw = words.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(raw, bitorder="little").view(np.bool_)


def runs_of(codes: NDArray[np.uint8], first: int) -> Iterator[Run]:
    """Yield the runs of a row of codes that begins at chunk ``first``."""
    begins, ends = _edges(codes)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        yield Run(_STATES[codes[begin]], first + begin, first + end)


def _edges(codes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not len(codes):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    begins = np.concatenate(([0], np.flatnonzero(codes[1:] != codes[:-1]) + 1))
    return begins, np.append(begins[1:], len(codes))


class RunScan:
    """Finds the largest runs of a whole image, a slice at a time.

    Failed runs come first, however small: nobody must have to look for them. The maps are copied,
    so that the result is of one moment.
    """

    def __init__(self, words: MapWords, in_flight: Ranges, wanted: int) -> None:
        self._words = MapWords(
            words.chunks, words.dirty.copy(), words.copied.copy(), words.failed.copy()
        )
        self._in_flight = in_flight
        self._wanted = wanted
        self._position = 0
        self._open: Run | None = None
        self._failed: list[Run] = []
        self._others: list[Run] = []

    @property
    def finished(self) -> bool:
        """Whether the whole image has been looked at."""
        return self._position >= self._words.chunks

    def step(self) -> None:
        """Look at the next slice."""
        first = self._position
        end = min(first + SLICE, self._words.chunks)
        codes = chunk_codes(self._words, self._in_flight, first, end)
        self._position = end
        begins, ends = _edges(codes)
        if not len(begins):
            return
        lengths = ends - begins
        # The first and the last run may go on in the neighbouring slices: they are always kept.
        keep = np.zeros(len(lengths), bool)
        keep[[0, -1]] = True
        keep[_largest(lengths, self._wanted)] = True
        failed = np.flatnonzero(codes[begins] == _CODE[ChunkState.FAILED])
        keep[failed[: self._wanted]] = True
        for number in np.flatnonzero(keep).tolist():
            begin = int(begins[number])
            self._join(Run(_STATES[codes[begin]], first + begin, first + int(ends[number])))
        if self.finished:
            self._close()
        self._trim()

    def _join(self, run: Run) -> None:
        last = self._open
        if last is not None and last.end == run.first and last.state is run.state:
            self._open = Run(run.state, last.first, run.end)
            return
        self._close()
        self._open = run

    def _close(self) -> None:
        if self._open is not None:
            kept = self._failed if self._open.state is ChunkState.FAILED else self._others
            kept.append(self._open)
            self._open = None

    def _trim(self) -> None:
        del self._failed[self._wanted :]
        if len(self._others) > 2 * self._wanted or self.finished:
            self._others.sort(key=lambda run: (-run.chunks, run.first))
            del self._others[self._wanted :]

    def result(self) -> tuple[Run, ...]:
        """Return what was found: failed runs by offset, then the others, the largest first."""
        return (*self._failed, *self._others)[: self._wanted]


def _largest(lengths: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    if len(lengths) <= wanted:
        return np.arange(len(lengths))
    return np.argpartition(lengths, -wanted)[-wanted:]


def next_marked(words: Words, after: int) -> int | None:
    """Return the first set bit behind chunk ``after`` (-1 for the very first), or None."""
    begin = after + 1
    index = begin // WORD_BITS
    if index >= len(words):
        return None
    rest = int(words[index]) >> (begin % WORD_BITS)
    if rest:
        return begin + (rest & -rest).bit_length() - 1
    found = np.flatnonzero(words[index + 1 :])
    if not len(found):
        return None
    index += 1 + int(found[0])
    value = int(words[index])
    return index * WORD_BITS + (value & -value).bit_length() - 1


def previous_marked(words: Words, before: int) -> int | None:
    """Return the last set bit in front of chunk ``before``, or None."""
    index, bit = divmod(before, WORD_BITS)
    if index < len(words) and bit:
        rest = int(words[index]) & ((1 << bit) - 1)
        if rest:
            return index * WORD_BITS + rest.bit_length() - 1
    found = np.flatnonzero(words[:index])
    if not len(found):
        return None
    index = int(found[-1])
    return index * WORD_BITS + int(words[index]).bit_length() - 1
