"""The feature bits of a version 3 header, and the table that names them for older programs.

A name table entry, from QEMU's docs/interop/qcow2.txt::

    0   1  kind: 0 incompatible, 1 compatible, 2 autoclear
    1   1  bit number
    2  46  name, padded with zeroes
"""

import enum
import struct

_ENTRY = struct.Struct(">BB46s")


class Incompatible(enum.IntFlag, boundary=enum.KEEP):
    """Who does not know one of these must not open the image."""

    DIRTY = 1 << 0
    CORRUPT = 1 << 1
    DATA_FILE = 1 << 2
    COMPRESSION = 1 << 3
    EXTENDED_L2 = 1 << 4


class Compatible(enum.IntFlag, boundary=enum.KEEP):
    """Who does not know one of these may ignore it."""

    LAZY_REFCOUNTS = 1 << 0


class Autoclear(enum.IntFlag, boundary=enum.KEEP):
    """Who does not know one of these clears it with the first change."""

    BITMAPS = 1 << 0
    DATA_FILE_RAW = 1 << 1


NO_INCOMPATIBLE, NO_COMPATIBLE, NO_AUTOCLEAR = Incompatible(0), Compatible(0), Autoclear(0)

KNOWN_INCOMPATIBLE = Incompatible(0b11111)
"""What this driver can read and write."""

_NAMES: dict[tuple[int, int], str] = {
    (0, 0): "dirty bit",
    (0, 1): "corrupt bit",
    (0, 2): "external data file",
    (0, 3): "compression type",
    (0, 4): "extended L2 entries",
    (1, 0): "lazy refcounts",
    (2, 0): "bitmaps",
    (2, 1): "raw external data",
}


def encode_names() -> bytes:
    """Return the table of the features that this driver knows."""
    return b"".join(
        _ENTRY.pack(kind, bit, name.encode("ascii")) for (kind, bit), name in _NAMES.items()
    )


def decode_names(table: bytes) -> dict[tuple[int, int], str]:
    """Return an image's own names by (kind, bit); a last entry that is cut short is left out."""
    names = {}
    for kind, bit, name in _ENTRY.iter_unpack(table[: len(table) // _ENTRY.size * _ENTRY.size]):
        names[kind, bit] = name.split(b"\0")[0].decode("utf-8", "replace")
    return names


def unknown_incompatible(features: int, names: dict[tuple[int, int], str]) -> list[str]:
    """Name the incompatible features that this driver does not know, lowest bit first."""
    unknown = features & ~int(KNOWN_INCOMPATIBLE)
    bits = (bit for bit in range(64) if unknown >> bit & 1)
    return [names.get((0, bit)) or f"incompatible feature bit {bit}" for bit in bits]
