"""The bitmaps extension: what persistent dirty bitmaps there are, and which clusters they take.

The extension, from QEMU's docs/interop/qcow2.txt, all numbers big-endian::

      0  4  number of bitmaps            8  8  directory: length in bytes
      4  4  0                           16  8  directory: offset

A directory entry, padded to a multiple of 8::

      0  8  bitmap table: offset        17  1  granularity: 1 << this
      8  4  bitmap table: entries       18  2  length of the name
     12  4  flags: 1 in use, 2 auto     20  4  length of extra data
     16  1  type: 1 dirty tracking      24     extra data, name
"""

import struct
from dataclasses import dataclass

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.extensions import BITMAPS
from mirrorgui.block.qcow2.features import Autoclear
from mirrorgui.block.qcow2.header import Header
from mirrorgui.errors import ImageError
from mirrorgui.units import MiB

_EXTENSION = struct.Struct(">IIQQ")
_ENTRY = struct.Struct(">QIIBBHI")
_FLAGS_AT = 12
IN_USE, AUTO = 1, 2
"""Flags of a bitmap: it may lack what was written since; it goes on tracking by itself."""
_MAX_BITMAPS = 65535
_MAX_DIRECTORY = 64 * MiB
"""QEMU's limits of the directory."""
_MAX_GRANULARITY_BITS = 63
_MAX_TABLE = 32 * MiB
"""Longest table in bytes: QEMU allows 0x8000000 entries, more than the longest bitmap needs."""


@dataclass(frozen=True, slots=True)
class BitmapTable:
    """One bitmap; its table is ``entries`` words at ``offset``.

    Attributes:
        name: what it is called.
        type: 1 where it tracks changes, the only type there is.
        granularity: guest bytes that one bit stands for.
        flags: ``IN_USE`` and ``AUTO``.
        flags_at: where its flags stand in the file.
    """

    offset: int
    entries: int
    name: str
    type: int
    granularity: int
    flags: int
    flags_at: int


@dataclass(frozen=True, slots=True)
class BitmapDirectory:
    """All bitmaps; ``length`` bytes at ``offset`` in the file, 0 where there are none."""

    offset: int = 0
    length: int = 0
    tables: tuple[BitmapTable, ...] = ()

    def mark_in_use(self, file: BlockNode) -> bool:
        """Say of every bitmap that it no longer tells what has changed; without a flush.

        Its clusters stay accounted for, and QEMU shows it as inconsistent until somebody removes
        it. Clearing the autoclear bit instead would leave them as leaks.

        Returns:
            Whether there were any that did not say so already.

        Raises:
            BlockIOError: the file may say so or not.
        """
        valid = [each for each in self.tables if not each.flags & IN_USE]
        for each in valid:
            file.write(each.flags_at, (each.flags | IN_USE).to_bytes(4, "big"))
        return bool(valid)


def read_bitmap_directory(file: BlockNode, header: Header, field: str) -> BitmapDirectory:
    """Read what bitmaps there are. Those that another program has made stale count as none.

    Raises:
        BlockIOError: it cannot be read.
        ImageError: it is damaged.
    """
    data = next((each.data for each in header.extensions if each.type == BITMAPS), None)
    if data is None or not header.autoclear & Autoclear.BITMAPS:
        return BitmapDirectory()

    def damaged(offset: int, reason: str) -> ImageError:
        return ImageError(field, file.name, offset, f"bitmap directory: {reason}")

    if len(data) != _EXTENSION.size:
        raise damaged(0, f"the extension has {len(data)} bytes, not {_EXTENSION.size}")
    count, _, length, offset = _EXTENSION.unpack(data)
    if count > _MAX_BITMAPS:
        raise damaged(offset, f"{count} bitmaps are more than {_MAX_BITMAPS}")
    if length > _MAX_DIRECTORY or offset % header.cluster_size or offset + length > file.size:
        raise damaged(offset, f"{length} bytes there cannot be")
    raw = bytearray(length)
    file.read_into(offset, raw)
    tables, position = [], 0
    for _ in range(count):
        if position + _ENTRY.size > length:
            raise damaged(offset + position, "it ends in an entry")
        table, entries, flags, kind, granularity_bits, name_length, extra_length = (
            _ENTRY.unpack_from(raw, position)
        )
        name_at = position + _ENTRY.size + extra_length
        if name_at + name_length > length:
            raise damaged(offset + position, "it ends in an entry")
        end = table + entries * 8
        if table % header.cluster_size or entries * 8 > _MAX_TABLE or end > file.size:
            raise damaged(offset + position, f"a table of {entries} entries at {table} cannot be")
        tables.append(
            BitmapTable(
                offset=table,
                entries=entries,
                name=raw[name_at : name_at + name_length].decode("utf-8", "replace"),
                type=kind,
                granularity=1 << min(granularity_bits, _MAX_GRANULARITY_BITS),
                flags=flags,
                flags_at=offset + position + _FLAGS_AT,
            )
        )
        position = name_at + name_length
        position += -position % 8
    return BitmapDirectory(offset, length, tuple(tables))
