"""Header extensions: a list of (type, data) behind the header's fields.

From QEMU's docs/interop/qcow2.txt: type (4 bytes), length (4), data padded to a multiple of 8. Type
0 ends the list.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

_HEAD = struct.Struct(">II")

END = 0
BACKING_FORMAT = 0xE2792ACA
FEATURE_NAMES = 0x6803F857
BITMAPS = 0x23852875
CRYPTO = 0x0537BE77
DATA_FILE_NAME = 0x44415441


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension, known or not."""

    type: int
    data: bytes


def decode_extensions(area: bytes, start: int) -> list[Extension]:
    """Read the list that begins at ``start``.

    Args:
        area: the first bytes of the file, up to where extensions have to end.
        start: offset of the first extension.

    Raises:
        ExtensionError: one of them does not fit into the area.
    """
    found = []
    position = start
    while position + _HEAD.size <= len(area):
        kind, length = _HEAD.unpack_from(area, position)
        if kind == END:
            break
        data = position + _HEAD.size
        if data + length > len(area):
            raise ExtensionError(position, kind, length, len(area))
        found.append(Extension(kind, area[data : data + length]))
        position = data + length + -length % 8
    return found


def encode_extensions(extensions: Iterable[Extension]) -> bytes:
    """Write a list, with its end."""
    parts = [
        _HEAD.pack(each.type, len(each.data)) + each.data + bytes(-len(each.data) % 8)
        for each in extensions
    ]
    return b"".join([*parts, _HEAD.pack(END, 0)])


class ExtensionError(ValueError):
    """An extension reaches beyond the place where extensions have to end.

    Attributes:
        offset: of the extension in the file.
    """

    def __init__(self, offset: int, kind: int, length: int, end: int) -> None:
        super().__init__(
            f"the header extension {kind:#010x} of {length} bytes does not end before {end}"
        )
        self.offset = offset
