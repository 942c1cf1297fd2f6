"""What the map knows at one moment: the maps' words, what is in flight, and the counts. No Qt."""

import time

import numpy as np
from numpy.typing import NDArray

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.snapshot import ErrorRecord, JobSnapshot, OperationView
from mirrorgui.ui.heatmap.cells import (
    CellCounts,
    ChunkState,
    Ranges,
    chunk_state,
    count_states,
    fold,
    in_flight_chunks,
    nonzero_words,
    state_bytes,
)
from mirrorgui.ui.heatmap.viewport import View

FINE_MEMORY = 1 << 20
"""Images of so many chunks get a time of the last write for each; larger ones for each word."""


class MapFrame:
    """The latest frame of one image, and what the views ask about it.

    Attributes:
        name: what the image is called in front of people.
        size: its length in bytes.
        granularity: bytes per chunk.
        chunks: number of chunks.
        words: the maps; the caller overwrites them in place between frames.
        in_flight: chunks in flight.
        operations: the operations in flight.
        errors: places that failed.
        overview: counts of the whole image.
    """

    def __init__(self, name: str = "", size: int = 0, granularity: int = 1) -> None:
        self.name = name
        self.size = size
        self.granularity = granularity
        self.chunks = -(-size // granularity)
        self.words = MapWords.empty(self.chunks)
        self.in_flight: Ranges = np.empty((0, 2), np.int64)
        self.operations: tuple[OperationView, ...] = ()
        self.errors: tuple[ErrorRecord, ...] = ()
        self.time_ns = 0
        self._generation: int | None = None
        self._per_cell = 1
        self.overview = fold(self.words, self.in_flight, 0, self.chunks, 1)
        self._writes = WriteTimes(self.chunks)

    def set_overview_scale(self, per_cell: int) -> None:
        """Count the whole image in cells of so many chunks."""
        if per_cell != self._per_cell:
            self._per_cell = per_cell
            self._fold()

    def update(self, snapshot: JobSnapshot, words: MapWords) -> bool:
        """Take a new moment in.

        Returns:
            Whether anything on the map changed; nothing was counted anew when not.

        Raises:
            ValueError: the maps are those of another image; nothing has changed.
        """
        if words.chunks != self.chunks:
            raise ValueError(f"maps of {words.chunks} chunks for an image of {self.chunks}")
        before = (self._generation, self.operations, self.words)
        self.words, self._generation = words, snapshot.generation
        self.operations, self.errors = snapshot.operations, snapshot.errors
        self.time_ns = snapshot.time_ns
        if before[:2] == (self._generation, self.operations) and before[2] is words:
            return False
        self.in_flight = in_flight_chunks(snapshot.operations, self.granularity, self.chunks)
        self._writes.note(words)
        self._fold()
        return True

    def _fold(self) -> None:
        cells = -(-self.chunks // self._per_cell)
        self.overview = fold(self.words, self.in_flight, 0, cells, self._per_cell)

    def counts(self, view: View) -> CellCounts:
        """Return the counts of the cells in view."""
        whole = view.first == 0 and view.grid.cells >= self.overview.cells
        if whole and view.per_cell == self._per_cell:
            return self.overview
        return fold(self.words, self.in_flight, view.first, view.grid.cells, view.per_cell)

    def counts_of(self, first: int, end: int) -> dict[ChunkState, int]:
        """Return the chunks by state in [first, end), whatever its borders."""
        return count_states(self.words, self.in_flight, first, end)

    def range_of(self, first: int, end: int) -> tuple[int, int]:
        """Return (offset, length) in bytes of the chunks [first, end)."""
        offset = first * self.granularity
        return offset, min(end * self.granularity, self.size) - offset

    def bytes_by_state(self) -> dict[ChunkState, int]:
        """Return how many bytes of the image are in each state; they add up to its size."""
        tail = None
        if self.chunks:
            tail = chunk_state(self.words, self.in_flight, self.chunks - 1)
        slack = self.chunks * self.granularity - self.size
        return state_bytes(self.overview.sums(), self.granularity, tail, slack)

    def last_write_s(self, first: int, end: int) -> float | None:
        """Return the seconds since a client wrote to the chunks [first, end) after their copy.

        None when that was not seen, or when it is not known precisely enough for so few chunks.
        """
        return self._writes.age_s(first, end)

    @property
    def copy_position(self) -> int | None:
        """The chunk that the newest operation works on, or None when none is in flight."""
        if not self.operations:
            return None
        newest = max(self.operations, key=lambda each: each.started_ns)
        return min(newest.offset // self.granularity, max(self.chunks - 1, 0))


class WriteTimes:
    """When chunks became *again*, which only a client's write does to a chunk that was copied."""

    def __init__(self, chunks: int) -> None:
        words = -(-chunks // 64)
        self._fine = chunks <= FINE_MEMORY
        # Two buffers that change places: fresh ones for every frame cost more than the work.
        self._again: NDArray[np.uint64] = np.zeros(words, np.uint64)
        self._spare: NDArray[np.uint64] = np.zeros(words, np.uint64)
        self._seen = False
        self._times: NDArray[np.float32] = np.full(
            words * 64 if self._fine else words, -np.inf, np.float32
        )
        self._start_s = time.monotonic()

    def note(self, words: MapWords) -> None:
        """Compare with the moment before."""
        again = np.bitwise_and(words.dirty, words.copied, out=self._spare)
        before = np.invert(self._again, out=self._again)
        new = np.bitwise_and(again, before, out=before)
        self._again, self._spare = again, new
        if not self._seen:
            self._seen = True
            return
        where = nonzero_words(new)
        if not len(where):
            return
        now = time.monotonic() - self._start_s
        if not self._fine:
            self._times[where] = now
            return
        bits = np.unpackbits(new[where].astype("<u8").view(np.uint8), bitorder="little")
        chunks = (where[:, None] * 64 + np.arange(64)).reshape(-1)[bits.view(bool)]
        self._times[chunks] = now

    def age_s(self, first: int, end: int) -> float | None:
        """Return the seconds since the newest write among the chunks [first, end)."""
        if not self._fine:
            if first % 64 or (end - first) < 64:
                return None
            first, end = first // 64, -(-end // 64)
        newest = float(self._times[first:end].max(initial=-np.inf))
        if newest == -np.inf:
            return None
        return max(time.monotonic() - self._start_s - newest, 0.0)
