import numpy as np
import pytest

from mirrorgui.block.qcow2.refcounts import (
    RefcountBlock,
    entries_in,
    highest_refcount,
    pack,
    packed_size,
    refcount_dtype,
    unpack,
)

ORDERS = range(7)


def _random(count: int, order: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, highest_refcount(order), count, refcount_dtype(order), endpoint=True)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_what_was_packed_is_unpacked(order: int, count: int) -> None:
    refcounts = _random(count, order)
    packed = pack(refcounts, order)
    assert len(packed) == packed_size(count, order)
    unpacked = unpack(packed, order)
    assert unpacked.dtype == refcount_dtype(order)
    assert unpacked[:count].tolist() == refcounts.tolist()
    assert not unpacked[count:].any()


@pytest.mark.parametrize(
    ("order", "packed"),
    [
        (0, b"\x8d\x01"),
        (1, b"\x8d\x01\x00"),
        (2, b"\x8d\x01\x00\x00\x00"),
        (3, b"\x8d\x01"),
        (4, b"\x01\x02\xff\xfe"),
        (5, b"\x01\x02\x03\x04"),
        (6, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
    ],
)
def test_narrow_entries_start_low_and_wide_ones_are_big_endian(order: int, packed: bytes) -> None:
    expected = {
        0: [1, 0, 1, 1, 0, 0, 0, 1, 1],
        1: [1, 3, 0, 2, 1],
        2: [0xD, 8, 1],
        3: [0x8D, 1],
        4: [0x102, 0xFFFE],
        5: [0x1020304],
        6: [0x102030405060708],
    }[order]
    unpacked = unpack(packed, order).tolist()
    assert unpacked[: len(expected)] == expected
    assert not any(unpacked[len(expected) :])
    assert pack(unpack(packed, order), order) == packed


@pytest.mark.parametrize("order", ORDERS)
def test_a_block_changes_runs_and_nothing_beside_them(order: int) -> None:
    size = 512
    entries = entries_in(size, order)
    model = _random(entries, order)
    block = RefcountBlock(bytearray(pack(model, order)), order)
    assert not block.dirty
    rng = np.random.default_rng(2)
    for turn in range(100):
        first = int(rng.integers(entries))
        count = int(rng.integers(1, min(entries - first, 70) + 1))
        assert block.get(first, count).tolist() == model[first : first + count].tolist()
        values = _random(count, order, turn) if turn % 2 else turn % 4 // 2
        model[first : first + count] = values
        block.put(first, count, values)
        low, high = block.dirty_low, block.dirty_high
        assert low * 8 >> order <= first
        assert first + count <= high * 8 >> order
        assert bytes(block.data) == pack(model, order)
    block.mark_clean()
    assert not block.dirty


@pytest.mark.parametrize(
    ("order", "highest"), [(0, 1), (1, 3), (2, 15), (3, 255), (4, 65535), (6, (1 << 64) - 1)]
)
def test_the_highest_refcount_fills_the_width(order: int, highest: int) -> None:
    assert highest_refcount(order) == highest
    assert entries_in(64, order) == 512 >> order
