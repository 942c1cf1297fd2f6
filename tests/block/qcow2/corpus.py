"""Images that are broken in a known place, made of sound ones."""

import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CLUSTER = 65536
TABLE, BLOCK, L1, L2, DATA = (number * CLUSTER for number in range(1, 6))
"""Where qemu-img puts them in an image of 64 KiB clusters."""

COPIED, COMPRESSED = 1 << 63, 1 << 62
SIZE = 4 << 20


def qemu(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


def sound_images(folder: Path) -> dict[str, bytes]:
    """Return images by name; each has data in its first megabyte, and some beyond."""
    made: dict[str, bytes] = {}
    for name, options in (
        ("plain", []),
        ("v2", ["-o", "compat=v2"]),
        ("extended", ["-o", "extended_l2=on"]),
        ("small", ["-o", "cluster_size=512"]),
        ("narrow", ["-o", "cluster_size=4096,refcount_bits=1"]),
    ):
        path = folder / name
        qemu("qemu-img", "create", "-f", "qcow2", *options, path, SIZE)
        qemu("qemu-io", "-c", "write -P 1 0 1M", "-c", "write -P 2 3M 64k", path)
        made[name] = path.read_bytes()
    path = folder / "snapshots"
    path.write_bytes(made["plain"])
    qemu("qemu-img", "snapshot", "-c", "one", path)
    qemu("qemu-img", "bitmap", "--add", path, "marked")
    qemu("qemu-io", "-c", "write -P 3 0 64k", path)
    made["snapshots"] = path.read_bytes()
    raw = folder / "raw"
    raw.write_bytes(b"compressible " * 100_000)
    qemu("qemu-img", "convert", "-c", "-O", "qcow2", raw, folder / "compressed")
    made["compressed"] = (folder / "compressed").read_bytes()
    return made


def patched(image: bytes, *changes: tuple[int, bytes]) -> bytes:
    """Return the image with bytes changed; it grows where they are behind its end."""
    content = bytearray(image)
    for offset, data in changes:
        content[offset : offset + len(data)] = data
    return bytes(content)


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to break an image.

    Attributes:
        name: of the case.
        make: from the sound image.
        says: words of the refusal; a regular expression.
        image: which sound one.
        when: ``open`` is refused, or ``open to write`` alone, or a ``read`` or a ``write`` fails;
            ``harmless`` where nothing needs to.
        guest: where in the guest the broken place shows.
    """

    name: str
    make: Callable[[bytes], bytes]
    says: str
    image: str = "plain"
    when: str = "open"
    guest: int = 0


def _cut(length: int, says: str, *, when: str = "open", image: str = "plain") -> Case:
    return Case(f"{image} cut to {length}", lambda one: one[:length], says, image, when)


def _set(
    name: str,
    *changes: tuple[int, bytes],
    says: str,
    image: str = "plain",
    when: str = "open",
    guest: int = 0,
) -> Case:
    return Case(name, lambda one: patched(one, *changes), says, image, when, guest)


CUT = [
    _cut(4, "ends in the header"),
    _cut(71, "ends in the header"),
    _cut(72, "ends in the header"),
    _cut(103, "ends in the header"),
    _cut(104, "header length of 112"),
    _cut(130, "header extension 0x6803f857 of 384 bytes does not end"),
    _cut(CLUSTER, "refcount table.* outside the file"),
    _cut(TABLE + 100, "L1 table.* outside the file"),
    _cut(BLOCK, "L1 table.* outside the file"),
    _cut(L1, "L1 table.* outside the file"),
    _cut(L1 + 4, "the file ends in the L1 table"),
    _cut(L2, "points outside the file"),
    _cut(L2 + 100, "points outside the file"),
    _cut(DATA, r"L2 entry at \d+ is not valid", when="read"),
]

HEADER = [
    _set("another magic", (0, b"QFI\0"), says="magic"),
    _set("version 4", (4, u32(4)), says="version 4"),
    _set("version 0", (4, u32(0)), says="version 0"),
    _set("clusters of 256", (20, u32(8)), says="8 cluster bits"),
    _set("clusters of 4 MiB", (20, u32(22)), says="22 cluster bits"),
    _set("absurd cluster bits", (20, u32(0xFFFFFFFF)), says="4294967295 cluster bits"),
    _set("an absurd disk", (24, u64(1 << 63)), says="needs|too large|longer"),
    _set("the greatest disk", (24, u64((1 << 64) - 1)), says="needs|too large|longer"),
    _set("no L1 table for the disk", (36, u32(0)), says="needs"),
    _set("an absurd L1 table", (36, u32(0xFFFFFFFF)), says="longer than"),
    _set("an L1 table behind the file", (40, u64(1 << 40)), says="outside the file"),
    _set("an L1 table between clusters", (40, u64(L1 + 8)), says="not begin at a cluster"),
    _set("an L1 table in the header", (40, u64(0)), says="overlaps the header"),
    _set("an L1 table in the refcounts", (40, u64(TABLE)), says="overlaps"),
    _set("the greatest L1 offset", (40, u64((1 << 64) - CLUSTER)), says="outside the file"),
    _set("a refcount table in the header", (48, u64(0)), says="overlaps the header"),
    _set("a refcount table behind the file", (48, u64(1 << 50)), says="outside the file"),
    _set("a refcount table between clusters", (48, u64(TABLE + 512)), says="not begin"),
    _set("no refcount table", (56, u32(0)), says="no refcount table"),
    _set("an absurd refcount table", (56, u32(0xFFFFFFFF)), says="longer than"),
    _set("too many snapshots", (60, u32(65537)), says="65537 snapshots"),
    _set("snapshots behind the file", (60, u32(1) + u64(1 << 40)), says="outside the file"),
    _set("snapshots between clusters", (60, u32(1) + u64(L1 + 8)), says="not begin at a cluster"),
    _set("snapshots in the L1 table", (60, u32(1) + u64(L1)), says="overlaps"),
    _set("an unknown feature", (72, u64(1 << 60)), says="incompatible feature bit 60"),
    _set("refcounts of 128 bits", (96, u32(7)), says="refcount order of 7"),
    _set("no header length", (100, u32(0)), says="header length of 0"),
    _set("an absurd header length", (100, u32(0xFFFFFFF8)), says="header length of"),
    _set("an odd header length", (100, u32(113)), says="header length of 113"),
    _set("a compression that is not said", (104, b"\1"), says="contradicts"),
    _set("no compression that is said", (72, u64(8)), says="contradicts"),
    _set("encryption by AES", (32, u32(1)), says="ncrypted"),
    _set("encryption by LUKS", (32, u32(2)), says="ncrypted"),
    _set("encryption unknown", (32, u32(77)), says="encryption method 77"),
    _set("a backing name outside", (8, u64(1 << 40) + u32(10)), says="not in the first cluster"),
    _set("a backing name too long", (8, u64(600) + u32(5000)), says="longer than"),
    _set("a backing name in the header", (8, u64(80) + u32(4)), says="inside the header"),
    _set("an endless extension", (116, u32(0xFFFFFFFF)), says="does not end"),
    _set("an extension to the end", (116, u32(CLUSTER - 119)), says="does not end"),
    _set(
        "extensions of nothing without an end",
        (112, struct.pack(">II", 77, 0) * ((CLUSTER - 112) // 8)),
        says="",
        when="harmless",
    ),
    _set("extended entries in small clusters", (72, u64(16)), image="small", says="16 KiB"),
    _set("a data file that is nowhere", (72, u64(4)), says="data-file"),
    _set("a corrupt image", (72, u64(2)), says="corrupt", when="open to write"),
]

TABLES = [
    _set("L1 entry behind the file", (L1, u64(1 << 40)), says="points outside the file"),
    _set("L1 entry between clusters", (L1, u64(L2 + 512)), says="beginning of a cluster"),
    _set("L1 entry with reserved bits", (L1, u64(L2 | 1)), says="reserved bits"),
    _set("L1 entry to the L1 table", (L1, u64(L1)), says="another structure"),
    _set("L1 entry to the refcount table", (L1, u64(TABLE)), says="another structure"),
    _set("L1 entry to a refcount block", (L1, u64(BLOCK)), says="refcount 0|something else is",
         when="write", guest=2 << 20),
    _set("two L1 entries to one table", (36, u32(2)), (L1, u64(L2) * 2), says="same L2 table"),
    _set("L2 entry behind the file", (L2, u64(COPIED | 1 << 40)), says="not valid", when="read"),
    _set("L2 entry between clusters", (L2, u64(DATA + 512)), says="not valid", when="read"),
    _set("L2 entry with reserved bits", (L2, u64(DATA | 1 << 60)), says="not valid", when="read"),
    *(
        _set(f"L2 entry to {what}", (L2, u64(COPIED | where)), says="not valid", when="read")
        for what, where in (
            ("the refcount table", TABLE),
            ("the L1 table", L1),
            ("its own table", L2),
        )
    ),
    _set("L2 entry to a refcount block", (L2, u64(COPIED | BLOCK)), says="not valid",
         when="write"),
    _set("a compressed cluster behind the file", (L2, u64(COMPRESSED | 1 << 40)),
         says="not valid", when="read"),
    _set("a compressed cluster of rubbish", (L2, u64(COMPRESSED | (DATA + 77))),
         says="compressed cluster at", when="read"),
    _set("a subcluster of data and zero", (L2 + 8, u64(1 << 32 | 1)), image="extended",
         says="not valid", when="read"),
    _set("a subcluster of data nowhere", (L2, u64(0) + u64(1)), image="extended",
         says="not valid", when="read"),
    _set("refcount zero under data", (BLOCK + 2 * 5, bytes(4)), says="refcount 0", when="write",
         guest=2 << 20),
    _set("refcount zero under an L2 table", (BLOCK + 2 * 4, bytes(2)), says="refcount 0",
         when="write", guest=2 << 20),
    _set("refcount block behind the file", (TABLE, u64(1 << 40)), says="behind the end",
         when="write", guest=2 << 20),
    _set("refcount block between clusters", (TABLE, u64(BLOCK + 512)), says="refcount block at",
         when="write", guest=2 << 20),
    _set("refcount block in the L1 table", (TABLE, u64(L1)), says="something else is",
         when="write", guest=2 << 20),
    _set("refcount block in the refcount table", (TABLE, u64(TABLE)), says="something else is",
         when="write", guest=2 << 20),
    _set("refcount block in the header", (TABLE, u64(0)), says="has no refcount|refcount 0",
         when="write", guest=2 << 20),
]  # fmt: skip
