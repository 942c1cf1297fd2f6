"""The codec of refcount blocks: entries of 1, 2, 4, 8, 16, 32 or 64 bits.

Entries of a byte and more are big-endian. Narrower ones share bytes, and the first of them stands
in the least significant bits::

    order   0      1      2      3   4   5   6
    bits    1      2      4      8  16  32  64
    entry 0 bit 0  bit 0  bit 0      big-endian numbers
              of byte 0
"""

import functools

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.node import Buffer

BYTE_ORDER = 3
"""Refcount order of one entry a byte."""

HIGHEST_ORDER = 6

_WIDE = {3: "u1", 4: ">u2", 5: ">u4", 6: ">u8"}


@functools.cache
def refcount_dtype(order: int) -> np.dtype[np.unsignedinteger]:
    """Return the type of a refcount in memory: the narrowest that holds one."""
    return np.dtype(f"u{1 << max(order - BYTE_ORDER, 0)}")


def highest_refcount(order: int) -> int:
    """Return the greatest refcount that an entry can hold."""
    return int((1 << (1 << order)) - 1)


def entries_in(length: int, order: int) -> int:
    """Return how many entries a refcount block of so many bytes has."""
    return (length << BYTE_ORDER) >> order


def packed_size(count: int, order: int) -> int:
    """Return how many bytes so many entries need."""
    return -(-(count << order) >> BYTE_ORDER)


def unpack(data: Buffer, order: int) -> NDArray[np.unsignedinteger]:
    """Read all entries of a packed run, as numbers of ``refcount_dtype(order)``."""
    if order >= BYTE_ORDER:
        return np.frombuffer(data, _WIDE[order]).astype(refcount_dtype(order))
    packed = np.frombuffer(data, np.uint8)
    if order == 0:
        return np.unpackbits(packed, bitorder="little")
    shifts = np.arange(0, 8, 1 << order, dtype=np.uint8)
    return ((packed[:, np.newaxis] >> shifts) & np.uint8(highest_refcount(order))).reshape(-1)


def pack(refcounts: NDArray[np.unsignedinteger], order: int) -> bytes:
    """Write entries; what is left of the last byte is zero.

    Every refcount must be at most ``highest_refcount(order)``.
    """
    if order >= BYTE_ORDER:
        return refcounts.astype(_WIDE[order]).tobytes()
    narrow = refcounts.astype(np.uint8)
    if order == 0:
        return np.packbits(narrow, bitorder="little").tobytes()
    per_byte = 8 >> order
    whole = np.zeros(-(-len(narrow) // per_byte) * per_byte, np.uint8)
    whole[: len(narrow)] = narrow
    shifts = np.arange(0, 8, 1 << order, dtype=np.uint8)
    joined: NDArray[np.uint8] = np.bitwise_or.reduce(whole.reshape(-1, per_byte) << shifts, axis=1)
    return joined.tobytes()


class RefcountBlock:
    """One refcount block in memory, packed as on disk; runs of entries are read and written.

    Attributes:
        data: the bytes of the block.
        dirty_low, dirty_high: the bytes that differ from the file's; the same number where none do.
    """

    __slots__ = ("_order", "_wide", "data", "dirty_high", "dirty_low")

    def __init__(self, data: bytearray, order: int) -> None:
        self.data = data
        self.mark_clean()
        self._order = order
        # Big-endian numbers can be worked on where they are; numpy swaps on the way.
        self._wide = np.frombuffer(data, _WIDE[order]) if order >= BYTE_ORDER else None

    @property
    def dirty(self) -> bool:
        """Whether it differs from what the file has."""
        return self.dirty_low < self.dirty_high

    def mark_clean(self) -> None:
        """Note that the file has the same bytes."""
        self.dirty_low = self.dirty_high = 0

    def mark_dirty(self, low: int, high: int) -> None:
        """Note that bytes from ``low`` up to ``high`` differ from the file's."""
        if self.dirty_low == self.dirty_high:
            self.dirty_low, self.dirty_high = low, high
        else:
            self.dirty_low = min(self.dirty_low, low)
            self.dirty_high = max(self.dirty_high, high)

    def get(self, first: int, count: int) -> NDArray[np.unsignedinteger]:
        """Return ``count`` refcounts from entry ``first``; not to be written to."""
        if self._wide is not None:
            return self._wide[first : first + count]
        low, high = self._bytes_of(first, count)
        skip = first - (low << BYTE_ORDER >> self._order)
        return unpack(memoryview(self.data)[low:high], self._order)[skip : skip + count]

    def put(self, first: int, count: int, refcounts: int | NDArray[np.unsignedinteger]) -> None:
        """Set ``count`` refcounts from entry ``first``: one value for all, or one each."""
        low, high = self._bytes_of(first, count)
        self.mark_dirty(low, high)
        if self._wide is not None:
            self._wide[first : first + count] = refcounts
            return
        entries = unpack(memoryview(self.data)[low:high], self._order)
        skip = first - (low << BYTE_ORDER >> self._order)
        entries[skip : skip + count] = refcounts
        self.data[low:high] = pack(entries, self._order)

    def _bytes_of(self, first: int, count: int) -> tuple[int, int]:
        low = first << self._order >> BYTE_ORDER
        return low, packed_size(first + count, self._order)
