import errno

import pytest

from mirrorgui.block.node import Extent, ExtentKind
from mirrorgui.block.null import NullNode
from mirrorgui.errors import BlockIOError


def test_it_reads_zeroes_and_forgets_writes() -> None:
    node = NullNode(4096)
    node.write(0, b"x" * 4096)
    node.write_zeroes(0, 4096)
    node.discard(0, 4096)
    node.flush()
    buffer = bytearray(b"y" * 4096)
    node.read_into(0, buffer)
    assert buffer == bytes(4096)
    assert node.extents(10, 20) == [Extent(10, 20, ExtentKind.ZERO)]
    assert node.extents(10, 0) == []
    node.close()


def test_with_a_latency_its_requests_wait() -> None:
    assert not NullNode(512).reads_wait
    node = NullNode(512, latency_ns=1000)
    assert node.reads_wait
    assert node.writes_wait
    node.write(0, b"x")


def test_read_only_and_bounds_are_kept() -> None:
    with pytest.raises(BlockIOError) as caught:
        NullNode(512, read_only=True).write(0, b"x")
    assert caught.value.errno == errno.EPERM
    with pytest.raises(BlockIOError) as caught:
        NullNode(512).read_into(512, bytearray(1))
    assert caught.value.errno == errno.EINVAL
