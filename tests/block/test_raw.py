"""A part of an image as an image of its own: nothing outside of it is ever touched."""

import errno
import subprocess
from pathlib import Path

import pytest

from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import open_image
from mirrorgui.block.qcow2.create import create_qcow2
from mirrorgui.errors import BlockIOError
from mirrorgui.units import KiB, MiB

BEFORE = 1 * MiB


def window(path: Path, **options: object) -> BlockNode:
    file = {"driver": "file", "filename": str(path)}
    return open_image({"driver": "raw", "file": file, "offset": BEFORE, **options})


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"A" * BEFORE + b"W" * MiB + b"Z" * MiB)
    return path


def test_a_part_of_a_given_length_keeps_it(disk: Path) -> None:
    node = window(disk, size=MiB)
    for size in (0, 512, 4 * MiB):
        with pytest.raises(BlockIOError) as refused:
            node.resize(size)
        assert refused.value.errno == errno.EOPNOTSUPP
    node.close()
    assert disk.read_bytes() == b"A" * BEFORE + b"W" * MiB + b"Z" * MiB


def test_a_part_up_to_the_end_grows_and_shrinks_from_where_it_begins(disk: Path) -> None:
    node = window(disk)
    node.resize(512)
    assert (node.size, disk.stat().st_size) == (512, BEFORE + 512)
    node.resize(MiB)
    assert (node.size, disk.stat().st_size) == (MiB, BEFORE + MiB)
    with pytest.raises(BlockIOError) as refused:
        node.resize(-512)
    assert refused.value.errno == errno.EINVAL
    node.close()
    assert disk.read_bytes() == b"A" * BEFORE + b"W" * 512 + bytes(MiB - 512)


def test_an_image_is_made_in_a_part_and_nothing_else_changes(disk: Path) -> None:
    node = window(disk, size=MiB)
    create_qcow2(node, MiB)
    node.close()
    content = disk.read_bytes()
    assert len(content) == BEFORE + 2 * MiB
    assert content[:BEFORE] == b"A" * BEFORE
    assert content[BEFORE : BEFORE + 4] == b"QFI\xfb"
    assert content[-MiB:] == b"Z" * MiB


@pytest.mark.interop
def test_an_image_in_a_part_grows_behind_it(tmp_path: Path) -> None:
    inner, disk = tmp_path / "q.qcow2", tmp_path / "disk.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", inner, "4M"], check=True)
    disk.write_bytes(b"A" * BEFORE + inner.read_bytes())
    file = {"driver": "file", "filename": str(disk)}
    part = {"driver": "raw", "offset": BEFORE, "file": file}
    node = open_image({"driver": "qcow2", "file": part})
    for offset in range(0, 4 * MiB, 192 * KiB):
        node.write(offset, b"x" * 64 * KiB)
    node.close()
    content = disk.read_bytes()
    assert content[:BEFORE] == b"A" * BEFORE
    inner.write_bytes(content[BEFORE:])
    subprocess.run(["qemu-img", "check", "-q", inner], check=True)
    reads = [f"read -P 0x78 {offset} 64k" for offset in range(0, 4 * MiB, 192 * KiB)]
    commands = [part for read in reads for part in ("-c", read)]
    told = subprocess.run(["qemu-io", "-f", "qcow2", *commands, inner], capture_output=True)
    assert b"failed" not in told.stdout + told.stderr
