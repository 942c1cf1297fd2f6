"""Make ICU's data library smaller: 32 MB become 5, by leaving out what Qt never asks for.

Qt asks ICU to compare texts in the order of a language, for time zones, and for character sets of
before Unicode. Of its data this keeps the first two; names of units, currencies, languages and
regions, dictionaries, spelled-out numbers and character sets go. ICU falls back to what it has when
something is not there.

``python small_icu.py libicudata.so.73`` replaces the file. It needs ``as`` and ``ld``.
"""

import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

_HEADER_LIMIT = 4096
_ALIGNMENT = 16

_DROPPED = re.compile(
    r"^icudt\d+l/("
    r"(brkitr|curr|lang|rbnf|region|unit|zone)/(?!root\.res|pool\.res|res_index\.res|tzdbNames)"
    r"|translit/"
    r"|.*\.(cnv|spp|cfu)$"
    r"|(cnvalias|unames|uemoji)\.icu$"
    r"|[a-z]{2,3}(_\w+)?\.res$"  # how a language writes dates and numbers
    r")"
)
"""The items that go, by their names in the table of contents."""


def read_items(data: bytes) -> dict[str, bytes]:
    """Take a common data file apart.

    Raises:
        ValueError: it is none, or of another byte order.
    """
    start = _table_of_contents(data)
    (count,) = struct.unpack_from("<I", data, start)
    places = [struct.unpack_from("<II", data, start + 4 + 8 * turn) for turn in range(count)]
    ends = [offset for _, offset in places[1:]] + [len(data) - start]
    items = {}
    for (name_offset, offset), end in zip(places, ends, strict=True):
        name = data[start + name_offset : data.index(b"\0", start + name_offset)]
        items[name.decode("ascii")] = data[start + offset : start + end]
    return items


def write_items(header: bytes, items: dict[str, bytes]) -> bytes:
    """Put a common data file together; ICU finds items by bisection, so they are sorted."""
    names = sorted(items)
    text_offset = 4 + 8 * len(names)
    texts = b""
    name_offsets = []
    for name in names:
        name_offsets.append(text_offset + len(texts))
        texts += name.encode("ascii") + b"\0"
    # The header is a multiple of 16 long, so offsets from its end are aligned as addresses are.
    body_offset = text_offset + len(texts)
    body_offset += -body_offset % _ALIGNMENT
    table, body = struct.pack("<I", len(names)), b""
    for name, name_offset in zip(names, name_offsets, strict=True):
        table += struct.pack("<II", name_offset, body_offset + len(body))
        body += items[name] + b"\0" * (-len(items[name]) % _ALIGNMENT)
    start = table + texts
    return header + start + b"\0" * (body_offset - len(start)) + body


def smaller(data: bytes) -> bytes:
    """Return a common data file without what Qt never asks for."""
    kept = {name: item for name, item in read_items(data).items() if not _DROPPED.match(name)}
    return write_items(data[: _table_of_contents(data)], kept)


def _table_of_contents(data: bytes) -> int:
    (size,) = struct.unpack_from("<H", data)
    is_common_data = data[2:4] == b"\xda\x27" and data[8] == 0 and data[12:16] == b"CmnD"
    if not is_common_data or size % _ALIGNMENT or size > _HEADER_LIMIT:
        raise ValueError("not a little-endian common data file of ICU")
    return size


def data_symbol(library: Path) -> tuple[str, int, int]:
    """Find the data in a library.

    Returns:
        Its symbol's name, its offset in the file, and its length.
    """
    listing = subprocess.run(
        ["readelf", "--wide", "--dyn-syms", library], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        words = line.split()
        if words and words[-1].startswith("icudt") and words[-1].endswith("_dat"):
            # The first segment holds it, and lies in the file as in memory.
            return words[-1], int(words[1], 16), int(words[2], 0)
    raise ValueError(f"{library} holds no data of ICU")


def main(library: Path) -> None:
    """Replace a library by a smaller one with the same names."""
    symbol, offset, length = data_symbol(library)
    content = library.read_bytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").write_bytes(smaller(content[offset : offset + length]))
        (folder / "data.s").write_text(
            f".section .rodata\n.balign {_ALIGNMENT}\n.globl {symbol}\n"
            f'.type {symbol}, %object\n{symbol}: .incbin "data"\n.size {symbol}, . - {symbol}\n'
            '.section .note.GNU-stack,"",%progbits\n',
            encoding="ascii",
        )
        subprocess.run(["as", "data.s", "-o", "data.o"], cwd=folder, check=True)
        link = ["ld", "-shared", "--build-id=none", "-z", "noseparate-code", "-s"]
        subprocess.run(
            [*link, "-soname", library.name, "data.o", "-o", "made"], cwd=folder, check=True
        )
        library.write_bytes((folder / "made").read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
