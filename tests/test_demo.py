"""The demonstration's images and its guest."""

import threading

import numpy as np
import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.demo import BLOCK, Demonstration, stamp
from mirrorgui.errors import BlockIOError
from mirrorgui.units import MiB

SIZE = 4 * MiB


@pytest.fixture
def demonstration():
    made = Demonstration(size=SIZE, seed=1, busy=1000.0)
    yield made
    made.close()


def fill(demonstration, node):
    node.write(0, demonstration.source.read_bytes())


def test_the_source_is_sparse_and_holds_what_the_record_says(demonstration):
    assert demonstration.source.stat().st_size == SIZE
    assert demonstration.source.stat().st_blocks * 512 < SIZE
    assert demonstration.verify(demonstration.source).equal


def test_every_block_carries_its_place_and_its_write():
    content = stamp(3, np.array([7, 0], np.uint64))
    words = np.frombuffer(content, np.uint64)
    assert (words[0], words[1]) == (3 * BLOCK, 7)
    assert not words[BLOCK // 8 :].any()


def test_the_request_is_of_temporary_files_only(demonstration):
    request = demonstration.request
    assert request.source.startswith(str(demonstration.folder))
    assert request.target.startswith(str(demonstration.folder))
    assert request.writable
    assert not demonstration.target.exists()


def test_what_the_guest_wrote_is_on_the_node(demonstration, tmp_path):
    node = CountingNode(SIZE, 200)
    fill(demonstration, node)
    demonstration.begin_on(node)
    assert node.enough.wait(20)
    demonstration.stop()
    copy = tmp_path / "copy.img"
    buffer = bytearray(SIZE)
    node.read_into(0, buffer)
    copy.write_bytes(buffer)
    result = demonstration.verify(copy)
    assert result.equal
    assert result.blocks == SIZE // BLOCK
    assert demonstration.writes >= 200
    assert not demonstration.verify(demonstration.source).equal


def test_one_wrong_byte_is_found(demonstration):
    content = bytearray(demonstration.source.read_bytes())
    content[5 * BLOCK + 17] ^= 1
    demonstration.target.write_bytes(content)
    result = demonstration.verify()
    assert not result.equal
    assert result.first_difference == 5 * BLOCK


def test_a_short_target_is_a_difference(demonstration):
    demonstration.target.write_bytes(demonstration.source.read_bytes()[: SIZE - BLOCK])
    assert demonstration.verify().first_difference == SIZE - BLOCK


def test_a_block_of_a_failed_write_may_hold_anything(demonstration, caplog):
    node = CountingNode(SIZE, 50, fails=True)
    fill(demonstration, MemoryNode(SIZE))
    demonstration.begin_on(node)
    assert node.enough.wait(20)
    demonstration.stop()
    assert demonstration.verify(demonstration.source).equal
    assert demonstration.writes == 0
    assert "demonstration's guest" in caplog.text


def test_close_leaves_nothing_behind(demonstration):
    demonstration.begin_on(MemoryNode(SIZE))
    demonstration.close()
    assert not demonstration.folder.exists()
    demonstration.close()
    assert "demo-guest" not in [each.name for each in threading.enumerate()]


def test_begin_twice_is_one_guest(demonstration):
    demonstration.begin_on(MemoryNode(SIZE))
    demonstration.begin_on(MemoryNode(SIZE))
    names = [each.name for each in threading.enumerate()]
    assert names.count("demo-guest") == 1


class CountingNode(MemoryNode):
    """Says when it has had enough writes."""

    def __init__(self, size, wanted, *, fails=False):
        super().__init__(size)
        self.enough = threading.Event()
        self._left = wanted
        self._fails = fails

    def _count(self, offset, length):
        self._left -= 1
        if self._left <= 0:
            self.enough.set()
        if self._fails:
            raise BlockIOError("write", offset, length, 5)

    def write(self, offset, data):
        self._count(offset, len(data)) if len(data) < SIZE else None
        super().write(offset, data)

    def write_zeroes(self, offset, length, *, may_unmap=True):
        self._count(offset, length)
        super().write_zeroes(offset, length, may_unmap=may_unmap)
