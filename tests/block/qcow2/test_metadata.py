import random
import time

import numpy as np
import pytest

from mirrorgui.block.qcow2.metadata import L2_TABLE, REFCOUNT_BLOCK, MetadataMap


@pytest.fixture
def metadata() -> MetadataMap:
    found = MetadataMap(16)
    found.add("the header", 0, 65536)
    found.add("the L1 table", 3 << 16, 65536 + 8)
    found.add_tables(np.array([9 << 16, 7 << 16, 9 << 16, 0x30000], np.uint64))
    found.add(REFCOUNT_BLOCK, 20 << 16, 65536)
    return found


@pytest.mark.parametrize(
    ("offset", "length", "what"),
    [
        (0, 1, "the header"),
        (65535, 1, "the header"),
        (65536, 65536, ""),
        (65536, 2 * 65536 + 1, "the L1 table"),
        ((4 << 16) + 5, 512, "the L1 table"),
        (5 << 16, 2 << 16, ""),
        (5 << 16, (2 << 16) + 1, L2_TABLE),
        (9 << 16, 65536, L2_TABLE),
        (10 << 16, 10 << 16, ""),
        (20 << 16, 1, REFCOUNT_BLOCK),
        (21 << 16, 1 << 50, ""),
    ],
)
def test_a_range_that_would_overwrite_something_is_seen(
    metadata: MetadataMap, offset: int, length: int, what: str
) -> None:
    assert metadata.hit(offset, length) == what


def test_what_has_moved_away_is_forgotten(metadata: MetadataMap) -> None:
    metadata.remove(3 << 16, 2 << 16)
    metadata.remove(7 << 16, 65536)
    assert not metadata.hit(1 << 16, 8 << 16)
    assert metadata.hit(9 << 16, 1) == L2_TABLE


def test_many_changes_agree_with_a_set() -> None:
    rng = random.Random(1)
    metadata, model = MetadataMap(9), set()
    for _ in range(2000):
        cluster = rng.randrange(1000)
        if cluster in model:
            metadata.remove(cluster << 9, 512)
            model.remove(cluster)
        else:
            metadata.add(L2_TABLE, cluster << 9, 512)
            model.add(cluster)
        first, count = rng.randrange(1000), rng.randint(1, 5)
        expected = any(each in model for each in range(first, first + count))
        assert bool(metadata.hit(first << 9, count << 9)) is expected
    offsets = np.arange(1000, dtype=np.uint64) << np.uint64(9)
    assert set(np.flatnonzero(metadata.hits(offsets)).tolist()) == model
    assert not MetadataMap(9).hits(offsets).any()


def test_structures_of_many_clusters_take_no_more_memory_or_time_for_it() -> None:
    """As many snapshots as there can be, their L1 tables as long as they can be."""
    metadata, length = MetadataMap(9), 32 << 20
    start = time.monotonic()
    for number in range(65536):
        metadata.add("the L1 table of a snapshot", (number + 1) * (length + 512), length)
    assert time.monotonic() - start < 5
    offsets = np.arange(1, 65537, dtype=np.uint64) * np.uint64(length + 512)
    assert metadata.hits(offsets).all()
    assert metadata.hits(offsets + np.uint64(length - 1)).all()
    assert not metadata.hits(offsets + np.uint64(length)).any()
    assert metadata.hit(length, 513) == "the L1 table of a snapshot"
    assert not metadata.hit(length, 512)
    metadata.remove(length + 512, length)
    assert not metadata.hits(offsets[:1]).any()
    assert metadata.hits(offsets[1:]).all()


def test_a_million_tables_are_noted_quickly() -> None:
    metadata = MetadataMap(12)
    start = time.monotonic()
    metadata.add_tables(np.arange(1, 1_000_001, dtype=np.uint64) << np.uint64(12))
    assert time.monotonic() - start < 1  # 0.1 s; it was 4 s
    assert metadata.hit(1_000_000 << 12, 1) == L2_TABLE
    assert not metadata.hit(1_000_001 << 12, 1)
