"""Where there is no room left: a device does not grow, and neither does a full file system."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.create import create_qcow2
from mirrorgui.block.qcow2.create_options import CreateOptions
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.node import Qcow2Node
from mirrorgui.errors import BlockIOError
from tests.block.conftest import run
from tests.block.qcow2.nodes import ByteFile

CHUNK = 16 * 1024
SIZE = 4 << 20


def open_node(file: BlockNode) -> Qcow2Node:
    return Qcow2Node(file, header=read_header(file, "target"))


def fill(node: BlockNode) -> int:
    """Write until there is no room; return how much was written."""
    for offset in range(0, node.size, CHUNK):
        try:
            node.write(offset, b"\x77" * CHUNK)
        except BlockIOError as error:
            assert error.errno == errno.ENOSPC
            return offset
    raise AssertionError("there was room for everything")


def read(node: BlockNode, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    node.read_into(offset, buffer)
    return bytes(buffer)


def check(content: bytes, folder: Path) -> None:
    path = folder / "checked.qcow2"
    path.write_bytes(content)
    assert "No errors" in run("qemu-img", "check", path).stdout


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_a_full_device_fails_with_enospc_and_stays_sound(
    tmp_path: Path, cluster_size: int, lazy: bool
) -> None:
    device = ByteFile(bytes(2 << 20), fixed=True)
    create_qcow2(device, SIZE, CreateOptions(cluster_size=cluster_size, lazy_refcounts=lazy))
    node = open_node(device)
    written = fill(node)
    assert written > 1.5 * (1 << 20)
    assert read(node, 0, written) == b"\x77" * written
    assert not any(read(node, written + CHUNK, SIZE - written - CHUNK))
    node.write(0, b"\x11" * CHUNK)  # in its place
    node.flush()
    node.close()
    check(device.content, tmp_path)


def test_what_is_discarded_makes_room_again(tmp_path: Path) -> None:
    device = ByteFile(bytes(2 << 20), fixed=True)
    create_qcow2(device, SIZE, CreateOptions(cluster_size=4096))
    node = open_node(device)
    written = fill(node)
    node.discard(0, 1 << 20)
    node.write(SIZE - (1 << 19), b"\x22" * (1 << 19))  # without a flush in between
    assert read(node, SIZE - (1 << 19), 1 << 19) == b"\x22" * (1 << 19)
    assert read(node, 1 << 20, written - (1 << 20)) == b"\x77" * (written - (1 << 20))
    assert not any(read(node, 0, 1 << 20))
    node.close()
    check(device.content, tmp_path)


@pytest.mark.root
def test_an_image_on_a_block_device_is_sound_when_it_is_full(
    tmp_path: Path, loop_device: Callable[..., str]
) -> None:
    store = tmp_path / "store"
    store.write_bytes(b"\xdd" * (2 << 20))
    path = loop_device(store)
    file = FileNode(path)
    create_qcow2(file, SIZE)
    node = open_node(file)
    written = fill(node)
    node.close()
    assert "No errors" in run("qemu-img", "check", "-f", "qcow2", path).stdout
    run("qemu-io", "-f", "qcow2", "-c", f"read -P 0x77 0 {written}", path)
    run("qemu-io", "-f", "qcow2", "-c", f"read -P 0 {written + 65536} 64k", path)
