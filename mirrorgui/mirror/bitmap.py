"""The dirty bitmap: one bit a chunk, set by guests from any thread, cleared by the job.

Bits live in anonymous private memory without huge pages, so that a bitmap over a vast sparse image
costs only the pages in which a bit was ever set. A ``bitarray`` gives fast single-bit work on it, a
numpy view everything in bulk.
"""

import mmap
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bitarray import bitarray
from numpy.typing import NDArray

from mirrorgui.block.node import Range
from mirrorgui.units import align_down, align_up

_WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class MapWords:
    """The job's maps as packed bits: chunk ``c`` is bit ``c % 64`` of word ``c // 64``.

    Bits behind the last chunk are 0. All arrays have shape ``(ceil(chunks / 64),)``.

    Attributes:
        chunks: number of chunks.
        dirty: to copy; to copy *again* where ``copied`` is set too.
        copied: has been brought to the target at least once.
        failed: the last try failed and none has succeeded since.
    """

    chunks: int
    dirty: NDArray[np.uint64]
    copied: NDArray[np.uint64]
    failed: NDArray[np.uint64]

    @classmethod
    def empty(cls, chunks: int) -> "MapWords":
        """Return maps with nothing set."""
        words = -(-chunks // _WORD_BITS)
        return cls(chunks, *(np.zeros(words, np.uint64) for _ in range(3)))


class DirtyBitmap:
    """A set of chunks of an image.

    ``mark`` rounds outward, ``clear`` rounds inward: a chunk is clean only when all of it is.

    Concurrency: every method may be called from any thread; each holds the lock for one short step.

    Attributes:
        size: length of the image in bytes.
        granularity: bytes per chunk.
        chunks: number of chunks.
        generation: changes with every change of a bit.
    """

    def __init__(self, size: int, granularity: int) -> None:
        self.size = size
        self.granularity = granularity
        self.chunks = -(-size // granularity)
        self.generation = 0
        words = max(-(-self.chunks // _WORD_BITS), 1)
        memory = mmap.mmap(-1, words * 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        self._bits = bitarray(buffer=memory, endian="little")
        self._words: NDArray[np.uint64] = np.frombuffer(memory, np.uint64)
        self._count = 0
        self._tail_slack = self.chunks * granularity - size
        self._lock = threading.Lock()

    @property
    def dirty_bytes(self) -> int:
        """Bytes in dirty chunks, the last chunk counted as long as it is."""
        with self._lock:
            count = self._count * self.granularity
            if self._tail_slack and self._count and self._bits[self.chunks - 1]:
                count -= self._tail_slack
            return count

    @property
    def is_clean(self) -> bool:
        """Whether no chunk is dirty."""
        return not self._count

    def __contains__(self, offset: int) -> bool:
        """Say whether the chunk around ``offset`` is dirty."""
        return bool(self._bits[offset // self.granularity])

    def mark(self, offset: int, length: int) -> int:
        """Mark every chunk that the range touches; return how many bytes became dirty by it."""
        if length <= 0:
            return 0
        first = offset // self.granularity
        end = min((offset + length - 1) // self.granularity + 1, self.chunks)
        with self._lock:
            return self._assign(first, end, 1)

    def mark_ranges(self, ranges: Sequence[Range]) -> None:
        """Mark every chunk that any of many ranges touches."""
        with self._lock:
            self._assign_ranges(ranges, 1)

    def _assign_ranges(self, ranges: Sequence[Range], bit: int) -> None:
        """Set the bits of every chunk that any of many ranges touches to one value."""
        granularity, bits = self.granularity, self._bits
        spans = [
            (offset // granularity, (offset + length - 1) // granularity + 1)
            for offset, length in ranges
            if length
        ]
        if not spans:
            return
        low, high = min(spans)[0], max(spans)[1]
        # Counted once for all of them: counting is most of what assigning to one of them costs.
        before = bits.count(1, low, high)
        for first, end in spans:
            bits[first:end] = bit
        changed = bits.count(1, low, high) - before
        if changed:
            self._count += changed
            self.generation += 1

    def clear(self, offset: int, length: int) -> int:
        """Clear every chunk that lies wholly in the range; return how many bytes became clean.

        A range that reaches the end of the image covers the last chunk however short it is.
        """
        first = -(-offset // self.granularity)
        end = offset + length
        last = self.chunks if end >= self.size else end // self.granularity
        if last <= first:
            return 0
        with self._lock:
            return self._assign(first, last, 0)

    def clear_ranges(self, ranges: Sequence[Range]) -> None:
        """Clear every chunk that lies wholly in one of many ranges."""
        inward = []
        for offset, length in ranges:
            start, end = align_up(offset, self.granularity), offset + length
            if end < self.size:
                end = align_down(end, self.granularity)
            if end > start:
                inward.append((start, end - start))
        with self._lock:
            self._assign_ranges(inward, 0)

    def _assign(self, first: int, end: int, bit: int) -> int:
        """Set the bits [first, end) to one value; return the bytes whose bit changed."""
        bits = self._bits
        if end - first == 1:
            if bits[first] == bit:
                return 0
            bits[first] = bit
            changed = 1
            tail = first == self.chunks - 1
        else:
            changed = bits.count(1 - bit, first, end)
            if not changed:
                return 0
            tail = end == self.chunks and bits[end - 1] != bit
            bits[first:end] = bit
        self._count += changed if bit else -changed
        self.generation += 1
        return changed * self.granularity - (self._tail_slack if tail else 0)

    def next_dirty(self, offset: int) -> int | None:
        """Return the start of the first dirty chunk that ends behind ``offset``, or None."""
        with self._lock:
            if not self._count:
                return None
            found = self._bits.find(1, offset // self.granularity)
        return None if found < 0 else found * self.granularity

    def next_run(self, offset: int, max_length: int) -> tuple[int, int] | None:
        """Return (offset, length) of the first dirty run at or behind ``offset``, or None.

        The run is cut at ``max_length`` bytes in whole chunks (one at least) and at the image's
        end, so a length need not be a multiple of granularity.
        """
        granularity = self.granularity
        with self._lock:
            if not self._count:
                return None
            first = self._bits.find(1, offset // granularity)
            if first < 0:
                return None
            limit = min(first + max(max_length // granularity, 1), self.chunks)
            end = self._bits.find(0, first, limit)
        start = first * granularity
        return start, min((limit if end < 0 else end) * granularity, self.size) - start

    def next_runs(self, offset: int, max_length: int, most: int) -> list[tuple[int, int]]:
        """Return at most so many dirty runs at or behind ``offset``, in order: (offset, length).

        Together they are no longer than ``max_length`` bytes in whole chunks (one at least), so the
        last one may be cut; a run ends at the image's end.
        """
        granularity, bits = self.granularity, self._bits
        room = max(max_length // granularity, 1)
        found: list[tuple[int, int]] = []
        with self._lock:
            end = offset // granularity
            while self._count and room and len(found) < most:
                first = bits.find(1, end)
                if first < 0:
                    break
                limit = min(first + room, self.chunks)
                end = bits.find(0, first, limit)
                if end < 0:
                    end = limit
                found.append((first * granularity, (end - first) * granularity))
                room -= end - first
        if found and found[-1][0] + found[-1][1] > self.size:
            found[-1] = found[-1][0], self.size - found[-1][0]
        return found

    def covers(self, offset: int, length: int) -> bool:
        """Say whether every chunk that the range touches is dirty."""
        end = min((offset + length - 1) // self.granularity + 1, self.chunks)
        with self._lock:
            return self._bits.find(0, offset // self.granularity, end) < 0

    def touches(self, offset: int, length: int) -> bool:
        """Say whether any chunk that the range touches is dirty."""
        if not self._count or length <= 0:
            return False
        end = min((offset + length - 1) // self.granularity + 1, self.chunks)
        with self._lock:
            return self._bits.find(1, offset // self.granularity, end) >= 0

    def touched(self, ranges: Sequence[Range]) -> list[Range]:
        """Return those of many ranges, none of them empty, that touch any dirty chunk."""
        if not self._count:
            return []
        granularity, find = self.granularity, self._bits.find
        with self._lock:
            return [
                (offset, length)
                for offset, length in ranges
                if find(1, offset // granularity, (offset + length - 1) // granularity + 1) >= 0
            ]

    def runs(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """Return the range as adjacent runs of (length in bytes, dirty), covering it exactly."""
        found: list[tuple[int, bool]] = []
        end = offset + length
        while offset < end:
            chunk = offset // self.granularity
            with self._lock:
                dirty = bool(self._bits[chunk])
                change = self._bits.find(not dirty, chunk, self.chunks)
            stop = end if change < 0 else min(change * self.granularity, end)
            found.append((stop - offset, dirty))
            offset = stop
        return found

    def mark_all(self) -> None:
        """Mark every chunk."""
        self.mark(0, self.size)

    def copy_words_into(self, words: NDArray[np.uint64]) -> None:
        """Copy the bits out: shape ``(ceil(chunks / 64),)``, layout as in ``MapWords``."""
        with self._lock:
            np.copyto(words, self._words[: len(words)])
