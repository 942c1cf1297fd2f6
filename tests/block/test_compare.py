import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.compare import compare
from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import BlockIOError
from mirrorgui.units import GiB, MiB
from tests.block.conftest import stamped

SIZE = 2 * MiB + 777
DATA = stamped(SIZE)


def test_equal_images_have_no_difference() -> None:
    assert compare(MemoryNode(DATA), MemoryNode(DATA)) is None
    assert compare(MemoryNode(0), MemoryNode(0)) is None


@given(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))
def test_the_first_difference_is_found_wherever_it_is(first: int, second: int) -> None:
    other = bytearray(DATA)
    other[first] ^= 1
    other[second] ^= 2
    expected = min(first, second) if other != DATA else None
    assert compare(MemoryNode(DATA), MemoryNode(other)) == expected


def test_a_hole_equals_written_zeroes_and_differs_from_data() -> None:
    holes = MemoryNode(SIZE)
    assert compare(holes, MemoryNode(bytes(SIZE))) is None
    data = bytearray(SIZE)
    data[-1] = 1
    assert compare(holes, MemoryNode(data)) == SIZE - 1
    assert compare(MemoryNode(data), holes) == SIZE - 1


def test_what_both_know_to_be_zero_is_not_read() -> None:
    def unreadable(size: int) -> BlkdebugNode:
        return BlkdebugNode(MemoryNode(size), [InjectError("read_aio")])

    assert compare(unreadable(3 * GiB), unreadable(3 * GiB)) is None


def test_a_longer_image_is_the_same_when_its_rest_is_zero() -> None:
    short, long = stamped(1000), stamped(1000) + bytes(5000)
    for a, b in ((short, long), (long, short)):
        assert compare(MemoryNode(a), MemoryNode(b)) is None
        assert compare(MemoryNode(a), MemoryNode(b), strict=True) == 1000
    assert compare(MemoryNode(short), MemoryNode(long + b"x")) == 6000
    assert compare(MemoryNode(short), MemoryNode(long + b"x"), strict=True) == 1000


def test_an_earlier_difference_goes_before_the_length() -> None:
    assert compare(MemoryNode(b"ax"), MemoryNode(b"ay\0"), strict=True) == 1


def test_the_backing_chain_is_seen() -> None:
    overlay = MemoryNode(SIZE, backing=MemoryNode(DATA))
    assert compare(overlay, MemoryNode(DATA)) is None


def test_progress_ends_at_the_whole() -> None:
    seen: list[tuple[int, int]] = []
    compare(MemoryNode(DATA), MemoryNode(DATA), lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (SIZE, SIZE)


def test_a_read_error_is_not_a_difference() -> None:
    broken = BlkdebugNode(MemoryNode(DATA), [InjectError("read_aio")])
    with pytest.raises(BlockIOError):
        compare(MemoryNode(DATA), broken)
