"""The header of a qcow2 image: what ``info`` needs of it.

Layout, from QEMU's docs/interop/qcow2.txt, all numbers big-endian::

      0  4  magic "QFI" 0xfb             8  8  backing file name: offset, 0 without
      4  4  version: 2 or 3             16  4  backing file name: length, at most 1023
     20  4  cluster bits, 9 to 21       24  8  virtual size
     32  4  encryption: 0, 1 AES, 2 LUKS
     72  8  incompatible features (version 3), bit 0 dirty, bit 1 corrupt
    100  4  header length (version 3); 72 in version 2

Behind the header stand extensions: type (4), length (4), data padded to 8. Type 0xe2792aca is the
name of the backing file's format; type 0 ends the list.
"""

import struct
from dataclasses import dataclass

from mirrorgui.block.node import BlockNode

_START = struct.Struct(">4sIQIIQI")
_VERSION_2_LENGTH = 72
_LONGEST_NAME = 1023
_BACKING_FORMAT = 0xE2792ACA
_END = 0
_LONGEST_HEADER = 64 * 1024
"""Bytes of the first cluster that are looked at for extensions."""


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """What a header says.

    Attributes:
        version: 2 or 3.
        size: what a guest sees, in bytes.
        cluster_size: in bytes.
        backing_file: name of the backing file; empty without.
        backing_format: name of its format; empty where the image does not say.
        encrypted: the content is encrypted.
        dirty: it was not closed properly.
        corrupt: QEMU has found it damaged.
    """

    version: int
    size: int
    cluster_size: int
    backing_file: str = ""
    backing_format: str = ""
    encrypted: bool = False
    dirty: bool = False
    corrupt: bool = False


def read_header(node: BlockNode) -> Qcow2Header:
    """Read the header from a node that holds the file's bytes.

    Raises:
        BlockIOError: it cannot be read.
        ValueError: it is not a sound qcow2 header; the text says why.
    """
    head = bytearray(min(_LONGEST_HEADER, node.size))
    node.read_into(0, head)
    if len(head) < _VERSION_2_LENGTH:
        raise ValueError("the header is cut short")
    magic, version, name_offset, name_length, bits, size, crypt = _START.unpack_from(head)
    if magic != b"QFI\xfb" or version not in (2, 3):
        raise ValueError(f"version {version} is not known")
    if not 9 <= bits <= 21:
        raise ValueError(f"{bits} cluster bits are not allowed")
    if name_length > _LONGEST_NAME or name_offset + name_length > node.size:
        raise ValueError("the name of the backing file is out of bounds")
    name = bytearray(name_length if name_offset else 0)
    node.read_into(name_offset, name)
    features, length = 0, _VERSION_2_LENGTH
    if version == 3 and len(head) >= 104:
        (features,) = struct.unpack_from(">Q", head, 72)
        (length,) = struct.unpack_from(">I", head, 100)
    end = min(name_offset or len(head), len(head), 1 << bits)
    return Qcow2Header(
        version=version,
        size=size,
        cluster_size=1 << bits,
        backing_file=name.decode("utf-8", "surrogateescape"),
        backing_format=_extension(head, length, end, _BACKING_FORMAT).decode("ascii", "replace"),
        encrypted=crypt != 0,
        dirty=bool(features & 1),
        corrupt=bool(features & 2),
    )


def _extension(head: bytearray, start: int, end: int, wanted: int) -> bytes:
    """Find a header extension's data; empty where it is missing or the list is broken."""
    position = start
    while position + 8 <= end:
        kind, length = struct.unpack_from(">II", head, position)
        position += 8
        if kind == _END or position + length > end:
            break
        if kind == wanted:
            return bytes(head[position : position + length])
        position += -(-length // 8) * 8
    return b""
