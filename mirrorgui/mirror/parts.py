"""A dirty bitmap that also remembers which part of a chunk was written.

A guest that writes 4 KiB here and there makes chunks of 64 KiB dirty. Where a chunk has been copied
before, source and target differ in no more than what was written since, so that is all that is
copied again. What is dirty, in flight and left is counted in chunks all the same.
"""

from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.units import KiB

PART = 4 * KiB
"""Smaller parts would save nothing: it is what file systems write, and disks often as well."""


class PartBitmap(DirtyBitmap):
    """A set of chunks that knows what of each is to be copied.

    ``clear`` changes nothing of that knowledge: it is of no use for a clean chunk, and
    ``take_span`` uses it up. Parts are kept only where a chunk was marked in part, so they cost no
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
        # Details first. The job clears a chunk, then takes its details, then reads: what it takes
        # is in the source by then, and what it misses belongs to a mark that it has not seen.
        if self._parts is not None and length > 0:
            self._in_parts.clear(offset, length)
            if length < 2 * self.granularity:
                self._parts.mark(offset, length)
            else:
                self._parts.mark(offset, self.granularity)
                self._parts.mark(offset + length - self.granularity, self.granularity)
        return super().mark(offset, length)

    def take_span(self, offset: int, length: int) -> tuple[int, int]:
        """Return (offset, length) of what is to be copied of whole chunks, as if it were done now.

        Call it after ``clear`` and before the chunks are read; a failure to copy them takes it back
        by marking all of them. The length is 0 when nothing is to be copied.
        """
        if self._parts is None:
            return offset, length
        span = self._parts.take_span(offset, length)
        return span if self._in_parts.covered_before(offset, length) else (offset, length)


class _Parts(DirtyBitmap):
    """The marked parts."""

    def take_span(self, offset: int, length: int) -> tuple[int, int]:
        """Clear a range; return what spanned its marked parts."""
        first = offset // self.granularity
        end = -(-(offset + length) // self.granularity)
        with self._lock:
            low = self._bits.find(1, first, end)
            if low < 0:
                return offset, 0
            high = self._bits.find(1, low, end, right=True) + 1
            self._assign(low, high, 0)
        start = low * self.granularity
        return start, min(high * self.granularity, self.size) - start


class _Chunks(DirtyBitmap):
    """A set of chunks."""

    def covered_before(self, offset: int, length: int) -> bool:
        """Mark a range; say whether all of it was marked."""
        first = offset // self.granularity
        end = -(-(offset + length) // self.granularity)
        with self._lock:
            covered = self._bits.find(0, first, end) < 0
            if not covered:
                self._assign(first, end, 1)
        return covered
