"""What a copy thread does for one operation: ask, read, look for zeroes, write.

The thread owns one buffer of ``PIECE`` bytes, so memory does not grow with granularity or with the
number of operations in flight. Nothing here decides anything: errors go up to the policy.
"""

import mmap
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.node import BlockNode, ExtentKind, chain_extents
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.units import KiB, MiB

PIECE = 1 * MiB
"""Bytes read and written at once. Longer requests were not faster; shorter ones cost calls."""

ZERO_BLOCK = 4 * KiB
"""Zeroes are looked for in blocks of this size, the usual allocation unit of a file system. A block
is searched only when it begins with a zero word, so data costs one word a block."""

MIN_ZEROING = 64 * KiB
"""Shorter runs of zeroes than this are written with the data around them where the target holds
something: a hole in the midst of data costs more than it saves."""

MAP_FROM = 256 * KiB
"""Ranges from this length on are asked for their map first. Shorter ones are dirty because somebody
wrote them: reading is as cheap as asking, and the zeroes in them are found all the same."""

_WORD = 8


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes of an operation by what happened to them."""

    copied: int = 0
    zeroed: int = 0


class Copier:
    """Copies ranges from one node to another; one for each thread.

    Attributes:
        target_data: chunks of the target that may hold something else than zeroes. Kept outward:
            marked before data is written, cleared after a whole chunk was made zero.
    """

    def __init__(
        self,
        source: BlockNode,
        target: BlockNode,
        target_data: DirtyBitmap,
        *,
        unmap: bool,
    ) -> None:
        self._source = source
        self._target = target
        self.target_data = target_data
        self._unmap = unmap
        # Anonymous memory is page-aligned and unlike bytearray not touched before it is used.
        self._buffer = memoryview(mmap.mmap(-1, PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        words: NDArray[np.uint64] = np.frombuffer(self._buffer, np.uint64)
        self._blocks = words.reshape(-1, ZERO_BLOCK // _WORD)
        self._heads = self._blocks[:, 0]

    def copy(self, offset: int, length: int) -> Moved:
        """Make the target's range equal to the source's.

        Raises:
            BlockIOError: the range may be copied in part.
        """
        if length < MAP_FROM:
            copied = self._copy_piece(offset, length)
            return Moved(copied, length - copied)
        copied = 0
        for run in chain_extents(self._source, offset, length):
            if run.kind is ExtentKind.ZERO:
                self._zero(run.offset, run.length)
                continue
            for start in range(run.offset, run.end, PIECE):
                copied += self._copy_piece(start, min(PIECE, run.end - start))
        return Moved(copied, length - copied)

    def _copy_piece(self, offset: int, length: int) -> int:
        """Copy at most one buffer; return how many bytes were written as data."""
        piece = self._buffer[:length]
        self._source.read_into(offset, piece)
        heads = self._heads[: -(-length // ZERO_BLOCK)]
        if heads.all():  # no block begins with zeroes: nothing but data
            self._write(offset, piece)
            return length
        return self._copy_runs(offset, piece)

    def _copy_runs(self, offset: int, piece: memoryview) -> int:
        """Write a buffer in runs of zeroes and data; return the bytes written as data."""
        wrote = 0
        runs = self._runs(len(piece))
        # Asked before anything is written, which marks whole chunks.
        known = [
            is_zero and not self.target_data.touches(offset + start, end - start)
            for start, end, is_zero in runs
        ]
        for (start, end, is_zero), known_zero in zip(runs, known, strict=True):
            if known_zero:
                continue
            if is_zero and end - start >= MIN_ZEROING:
                self._zero(offset + start, end - start)
            else:
                self._write(offset + start, piece[start:end])
                wrote += end - start
        return wrote

    def _runs(self, length: int) -> list[tuple[int, int, bool]]:
        """Return the buffer as runs of (start, end, is zero), in whole blocks but for the end.

        A last block that is cut short counts as data: it is the image's tail.
        """
        whole = length // ZERO_BLOCK
        runs = []
        if whole:
            zero = self._blocks[:whole].max(axis=1) == 0  # faster than any(), which makes booleans
            edges = (np.flatnonzero(zero[1:] != zero[:-1]) + 1).tolist()
            for first, last in pairwise([0, *edges, whole]):
                runs.append((first * ZERO_BLOCK, last * ZERO_BLOCK, bool(zero[first])))
        if length % ZERO_BLOCK:
            runs.append((whole * ZERO_BLOCK, length, False))
        return runs

    def _write(self, offset: int, data: memoryview) -> None:
        # Before the write: a failed one may have left anything behind.
        self.target_data.mark(offset, len(data))
        self._target.write(offset, data)

    def _zero(self, offset: int, length: int) -> None:
        """Make a range of the target read as zeroes, unless it is known to do so already."""
        if self.target_data.touches(offset, length):
            self._target.write_zeroes(offset, length, may_unmap=self._unmap)
            self.target_data.clear(offset, length)
