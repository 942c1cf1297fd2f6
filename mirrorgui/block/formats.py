"""Recognising image formats by their headers. It reads; it opens nothing as a format."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

HEAD_SIZE = 512
"""Bytes from the start of an image that every recognition by header needs: the first sector."""
TAIL_SIZE = 512
"""Bytes from the end of an image where formats with a footer have it."""

_Test = Callable[[bytes], bool]


def _starts(*magics: bytes) -> _Test:
    return lambda data: data.startswith(magics)


def _is_qcow(data: bytes) -> bool:
    return data.startswith(b"QFI\xfb") and _qcow_version(data) == 1


def _is_qcow2(data: bytes) -> bool:
    return data.startswith(b"QFI\xfb") and _qcow_version(data) >= 2


def _qcow_version(data: bytes) -> int:
    return int.from_bytes(data[4:8], "big")


def _is_vdi(data: bytes) -> bool:
    return data[64:68] == struct.pack("<I", 0xBEDA107F)


def _is_vmdk(data: bytes) -> bool:
    """Sparse extents by magic, descriptor files by their text: comments, then ``version=``."""
    if data.startswith((b"KDMV", b"COWD")):
        return True
    if not data.startswith(b"#"):
        return False
    for line in data.splitlines():
        text = line.strip()
        if text.lower().startswith(b"# disk descriptorfile"):
            return True
        if text and not text.startswith(b"#"):
            return text.replace(b" ", b"") in (b"version=1", b"version=2", b"version=3")
    return False


@dataclass(frozen=True, slots=True)
class Format:
    """An image format that can be told by its bytes.

    Attributes:
        name: QEMU's name of the driver.
        label: what people call it.
        in_head: test on the first ``HEAD_SIZE`` bytes.
        in_tail: test on the last ``TAIL_SIZE`` bytes, for formats with a footer.
    """

    name: str
    label: str
    in_head: _Test | None = None
    in_tail: _Test | None = None


FORMATS = (
    Format("qcow2", "qcow2", _is_qcow2),
    Format("qcow", "qcow (version 1)", _is_qcow),
    Format("qed", "QED", _starts(b"QED\0")),
    Format("vmdk", "VMDK", _is_vmdk),
    Format("vdi", "VDI", _is_vdi),
    Format("vhdx", "VHDX", _starts(b"vhdxfile")),
    Format("vpc", "VHD", _starts(b"conectix"), _starts(b"conectix")),
    Format("luks", "LUKS", _starts(b"LUKS\xba\xbe")),
    Format("parallels", "Parallels", _starts(b"WithoutFreeSpace", b"WithouFreSpacExt")),
    Format("bochs", "Bochs", _starts(b"Bochs Virtual HD Image")),
    Format("cloop", "cloop", _starts(b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop")),
    Format("dmg", "DMG", None, _starts(b"koly")),
)
"""All known formats; raw is what none of them recognises."""

LABELS = {"raw": "raw", **{known.name: known.label for known in FORMATS}}


def recognise_head(head: bytes) -> str:
    """Name the format that the first bytes of an image announce, ``raw`` where none does."""
    for known in FORMATS:
        if known.in_head is not None and known.in_head(head):
            return known.name
    return "raw"


def recognise(head: bytes, tail: bytes) -> str:
    """Name the format of an image by its first and last bytes, ``raw`` where none is known.

    Args:
        head: the first ``HEAD_SIZE`` bytes, or all where there are fewer.
        tail: the last ``TAIL_SIZE`` bytes, likewise.
    """
    name = recognise_head(head)
    if name != "raw":
        return name
    for known in FORMATS:
        if known.in_tail is not None and known.in_tail(tail):
            return known.name
    return "raw"
