"""Prefetching passes through whatever stands in front of a file, and nobody pretends it."""

from pathlib import Path

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.raw import RawNode
from mirrorgui.mirror.drive import Drive


class Near(MemoryNode):
    """Remembers what it was asked to bring near."""

    def __init__(self, size):
        super().__init__(size)
        self.asked = []

    def prefetch(self, offset, length):
        self.asked.append((offset, length))
        return True


@pytest.mark.parametrize(
    ("front", "asked"),
    [
        (lambda node: Drive(node), (100, 10)),
        (lambda node: BlkdebugNode(node), (100, 10)),
        (lambda node: RawNode(node, offset=1000), (1100, 10)),
    ],
    ids=["drive", "blkdebug", "raw"],
)
def test_it_reaches_the_node_below(front, asked):
    node = Near(65536)
    assert front(node).prefetch(100, 10)
    assert node.asked == [asked]


def test_rules_and_a_closed_gate_prevent_it():
    node = Near(65536)
    ruled = BlkdebugNode(node, [InjectError(event="read_aio")])
    assert not ruled.prefetch(0, 512)
    drive = Drive(node)
    drive.hold(lambda: None)
    assert not drive.prefetch(0, 512)
    drive.release()
    assert node.asked == []


def test_memory_and_tmpfs_have_nothing_to_bring():
    assert not MemoryNode(65536).prefetch(0, 512)
    path = Path("/dev/shm/mirrorgui-prefetch.raw")
    path.write_bytes(bytes(65536))
    try:
        node = FileNode(path)
        assert not node.prefetch(0, 512)
        node.close()
    finally:
        path.unlink()


def test_a_file_on_a_disk_is_read_into_the_page_cache(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"x" * 65536)
    node = FileNode(path)
    assert node.prefetch(0, 65536) == node.reads_wait
    data = bytearray(65536)
    node.read_into(0, data)
    assert data == b"x" * 65536
    assert node.try_read_into(0, data)
    node.close()
