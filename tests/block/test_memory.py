import errno

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import Extent, ExtentKind
from mirrorgui.errors import BlockIOError
from tests.block.conftest import stamped

DATA, ZERO, UNALLOCATED = ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.UNALLOCATED


def kinds(node: MemoryNode) -> list[ExtentKind]:
    return [run.kind for run in node.extents(0, node.size)]


def test_a_size_makes_an_image_with_nothing_allocated() -> None:
    node = MemoryNode(100_000)
    assert node.extents(0, 100_000) == [Extent(0, 100_000, UNALLOCATED)]
    assert node.content() == bytes(100_000)
    assert node.allocated_bytes() == 0


def test_bytes_make_an_image_that_is_all_data() -> None:
    node = MemoryNode(b"abc")
    assert (node.size, node.content(), kinds(node)) == (3, b"abc", [DATA])


def test_an_empty_image_takes_every_request_of_no_bytes() -> None:
    node = MemoryNode(0)
    node.write(0, b"")
    node.write_zeroes(0, 0)
    node.discard(0, 0)
    assert node.extents(0, 0) == []
    assert node.content() == b""


def test_a_write_allocates_whole_clusters_around_what_the_backing_has() -> None:
    base = MemoryNode(stamped(300))
    node = MemoryNode(300, backing=base, cluster_size=100)
    node.write(150, b"XY")
    assert kinds(node) == [UNALLOCATED, DATA, UNALLOCATED]
    expected = bytearray(stamped(300))
    expected[150:152] = b"XY"
    assert node.content() == bytes(expected)
    base.write(100, bytes(100))  # copied up: no longer seen
    assert node.content() == bytes(expected)


def test_zeroing_hides_the_backing() -> None:
    node = MemoryNode(300, backing=MemoryNode(stamped(300)), cluster_size=100)
    node.write_zeroes(0, 100)
    node.discard(100, 100)
    assert kinds(node) == [ZERO, UNALLOCATED]
    assert node.extents(0, 200) == [Extent(0, 200, ZERO)]
    assert node.content() == bytes(200) + stamped(300)[200:]


def test_a_failed_copy_up_is_a_failed_write() -> None:
    base = BlkdebugNode(MemoryNode(stamped(300)), [InjectError("read_aio")])
    node = MemoryNode(300, backing=base, cluster_size=100)
    with pytest.raises(BlockIOError) as caught:
        node.write(10, b"x")
    assert (caught.value.operation, caught.value.errno) == ("write", errno.EIO)
    node.write(0, bytes(100))  # covers the cluster whole: nothing to copy up
    assert kinds(node) == [DATA, UNALLOCATED]


def test_without_can_zero_zeroes_are_stored() -> None:
    node = MemoryNode(1000, can_zero=False, cluster_size=100)
    node.write_zeroes(0, 1000)
    assert node.allocated_bytes() == 1000


def test_a_read_only_image_refuses_every_change() -> None:
    node = MemoryNode(b"abc", read_only=True)
    for request in (
        lambda: node.write(0, b"x"),
        lambda: node.write_zeroes(0, 1),
        lambda: node.discard(0, 1),
    ):
        with pytest.raises(BlockIOError) as caught:
            request()
        assert caught.value.errno == errno.EPERM
    assert node.content() == b"abc"


def test_resize_grows_with_zeroes_whatever_the_backing_node_has() -> None:
    base = MemoryNode(stamped(1000))
    node = MemoryNode(250, backing=base, cluster_size=100)
    node.resize(600)
    assert node.content() == stamped(1000)[:250] + bytes(350)
    node.resize(120)
    assert node.content() == stamped(1000)[:120]
    node.resize(130)
    assert node.content() == stamped(1000)[:120] + bytes(10)
