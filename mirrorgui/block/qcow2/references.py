"""Everything in an image that references host clusters, to count it all.

Tables are read a piece at a time, so that memory is bounded whatever the image's size.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.header import Header
from mirrorgui.block.qcow2.layout import (
    COMPRESSED,
    MAX_HOST_OFFSET,
    OFFSET_MASK,
    Words,
    distinct,
    words_from,
)
from mirrorgui.block.qcow2.structures import Structures
from mirrorgui.errors import ImageError
from mirrorgui.units import MiB

_PIECE = 1 * MiB
"""Bytes of tables read at a time."""

_SECTOR_BITS = 9
_U = np.uint64

Clusters = NDArray[np.uint64]
"""Numbers of host clusters."""


class References:
    """The references of one image.

    Args:
        file: the node that stores the image.
        header: the image's.
        structures: what its header names.
        field: the option that named the image, for refusals.
    """

    def __init__(self, file: BlockNode, header: Header, structures: Structures, field: str) -> None:
        self._file = file
        self._header = header
        self._field = field
        self._bits = header.cluster_bits
        self._size = header.cluster_size
        self._clusters = header.geometry.clusters(file.size)
        self._structures = structures

    def walk(self) -> Iterator[tuple[Clusters, int]]:
        """Yield all references but those to refcount blocks: clusters, and how often each counts.

        A cluster may come several times. The order has no meaning.

        Raises:
            BlockIOError: a table cannot be read.
            ImageError: a reference is to something that cannot be.
        """
        header = self._header
        for each in self._structures.named:
            first, count = each.offset >> self._bits, header.geometry.clusters(each.length)
            yield np.arange(first, first + count, dtype=np.uint64), 1
        snapshots = self._structures.snapshots.snapshots
        l1_tables = [(header.l1_offset, header.l1_entries)]
        l1_tables += [(each.l1_offset, each.l1_entries) for each in snapshots]
        for offset, entries in l1_tables:
            for tables, times in self.l2_tables(offset, entries):
                yield tables >> _U(self._bits), times
                for place, words in self.read_l2(tables):
                    yield self._data_of(place, words), times
        yield from self._walk_bitmaps()

    def l2_tables(self, l1_offset: int, l1_entries: int) -> Iterator[tuple[Words, int]]:
        """Yield the L2 tables that an L1 table names: offsets in order, and how often each.

        Raises:
            BlockIOError: it cannot be read.
            ImageError: an entry points to where no table can be.
        """
        for place, words in self.read_words(l1_offset, l1_entries):
            offsets = words & _U(OFFSET_MASK)
            self._check(place, 8, offsets, "an L2 table", whole=True)
            named, times = np.unique(offsets[offsets != 0], return_counts=True)
            for each in distinct(times).tolist():
                yield named[times == each], each

    def read_l2(self, tables: Words) -> Iterator[tuple[int, Words]]:
        """Read L2 tables: yield the offset of the first of some neighbours, and their words.

        Raises:
            BlockIOError: one cannot be read.
        """
        most = max(_PIECE >> self._bits, 1)
        starts = np.flatnonzero(np.diff(tables, prepend=_U(1 << 63)) != self._size).tolist()
        for low, high in pairwise([*starts, len(tables)]):
            for first in range(low, high, most):
                count = min(most, high - first) << self._bits
                yield int(tables[first]), self._read(int(tables[first]), count)

    def read_words(self, offset: int, count: int) -> Iterator[tuple[int, Words]]:
        """Read a table of words in pieces: yield where each begins, and its words.

        Raises:
            BlockIOError: it cannot be read.
        """
        for start in range(offset, offset + count * 8, _PIECE):
            yield start, self._read(start, min(_PIECE, offset + count * 8 - start))

    def _data_of(self, place: int, words: Words) -> Clusters:
        """Return the clusters that L2 entries reference."""
        step = self._header.geometry.l2_entry_size // 8
        entries = words[::step]
        packed = (entries & _U(COMPRESSED)) != 0
        found = self._compressed(place, entries, packed) if packed.any() else []
        if not self._header.has_data_file:
            offsets = np.where(packed, _U(0), entries & _U(OFFSET_MASK))
            self._check(place, 8 * step, offsets, "a cluster")
            found.append(offsets[offsets != 0] >> _U(self._bits))
        return np.concatenate(found) if found else np.zeros(0, np.uint64)

    def _compressed(self, place: int, entries: Words, packed: NDArray[np.bool_]) -> list[Clusters]:
        """Return the clusters that compressed ones touch: all first ones, all second ones, ..."""
        shift = 62 - (self._bits - 8)
        offsets = np.where(packed, entries & _U((1 << shift) - 1), _U(0))
        sectors = (entries & _U(COMPRESSED - 1)) >> _U(shift)
        ends = (offsets >> _U(_SECTOR_BITS)) + sectors  # the last sector of each
        last = np.where(packed, ends >> _U(self._bits - _SECTOR_BITS), _U(0))
        step = self._header.geometry.l2_entry_size
        self._check(place, step, last << _U(self._bits), "a compressed cluster")
        first, last = offsets[packed] >> _U(self._bits), last[packed]
        most = int((last - first).max()) + 1
        return [(first + _U(each))[first + _U(each) <= last] for each in range(most)]

    def _walk_bitmaps(self) -> Iterator[tuple[Clusters, int]]:
        for table in self._structures.bitmaps.tables:
            first = table.offset >> self._bits
            count = self._header.geometry.clusters(table.entries * 8)
            yield np.arange(first, first + count, dtype=np.uint64), 1
            for place, words in self.read_words(table.offset, table.entries):
                offsets = words & _U(OFFSET_MASK)
                self._check(place, 8, offsets, "a cluster of a bitmap")
                yield offsets[offsets != 0] >> _U(self._bits), 1

    def _read(self, offset: int, length: int) -> Words:
        data = bytearray(length)
        self._file.read_into(offset, data)
        return words_from(data)

    def _check(
        self, place: int, step: int, offsets: Words, what: str, *, whole: bool = False
    ) -> None:
        """Check that references are to whole clusters in the file; 0 is none.

        Args:
            place: where the first of them stands in the file.
            step: bytes from one to the next.
            offsets: what they reference.
            what: stands there.
            whole: the file must not end in it.
        """
        length = self._size if whole else 1
        highest = min(self._clusters << self._bits, MAX_HOST_OFFSET + 1)
        highest = min(highest, self._file.size) if whole else highest
        wrong = (offsets & _U(self._size - 1)) != 0
        wrong |= (offsets != 0) & (offsets > _U(max(highest - length, 0)))
        if wrong.any():
            index = int(wrong.argmax())
            text = f"{what} at {int(offsets[index])} is outside the file or not a whole cluster"
            raise ImageError(self._field, self._file.name, place + index * step, text)
