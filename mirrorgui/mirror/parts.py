"""A dirty bitmap that also remembers which part of a chunk was written.

A guest that writes 4 KiB here and there makes chunks of 64 KiB dirty. Where a chunk has been copied
before, source and target differ in no more than what was written since, so that is all that is
copied again. What is dirty, in flight and left is counted in chunks all the same.
"""

from collections.abc import Sequence

from mirrorgui.block.node import Range
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.units import KiB, align_down, align_up

PART = 4 * KiB
"""Smaller parts would save nothing: it is what file systems write, and disks often as well."""


class PartBitmap(DirtyBitmap):
    """A set of chunks that knows what of each is to be copied.

    ``clear`` changes nothing of that knowledge: it is of no use for a clean chunk, and ``take``
    uses it up. Parts are kept only where a chunk was marked in part, so they cost no
    memory where an image is copied for the first time.

    Args:
        size: length of the image in bytes.
        granularity: bytes per chunk.
        part: bytes per part; of no use, and not kept, unless smaller than a chunk.
    """

    def __init__(self, size: int, granularity: int, part: int = PART) -> None:
        super().__init__(size, granularity)
        self._parts = _Parts(size, part) if part < granularity else None
        self._in_parts = _Chunks(size, granularity)
        """Chunks of which the marked parts are all that is to be copied."""

    def mark(self, offset: int, length: int) -> int:
        """Mark every chunk that the range touches; return how many bytes became dirty by it.

        A chunk that lies wholly in the range will be copied whole.
        """
        # Details first: the job clears a chunk, then takes its details, then reads. What it takes
        # is in the source by then, and what it misses belongs to a mark that it has not seen.
        if self._parts is not None and length > 0:
            self._in_parts.clear(offset, length)
            if length < 2 * self.granularity:
                self._parts.mark(offset, length)
            else:
                self._parts.mark(offset, self.granularity)
                self._parts.mark(offset + length - self.granularity, self.granularity)
        return super().mark(offset, length)

    def mark_ranges(self, ranges: Sequence[Range]) -> None:
        """Mark every chunk that any of many ranges touches; each will be copied whole."""
        if not self._in_parts.is_clean:
            for offset, length in ranges:
                start = align_down(offset, self.granularity)
                end = align_up(offset + length, self.granularity)
                self._in_parts.clear(start, end - start)
        super().mark_ranges(ranges)

    def take(self, ranges: Sequence[Range]) -> list[Range]:
        """Clear ranges of whole chunks; return what is to be copied of each, as if it were done.

        Call it before they are read; a failure to copy a range takes it back by marking all of it.
        A length is 0 where nothing is to be copied.
        """
        with self._lock:
            self._assign_ranges(ranges, 0)
        if self._parts is None:
            return list(ranges)
        known = self._in_parts.mark_each(ranges)
        if not any(known):
            # What is forgotten is in the source by now, and all of it is going to be read.
            self._parts.forget(ranges)
            return list(ranges)
        spans = self._parts.take_spans(ranges)
        return [
            span if in_parts else whole
            for span, in_parts, whole in zip(spans, known, ranges, strict=True)
        ]


class _Parts(DirtyBitmap):
    """The marked parts."""

    def take_spans(self, ranges: Sequence[Range]) -> list[Range]:
        """Clear ranges; return from the first to the last marked part of each."""
        granularity, bits = self.granularity, self._bits
        spans = []
        with self._lock:
            for offset, length in ranges:
                end = -(-(offset + length) // granularity)
                low = bits.find(1, offset // granularity, end)
                if low < 0:
                    spans.append((offset, 0))
                    continue
                high = bits.find(1, low, end, right=True) + 1
                self._assign(low, high, 0)
                start = low * granularity
                spans.append((start, min(high * granularity, self.size) - start))
        return spans

    def forget(self, ranges: Sequence[Range]) -> None:
        """Clear ranges of whole parts."""
        if self._count:
            with self._lock:
                self._assign_ranges(ranges, 0)


class _Chunks(DirtyBitmap):
    """A set of chunks."""

    def mark_each(self, ranges: Sequence[Range]) -> list[bool]:
        """Mark ranges of whole chunks; say of each whether all of it was marked."""
        marked = []
        low = min(ranges)[0] // self.granularity
        end = -(-sum(max(ranges)) // self.granularity)
        with self._lock:
            if self._bits.find(1, low, end) < 0:  # as when an image is copied for the first time
                self._assign_ranges(ranges, 1)
                return [False] * len(ranges)
            for offset, length in ranges:
                first = offset // self.granularity
                end = first + -(-length // self.granularity)
                marked.append(self._bits.find(0, first, end) < 0)
                if not marked[-1]:
                    self._assign(first, end, 1)
        return marked
