import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorgui.block.qcow2.bitmap_directory import AUTO, IN_USE, read_bitmap_directory
from mirrorgui.block.qcow2.features import Autoclear
from mirrorgui.block.qcow2.header import Header, read_header
from mirrorgui.block.qcow2.snapshots import read_snapshots
from mirrorgui.block.qcow2.structures import read_structures
from mirrorgui.errors import ImageError
from tests.block.qcow2.nodes import ByteFile

NAMES = ["first", "zweiter, größer", "x" * 200]


def run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


@pytest.fixture
def image(tmp_path: Path) -> tuple[ByteFile, Header]:
    path = tmp_path / "image.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "10M")
    for number, name in enumerate(NAMES):
        run("qemu-io", "-c", f"write -P {number} {number}M 1M", path)
        run("qemu-img", "snapshot", "-c", name, path)
    run("qemu-img", "bitmap", "--add", "-g", "512", path, "fine")
    run("qemu-img", "bitmap", "--add", path, "coarse")
    file = ByteFile(path.read_bytes())
    return file, read_header(file, "filename")


def test_snapshots_are_read(image: tuple[ByteFile, Header]) -> None:
    file, header = image
    table = read_snapshots(file, header, "filename")
    assert [each.name for each in table.snapshots] == NAMES
    assert [each.id for each in table.snapshots] == ["1", "2", "3"]
    assert {each.disk_size for each in table.snapshots} == {10 << 20}
    assert {each.l1_entries for each in table.snapshots} == {1}
    assert table.offset == header.snapshots_offset
    assert 40 * 3 < table.length < 1000
    none = replace(header, snapshot_count=0)
    assert not read_snapshots(file, none, "filename").snapshots


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, (1 << 40).to_bytes(8, "big"), "is outside the file"),
        (0, (512).to_bytes(8, "big"), "does not begin at a cluster"),
        (8, b"\xff" * 4, "is too long"),
        (36, b"\xff" * 4, "bytes of extra data"),
    ],
)
def test_a_damaged_snapshot_is_named(
    image: tuple[ByteFile, Header], at: int, value: bytes, reason: str
) -> None:
    file, header = image
    file.patch(header.snapshots_offset + at, value)
    with pytest.raises(ImageError, match=reason) as caught:
        read_snapshots(file, header, "source")
    assert caught.value.field == "source"
    assert caught.value.offset == header.snapshots_offset


def test_a_table_that_is_cut_off_is_damaged(image: tuple[ByteFile, Header]) -> None:
    file, header = image
    whole = read_snapshots(file, header, "filename").length
    for length in (whole - 1, 60, 41, 39, 0):
        file.resize(header.snapshots_offset + length)
        with pytest.raises(ImageError, match=r"the file ends|is outside the file"):
            read_snapshots(file, header, "filename")


def test_a_count_that_the_table_does_not_have_is_damaged(image: tuple[ByteFile, Header]) -> None:
    file, header = image
    file.resize(header.snapshots_offset + 1000)
    with pytest.raises(ImageError):
        read_snapshots(file, replace(header, snapshot_count=65536), "filename")


def test_bitmaps_are_found_while_they_are_consistent(image: tuple[ByteFile, Header]) -> None:
    file, header = image
    directory = read_bitmap_directory(file, header, "filename")
    assert len(directory.tables) == 2
    assert {table.entries for table in directory.tables} == {1}
    told = [(each.name, each.type, each.granularity, each.flags) for each in directory.tables]
    assert told == [("fine", 1, 512, AUTO), ("coarse", 1, 65536, AUTO)]
    assert directory.mark_in_use(file)
    marked = read_bitmap_directory(file, header, "filename")
    assert {each.flags for each in marked.tables} == {AUTO | IN_USE}
    stale = replace(header, autoclear=Autoclear(0))
    assert not read_bitmap_directory(file, stale, "filename").tables


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, (1 << 40).to_bytes(8, "big"), "cannot be"),
        (0, (512).to_bytes(8, "big"), "cannot be"),
        (8, b"\xff" * 4, "cannot be"),
        (20, b"\xff" * 4, "ends in an entry"),
        (18, b"\xff" * 2, "ends in an entry"),
    ],
)
def test_a_damaged_bitmap_is_named(
    image: tuple[ByteFile, Header], at: int, value: bytes, reason: str
) -> None:
    file, header = image
    directory = read_bitmap_directory(file, header, "filename")
    file.patch(directory.offset + at, value)
    with pytest.raises(ImageError, match=f"bitmap directory: .*{reason}"):
        read_bitmap_directory(file, header, "filename")


def test_structures_at_the_same_place_are_damage(image: tuple[ByteFile, Header]) -> None:
    file, header = image
    named = {each.what for each in read_structures(file, header, "filename").named}
    assert len(named) == 6
    file.patch(header.snapshots_offset, header.l1_offset.to_bytes(8, "big"))
    with pytest.raises(ImageError, match="stands where") as caught:
        read_structures(file, header, "filename")
    assert caught.value.offset == header.l1_offset
