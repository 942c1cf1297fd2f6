"""Geometry of an image, and what the entries of its tables mean. Pure: nothing is read here.

From QEMU's docs/interop/qcow2.txt, all numbers big-endian, one bit a column::

    L1 entry        bits  9-55 offset of the L2 table (0: none), 63 refcount is exactly one
    L2 entry        bits  9-55 host offset, 0 reads as zeroes (version 3, not extended),
                    62 compressed, 63 refcount is exactly one
      compressed    bits  0 to x-1 host offset (any byte), x to 61 further sectors of 512 bytes;
                    x = 62 - (cluster bits - 8)
      extended      a second word: bits 0-31 subcluster is allocated, 32-63 reads as zeroes
    refcount table  bits  9-63 offset of the refcount block (0: none)
"""

import enum
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mirrorgui.units import KiB, MiB

_Number = TypeVar("_Number", bound=np.integer)

Words = NDArray[np.uint64]
"""Entries in the machine's own byte order."""

Kinds = NDArray[np.uint8]
"""Values of ``Kind``."""

MAGIC = b"QFI\xfb"
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MIN_EXTENDED_CLUSTER_BITS = 14
SUBCLUSTERS = 32
"""Subclusters of a cluster where L2 entries are extended."""
MAX_REFCOUNT_ORDER = 6
DEFAULT_CLUSTER_SIZE = 64 * KiB
MAX_L1_SIZE = 32 * MiB
"""Longest L1 table in bytes, QEMU's limit."""
MAX_REFCOUNT_TABLE_SIZE = 8 * MiB
"""Longest refcount table in bytes, QEMU's limit."""
MAX_SNAPSHOTS = 65536
MAX_SNAPSHOT_TABLE_SIZE = 1024 * MAX_SNAPSHOTS
"""Longest snapshot table in bytes, QEMU's limit."""
MAX_HOST_OFFSET = (1 << 56) - 1
"""Last byte that an L1 or L2 entry can point at."""
SECTOR = 512

OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
REFTABLE_OFFSET_MASK = 0xFFFF_FFFF_FFFF_FE00
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1
ALL_ALLOCATED = 0xFFFF_FFFF
"""Subcluster bitmap of a cluster that is data altogether."""
ALL_ZERO = 0xFFFF_FFFF << 32
"""Subcluster bitmap of a cluster that reads as zeroes altogether."""

BIG_ENDIAN = np.dtype(">u8")


class Kind(enum.IntEnum):
    """What an L2 entry says of a cluster, or of a subcluster where entries are extended."""

    UNALLOCATED = 0
    UNALLOCATED_HOST = 1
    """Unallocated, but its cluster has a place in the file. Extended entries only."""
    ZERO = 2
    ZERO_HOST = 3
    """Reads as zeroes and keeps a place in the file."""
    DATA = 4
    COMPRESSED = 5
    BROKEN = 6
    """Contradicts the format."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The numbers that follow from a header; sizes in bytes.

    Attributes:
        cluster_bits: 9 to 21.
        extended_l2: L2 entries have two words and clusters 32 subclusters.
        refcount_order: refcounts are 1 << order bits wide.
        version: 2 or 3.
        data_file: guest clusters stand in a file of their own, at their own guest offset.
        cluster_size: bytes in a cluster.
        l2_entry_size: bytes in an L2 entry: 8, or 16 where they are extended.
        l2_entries: entries in an L2 table, which is one cluster.
        l2_span: guest bytes that one L2 table describes.
        units: parts of a cluster that have a state of their own: 1 or 32.
        unit_size: bytes of the smallest part that has a state of its own.
    """

    cluster_bits: int
    extended_l2: bool = False
    refcount_order: int = 4
    version: int = 3
    data_file: bool = False

    # Asked for several times in every request, so they are worked out once.
    cluster_size: int = field(init=False, repr=False, compare=False)
    l2_entry_size: int = field(init=False, repr=False, compare=False)
    l2_entries: int = field(init=False, repr=False, compare=False)
    l2_span: int = field(init=False, repr=False, compare=False)
    units: int = field(init=False, repr=False, compare=False)
    unit_size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out what follows."""
        size = 1 << self.cluster_bits
        entry_size = 16 if self.extended_l2 else 8
        units = SUBCLUSTERS if self.extended_l2 else 1
        for name, value in (
            ("cluster_size", size),
            ("l2_entry_size", entry_size),
            ("l2_entries", size // entry_size),
            ("l2_span", size // entry_size << self.cluster_bits),
            ("units", units),
            ("unit_size", size // units),
        ):
            object.__setattr__(self, name, value)

    @property
    def refcount_bits(self) -> int:
        """Width of a refcount."""
        return 1 << self.refcount_order

    @property
    def refcount_block_entries(self) -> int:
        """Refcounts in a refcount block, which is one cluster."""
        return self.cluster_size * 8 >> self.refcount_order

    @property
    def max_size(self) -> int:
        """Longest virtual disk that an L1 table of the greatest length describes."""
        return MAX_L1_SIZE // 8 * self.l2_span

    def clusters(self, length: int) -> int:
        """Return how many clusters ``length`` bytes take."""
        return -(-length >> self.cluster_bits)

    def l1_entries(self, size: int) -> int:
        """Return how many L1 entries a virtual disk of ``size`` bytes needs."""
        return -(-size // self.l2_span)

    def compressed_place(self, entry: int) -> tuple[int, int]:
        """Return where a compressed cluster stands: (host offset, most bytes it may take)."""
        shift = 62 - (self.cluster_bits - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = (entry & (COMPRESSED - 1)) >> shift
        return offset, (sectors + 1) * SECTOR - offset % SECTOR

    def compressed_clusters(self, entry: int) -> tuple[int, int]:
        """Return which host clusters a compressed one touches: (host offset, clusters)."""
        offset, length = self.compressed_place(entry)
        first = offset >> self.cluster_bits
        last = (offset + length - 1) >> self.cluster_bits
        return first << self.cluster_bits, last - first + 1


def words_from(data: bytes | bytearray | memoryview) -> Words:
    """Decode big-endian words into an array of their own."""
    return np.frombuffer(data, BIG_ENDIAN).astype(np.uint64)


def words_to(words: Words) -> bytes:
    """Encode words as big-endian bytes."""
    return words.astype(BIG_ENDIAN).tobytes()


def distinct(numbers: NDArray[_Number]) -> NDArray[_Number]:
    """Return each number once, in order.

    As ``np.unique``, which has been using hashes since numpy 2.3: for numbers that follow one
    another as offsets do, that takes twenty to sixty times as long.
    """
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    found: NDArray[_Number] = ordered[first]
    return found


_PLAIN = np.array(
    [
        Kind.UNALLOCATED,
        Kind.DATA,  # a place
        Kind.ZERO,  # zero flag
        Kind.ZERO_HOST,  # zero flag, place
        *[Kind.COMPRESSED] * 4,
    ],
    np.uint8,
)
"""Kind of a cluster by place | zero flag << 1 | compressed << 2."""

_SUB = np.array(
    [
        Kind.UNALLOCATED,
        Kind.BROKEN,  # allocated nowhere
        Kind.ZERO,
        Kind.BROKEN,  # allocated and zero
        Kind.UNALLOCATED_HOST,  # from here on with a place
        Kind.DATA,
        Kind.ZERO_HOST,
        Kind.BROKEN,
        *[Kind.COMPRESSED] * 8,
    ],
    np.uint8,
)
"""Kind of a subcluster by allocated | zero << 1 | place << 2 | compressed << 3."""

_BITS = np.arange(SUBCLUSTERS, dtype=np.uint64)
_U = np.uint64


def classify(entries: Words, bitmaps: Words | None, *, data_file: bool = False) -> Kinds:
    """Tell the kind of each unit.

    Args:
        entries: first words of L2 entries.
        bitmaps: their second words where they are extended.
        data_file: an offset of 0 is a place when the refcount bit is set.

    Returns:
        A kind for each cluster, or for each subcluster where entries are extended.
    """
    place = (entries & _U(OFFSET_MASK)) != 0
    if data_file:
        place |= (entries >> _U(63)) != 0
    packed = (entries >> _U(62)) & _U(1)
    if bitmaps is None:
        index = place | (entries & _U(ZERO)) << _U(1) | packed << _U(2)
        plain: Kinds = _PLAIN[index]
        return plain
    allocated = (bitmaps[:, None] >> _BITS) & _U(1)
    zero = (bitmaps[:, None] >> (_BITS + _U(32))) & _U(1)
    of_cluster = place.astype(np.uint64) << _U(2) | packed << _U(3)
    kinds: Kinds = _SUB[(allocated | zero << _U(1) | of_cluster[:, None]).ravel()]
    return kinds


def subcluster_mask(first: int, end: int) -> int:
    """Return the bitmap with the subclusters ``first`` to ``end - 1`` set, in the lower half."""
    return (1 << end) - (1 << first)
