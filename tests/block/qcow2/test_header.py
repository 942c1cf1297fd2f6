import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.qcow2.extensions import (
    BITMAPS,
    Extension,
    ExtensionError,
    decode_extensions,
    encode_extensions,
)
from mirrorgui.block.qcow2.features import Autoclear, Compatible, Incompatible
from mirrorgui.block.qcow2.header import Header, read_header
from mirrorgui.errors import ImageError, ImageRefused, InvalidInput
from mirrorgui.units import GiB, MiB
from tests.block.qcow2.images import make

SOUND = Header(
    version=3,
    size=1 * GiB,
    cluster_bits=16,
    l1_entries=2,
    l1_offset=3 << 16,
    refcount_table_offset=1 << 16,
    refcount_table_clusters=1,
)


def decode(header: Header | bytes, *patches: tuple[int, bytes]) -> Header:
    image = bytearray(1 * MiB)
    head = header if isinstance(header, bytes) else header.encode()
    image[: len(head)] = head
    for offset, data in patches:
        image[offset : offset + len(data)] = data
    return read_header(MemoryNode(image, name="disk.qcow2"), "source")


@pytest.mark.parametrize(
    "options",
    [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=2M",
        "extended_l2=on",
        "compression_type=zstd",
        "lazy_refcounts=on,refcount_bits=1",
        "refcount_bits=64",
    ],
)
def test_what_qemu_writes_is_what_we_write(tmp_path: Path, options: str) -> None:
    path = tmp_path / "disk.qcow2"
    make(path, 1 * GiB, options)
    data = path.read_bytes()
    header = read_header(MemoryNode(data), "source")
    assert header.encode() == data[: header.cluster_size]


def test_names_of_other_files_are_what_qemu_writes(tmp_path: Path) -> None:
    path, base, data_file = (tmp_path / name for name in ("disk.qcow2", "bäse.raw", "data.raw"))
    base.write_bytes(bytes(1000))
    make(path, 1 * MiB, f"data_file={data_file}", "-b", base, "-F", "raw")
    data = path.read_bytes()
    header = read_header(MemoryNode(data), "source")
    assert header.backing_file == str(base)
    assert (header.backing_format, header.data_file) == ("raw", str(data_file))
    assert header.encode() == data[: header.cluster_size]


@given(
    backing=st.text(max_size=200).filter(lambda text: "\0" not in text and not _surrogates(text)),
    cluster_bits=st.integers(14, 17),
    incompatible=st.sampled_from(
        [Incompatible(0), Incompatible.DIRTY, Incompatible.EXTENDED_L2 | Incompatible.DATA_FILE]
    ),
    lazy=st.booleans(),
    order=st.integers(0, 6),
    unknown=st.binary(max_size=40),
    more=st.sampled_from([b"", bytes(8), b"unknown!"]),
)
def test_a_header_survives_the_way_to_the_file_and_back(
    backing: str,
    cluster_bits: int,
    incompatible: Incompatible,
    lazy: bool,
    order: int,
    unknown: bytes,
    more: bytes,
) -> None:
    header = replace(
        SOUND,
        cluster_bits=cluster_bits,
        l1_entries=1024,
        l1_offset=4 << 17,
        refcount_table_offset=1 << 17,
        backing_file=backing,
        incompatible=incompatible,
        compatible=Compatible.LAZY_REFCOUNTS if lazy else Compatible(0),
        autoclear=Autoclear.BITMAPS,
        refcount_order=order,
        extensions=(Extension(BITMAPS, b"x" * 24), Extension(0x1234, unknown)),
        header_length=112 + len(more),
        more_fields=more,
    )
    image = bytearray(1 * MiB)
    image[: header.cluster_size] = header.encode()
    assert read_header(MemoryNode(image), "source") == header


def _surrogates(text: str) -> bool:
    return any(0xD800 <= ord(character) < 0xE000 for character in text)


def be(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


@pytest.mark.parametrize(
    ("at", "data", "says"),
    [
        (0, b"QFI\0", "not the magic"),
        (16, be(5000, 4), ""),
        (20, be(8, 4), "8 cluster bits"),
        (20, be(22, 4), "22 cluster bits"),
        (24, be(1 << 62, 8), "needs"),
        (24, be((1 << 64) - 1, 8), "needs"),
        (36, be(0xFFFFFFFF, 4), "L1 table of 4294967295"),
        (36, be(1, 4), "needs 2"),
        (40, be((3 << 16) + 512, 8), "does not begin at a cluster"),
        (40, be(1 << 60, 8), "outside the file"),
        (40, be(0, 8), "overlaps the header"),
        (40, be(1 << 16, 8), "overlaps the refcount table"),
        (48, be(1, 8), "does not begin at a cluster"),
        (48, be(1 << 63, 8), "outside the file"),
        (56, be(0, 4), "no refcount table"),
        (56, be(0xFFFFFFFF, 4), "longer than"),
        (60, be(70000, 4), "70000 snapshots"),
        (72, be(1 << 3, 8), "contradicts"),
        (96, be(7, 4), "refcount order of 7"),
        (100, be(103, 4), "header length of 103"),
        (100, be(1 << 20, 4), "header length"),
        (112, be(0x1234, 4) + be(0xFFFFFFF0, 4), "does not end"),
    ],
)
def test_what_cannot_be_true_is_refused_by_place(at: int, data: bytes, says: str) -> None:
    patches = [(at, data)]
    if at == 16:
        patches.append((8, be(200, 8)))
    with pytest.raises(ImageError, match=r"disk\.qcow2") as caught:
        decode(SOUND, *patches)
    assert says in str(caught.value)
    assert caught.value.field == "source"
    assert f"at offset {caught.value.offset}" in str(caught.value)
    if at not in (16, 24, 72):
        assert caught.value.offset == at


def test_snapshots_outside_the_file_are_refused() -> None:
    with pytest.raises(ImageError, match="snapshot table"):
        decode(replace(SOUND, snapshot_count=3, snapshots_offset=1 << 40))


def test_an_extended_image_needs_clusters_with_room_for_subclusters() -> None:
    small = replace(
        SOUND,
        cluster_bits=12,
        size=1,
        incompatible=Incompatible.EXTENDED_L2,
        l1_offset=3 << 12,
        refcount_table_offset=1 << 12,
    )
    with pytest.raises(ImageError, match="16 KiB"):
        decode(small)


@pytest.mark.parametrize("length", [0, 4, 71, 100])
def test_a_file_that_ends_in_the_header_is_refused(length: int) -> None:
    with pytest.raises(ImageError, match="in the header"):
        read_header(MemoryNode(SOUND.encode()[:length]), "source")


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ImageRefused, match="version 4"):
        decode(SOUND, (4, be(4, 4)))


def test_unknown_features_are_named_by_the_image_itself() -> None:
    table = struct.pack(">BB46s", 0, 5, b"time travel")
    extension = encode_extensions([Extension(0x6803F857, table)])
    with pytest.raises(ImageRefused, match="time travel, incompatible feature bit 63"):
        decode(SOUND, (72, be(1 << 63 | 1 << 5, 8)), (112, extension))


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(ImageRefused, match="compression type 9"):
        decode(SOUND, (72, be(8, 8)), (104, b"\x09"))


def test_an_unknown_encryption_is_refused() -> None:
    with pytest.raises(ImageRefused, match="encryption method 7"):
        decode(SOUND, (32, be(7, 4)))


def test_a_name_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="does not fit"):
        replace(SOUND, cluster_bits=9, backing_file="x" * 600).encode()
    with pytest.raises(InvalidInput, match="1023"):
        replace(SOUND, backing_file="x" * 1024).encode()


@given(st.binary(max_size=300))
def test_no_extensions_are_too_strange_to_be_refused_or_read(area: bytes) -> None:
    try:
        found = decode_extensions(area, 0)
    except ExtensionError as error:
        assert 0 <= error.offset <= len(area)
    else:
        assert sum(8 + len(each.data) for each in found) <= len(area)
