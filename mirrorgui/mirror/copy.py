"""What a copy thread does with ranges: ask, read, look for zeroes, write.

Where both images are on one file system that can share storage, data is neither read nor written.

The thread owns one buffer of ``PIECE`` bytes, so memory does not grow with granularity or with the
number of operations in flight. Nothing here decides anything: errors go up to the policy.
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.node import BlockNode, Extent, ExtentKind, Mapped, Range, chain_extents
from mirrorgui.errors import BlockIOError, RequestCancelled
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

MANY_ZEROES = 3
"""So many runs of zeroes are worth the question whether the target has data between them."""

TRIES = 4
"""After so many ranges in a row that could not be shared no other one is tried."""

_WORD = 8


_Run = tuple[int, int, bool]
"""Part of the buffer: (start, end, is zero)."""

_Part = tuple[int, int]
"""Part of the images or of the buffer: (start, end)."""


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
        self._tries = TRIES
        self._gathers = gathers(source, target)
        # Anonymous memory is page-aligned and unlike bytearray not touched before it is used.
        self._buffer = memoryview(mmap.mmap(-1, PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        words: NDArray[np.uint64] = np.frombuffer(self._buffer, np.uint64)
        self._blocks = words.reshape(-1, ZERO_BLOCK // _WORD)
        self._heads = self._blocks[:, 0]

    def copy_all(self, ranges: Sequence[Range]) -> list[Moved | BlockIOError]:
        """Copy several ranges, short ones together where that is faster.

        Returns:
            For each of them what was moved, or why it could not be: it may be copied in part.
        """
        done: list[Moved | BlockIOError] = []
        for group in self._groups(each for each in ranges if each[1]):
            if len(group) == 1:
                done.append(self._tried(*group[0]))
            else:
                done += self._copy_group(group)
        in_turn = iter(done)
        return [next(in_turn) if length else Moved() for _, length in ranges]

    def _groups(self, ranges: Iterable[Range]) -> Iterator[list[Range]]:
        """Part ranges into those that are copied together, in their order."""
        group: list[Range] = []
        room = 0
        for each in ranges:
            length = each[1]
            if not self._gathers or length >= MAP_FROM or length > room:
                if group:
                    yield group
                group, room = [], PIECE
            group.append(each)
            # Behind a tail, blocks would not be aligned in the buffer; long ranges stay alone.
            room = 0 if length >= MAP_FROM or length % ZERO_BLOCK else room - length
        if group:
            yield group

    def _copy_group(self, ranges: list[Range]) -> list[Moved | BlockIOError]:
        try:
            copied = self._copy_pieces(ranges)
        except RequestCancelled as error:
            return [error] * len(ranges)
        except BlockIOError as error:
            # Which of them it was shows when each is copied alone. A fault that is gone by then
            # is told all the same: whoever chose to stop or to report wants to know of it.
            done = [self._tried(*each) for each in ranges]
            if not any(isinstance(each, BlockIOError) for each in done):
                done[_place_of(error, ranges)] = error
            return done
        return [
            Moved(count, length - count) for (_, length), count in zip(ranges, copied, strict=True)
        ]

    def _tried(self, offset: int, length: int) -> Moved | BlockIOError:
        try:
            return self.copy(offset, length)
        except BlockIOError as error:
            return error

    def copy(self, offset: int, length: int) -> Moved:
        """Make the target's range equal to the source's.

        Raises:
            BlockIOError: the range may be copied in part.
        """
        if length < MAP_FROM:
            (copied,) = self._copy_pieces([(offset, length)])
            return Moved(copied, length - copied)
        data, zeroes = _parted(chain_extents(self._source, offset, length))
        self._zero_all(zeroes)
        copied = sum(length for _, length in data)
        if self._tries > 0:
            data = [part for start, length in data for part in self._not_shared(start, length)]
        for group in self._groups(_in_pieces(data)):
            copied -= sum(length for _, length in group) - sum(self._copy_pieces(group))
        return Moved(copied, length - copied)

    def _not_shared(self, start: int, length: int) -> list[Range]:
        """Let the target share a range of data where it can; return what is to be copied."""
        if self._tries <= 0:
            return [(start, length)]
        left: list[Range] = []
        end = start + length
        for run in self._source.map(start, length):
            if not self._share(run):
                break
            if start < run.offset:
                left.append((start, run.offset - start))
            start = run.offset + run.length
        if start < end:
            left.append((start, end - start))
        return left

    def _share(self, run: Mapped) -> bool:
        self.target_data.mark(run.offset, run.length)
        shared = self._target.clone_from(run.offset, run.file, run.host_offset, run.length)
        self._tries = TRIES if shared else self._tries - 1
        return shared

    def _copy_pieces(self, ranges: list[Range]) -> list[int]:
        """Copy ranges that fill at most the buffer together.

        All but the last one are whole blocks long, so each begins with one.

        Returns:
            How many bytes of each were written as data.
        """
        length = sum(length for _, length in ranges)
        buffer = self._buffer[:length]
        if len(ranges) == 1:
            self._source.read_into(ranges[0][0], buffer)
        else:
            self._source.read_ranges(ranges, buffer)
        heads = self._heads[: -(-length // ZERO_BLOCK)]
        if heads.all():  # no block begins with zeroes: nothing but data
            self._write(ranges, buffer)
            return [length for _, length in ranges]
        copied, start = [], 0
        left: list[tuple[int, int, int]] = []
        for offset, length in ranges:
            data = self._drop_zeroes(offset, start, length)
            copied.append(sum(end - first for first, end in data))
            left += [(offset + first - start, first, end) for first, end in data]
            start += length
        self._write_parts(left)
        return copied

    def _drop_zeroes(self, offset: int, start: int, length: int) -> list[_Part]:
        """Zero the target where a part of the buffer is zero.

        Args:
            offset: of the range in the images.
            start: where the range begins in the buffer.
            length: of the range.

        Returns:
            What is left to be written.
        """
        left: list[_Part] = []
        shift = offset - start
        for first, end, is_zero in self._runs(start, length):
            # Nothing of the range is written before all of it was asked for: writing marks chunks.
            if is_zero and not self.target_data.touches(shift + first, end - first):
                continue
            if is_zero and end - first >= MIN_ZEROING:
                self._zero(shift + first, end - first)
            elif left and left[-1][1] == first:
                left[-1] = left[-1][0], end
            else:
                left.append((first, end))
        return left

    def _runs(self, start: int, length: int) -> list[_Run]:
        """Return a part of the buffer as runs, in whole blocks but for the end.

        A last block that is cut short counts as data: it is the image's tail.
        """
        block, whole = start // ZERO_BLOCK, length // ZERO_BLOCK
        runs = []
        if whole:
            # faster than any(), which makes booleans
            zero = self._blocks[block : block + whole].max(axis=1) == 0
            edges = (np.flatnonzero(zero[1:] != zero[:-1]) + 1).tolist()
            for first, last in pairwise([0, *edges, whole]):
                low, high = start + first * ZERO_BLOCK, start + last * ZERO_BLOCK
                runs.append((low, high, bool(zero[first])))
        if length % ZERO_BLOCK:
            runs.append((start + whole * ZERO_BLOCK, start + length, False))
        return runs

    def _write_parts(self, parts: list[tuple[int, int, int]]) -> None:
        """Write parts of the buffer, (offset in the image, start, end), neighbours together."""
        position = 0
        while position < len(parts):
            first, last = position, position + 1
            while last < len(parts) and parts[last][1] == parts[last - 1][2]:
                last += 1
            ranges = [(offset, end - start) for offset, start, end in parts[first:last]]
            self._write(ranges, self._buffer[parts[first][1] : parts[last - 1][2]])
            position = last

    def _write(self, ranges: list[Range], data: memoryview) -> None:
        # Before the write: a failed one may have left anything behind.
        self.target_data.mark_ranges(ranges)
        if len(ranges) == 1:
            self._target.write(ranges[0][0], data)
        else:
            self._target.write_ranges(ranges, data)

    def _zero_all(self, ranges: list[Range]) -> None:
        """Make ranges of the target read as zeroes; nothing between them is kept."""
        ranges = self.target_data.touched(ranges)
        if len(ranges) < MANY_ZEROES or not self._target.limits.gathers:
            for each in ranges:
                self._zero(*each)
            return
        start, end = ranges[0][0], sum(ranges[-1])
        # Where the target stores nothing between them, saying so of all is one request.
        kinds = {run.kind for run in self._target.extents(start, end - start)}
        spans = ranges if ExtentKind.DATA in kinds else [(start, end - start)]
        for offset, length in spans:
            self._target.write_zeroes(offset, length, may_unmap=self._unmap)
        self.target_data.clear_ranges(ranges)

    def _zero(self, offset: int, length: int) -> None:
        """Make a range of the target read as zeroes, unless it is known to do so already."""
        if self.target_data.touches(offset, length):
            self._target.write_zeroes(offset, length, may_unmap=self._unmap)
            self.target_data.clear(offset, length)


def gathers(source: BlockNode, target: BlockNode) -> bool:
    """Say whether scattered ranges are copied together: one by one, each costs more Python.

    Not where requests wait for a peer, as each would wait for all.
    """
    nodes = (source, target)
    return any(node.limits.gathers for node in nodes) or not any(
        node.limits.latency_bound for node in nodes
    )


def _place_of(error: BlockIOError, ranges: list[Range]) -> int:
    """Return which of several ranges an error is of, the first one where it does not say."""
    for place, (offset, length) in enumerate(ranges):
        if offset <= error.offset < offset + length:
            return place
    return 0


def _parted(runs: Iterable[Extent]) -> tuple[list[Range], list[Range]]:
    """Return the runs of data and those of zeroes, neighbours of one kind as one."""
    data: list[Range] = []
    zeroes: list[Range] = []
    last = None
    for offset, length, kind in runs:
        parts = zeroes if kind is ExtentKind.ZERO else data
        if kind is last:  # whatever layers of a chain they come from
            start, before = parts[-1]
            parts[-1] = start, before + length
        else:
            parts.append((offset, length))
            last = kind
    return data, zeroes


def _in_pieces(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield ranges of the images in such that fit into the buffer."""
    for start, length in ranges:
        if length <= PIECE:
            yield start, length
            continue
        for offset in range(start, start + length, PIECE):
            yield offset, min(PIECE, start + length - offset)
