"""What a copy thread does for one operation: ask, read, look for zeroes, write.

The thread owns one buffer of ``PIECE`` bytes, so memory does not grow with granularity or with the
number of operations in flight. Nothing here decides anything: errors go up to the policy.
"""

import mmap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.node import BlockNode, ExtentKind, chain_extents
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.units import KiB, MiB

PIECE = 1 * MiB
"""Bytes read and written at once. Longer requests were not faster; shorter ones cost calls."""

ZERO_BLOCK = 64 * KiB
"""Zeroes are looked for in blocks of this size, or of the granularity where that is finer.

A block is searched only when it begins with a zero word, so data costs one word a block.
"""

MIN_ZERO_BLOCK = 4 * KiB
"""Usual allocation unit of a file system: finer holes would save nothing."""

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
        self._zero_block = min(max(target_data.granularity, MIN_ZERO_BLOCK), ZERO_BLOCK)
        # Anonymous memory is page-aligned and unlike bytearray not touched before it is used.
        self._buffer = memoryview(mmap.mmap(-1, PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        words: NDArray[np.uint64] = np.frombuffer(self._buffer, np.uint64)
        self._blocks = words.reshape(-1, self._zero_block // _WORD)

    def copy(self, offset: int, length: int) -> Moved:
        """Make the target's range equal to the source's.

        Raises:
            BlockIOError: the range may be copied in part.
        """
        copied = zeroed = 0
        for run in chain_extents(self._source, offset, length):
            if run.kind is ExtentKind.ZERO:
                self._zero(run.offset, run.length)
                zeroed += run.length
                continue
            for start in range(run.offset, run.end, PIECE):
                wrote = self._copy_piece(start, min(PIECE, run.end - start))
                copied += wrote
                zeroed += min(PIECE, run.end - start) - wrote
        return Moved(copied, zeroed)

    def _copy_piece(self, offset: int, length: int) -> int:
        """Copy at most one buffer; return how many bytes were written as data."""
        piece = self._buffer[:length]
        self._source.read_into(offset, piece)
        zero = self._zero_blocks(length)
        if not zero:
            self._write(offset, piece)
            return length
        return self._copy_runs(offset, piece, zero)

    def _zero_blocks(self, length: int) -> set[int]:
        """Return the numbers of the whole blocks in the buffer that hold only zeroes."""
        blocks = self._blocks[: length // self._zero_block]
        candidates = np.flatnonzero(blocks[:, 0] == 0)
        return {int(block) for block in candidates if not blocks[block].any()}

    def _copy_runs(self, offset: int, piece: memoryview, zero: set[int]) -> int:
        """Write a buffer in runs of zero and non-zero blocks; return the bytes of data."""
        block, length, wrote, start = self._zero_block, len(piece), 0, 0
        while start < length:
            is_zero = start // block in zero
            end = start + block
            while end < length and (end // block in zero) == is_zero:
                end += block
            end = min(end, length)
            if is_zero:
                self._zero(offset + start, end - start)
            else:
                self._write(offset + start, piece[start:end])
                wrote += end - start
            start = end
        return wrote

    def _write(self, offset: int, data: memoryview) -> None:
        # Before the write: a failed one may have left anything behind.
        self.target_data.mark(offset, len(data))
        self._target.write(offset, data)

    def _zero(self, offset: int, length: int) -> None:
        """Make a range of the target read as zeroes, unless it is known to do so already."""
        if self.target_data.touches(offset, length):
            self._target.write_zeroes(offset, length, may_unmap=self._unmap)
            self.target_data.clear(offset, length)
