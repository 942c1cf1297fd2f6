import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.block.qcow2.layout import (
    ALL_ZERO,
    COMPRESSED,
    COPIED,
    ZERO,
    Geometry,
    Kind,
    classify,
    distinct,
    subcluster_mask,
    words_from,
    words_to,
)
from mirrorgui.block.qcow2.places import Mode, Segment, segments_of
from mirrorgui.block.qcow2.runs import Run, _general, broken_entries, runs_of
from mirrorgui.block.qcow2.tables import L2Table
from mirrorgui.units import KiB

K64 = 64 * KiB


def words(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


@given(st.lists(st.integers(0, (1 << 64) - 1)))
def test_words_survive_the_way_to_the_file_and_back(values: list[int]) -> None:
    data = words_to(words(*values))
    assert data == b"".join(value.to_bytes(8, "big") for value in values)
    assert words_from(data).tolist() == values


@given(st.lists(st.integers(0, (1 << 64) - 1) | st.integers(0, 5)))
def test_distinct_numbers_come_once_and_in_order(values: list[int]) -> None:
    assert distinct(words(*values)).tolist() == sorted(set(values))


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (0, Kind.UNALLOCATED),
        (1, Kind.ZERO),
        (COPIED | K64 | 1, Kind.ZERO_HOST),
        (COPIED | K64, Kind.DATA),
        (K64, Kind.DATA),
        (COMPRESSED | K64, Kind.COMPRESSED),
        (COMPRESSED | K64 | 1, Kind.COMPRESSED),
    ],
)
def test_kinds_of_plain_entries(entry: int, kind: Kind) -> None:
    assert classify(words(entry), None).tolist() == [kind]


def test_a_place_at_zero_counts_in_a_data_file_only() -> None:
    assert classify(words(COPIED), None, data_file=True).tolist() == [Kind.DATA]
    assert classify(words(COPIED), None).tolist() == [Kind.UNALLOCATED]


def test_kinds_of_subclusters() -> None:
    bitmap = 0b01 | 0b10 << 32 | 1 << 3 | 1 << (32 + 3)
    kinds = classify(words(COPIED | K64, 0, COMPRESSED | 5), words(bitmap, 1 << 33 | 1, 0))
    assert kinds[:4].tolist() == [Kind.DATA, Kind.ZERO_HOST, Kind.UNALLOCATED_HOST, Kind.BROKEN]
    assert kinds[32:35].tolist() == [Kind.BROKEN, Kind.ZERO, Kind.UNALLOCATED]
    assert set(kinds[64:].tolist()) == {Kind.COMPRESSED}


@given(st.integers(9, 21), st.data())
def test_the_place_of_a_compressed_cluster(bits: int, data: st.DataObject) -> None:
    geometry = Geometry(bits)
    shift = 62 - (bits - 8)
    offset = data.draw(st.integers(0, (1 << min(shift, 56)) - 1))
    sectors = data.draw(st.integers(0, (1 << (62 - shift)) - 1))
    entry = COMPRESSED | sectors << shift | offset
    place, length = geometry.compressed_place(entry)
    assert place == offset
    assert (place + length) % 512 == 0
    assert (place + length) // 512 - place // 512 == sectors + 1
    first, count = geometry.compressed_clusters(entry)
    assert first <= place < place + length <= first + (count << bits)


def test_geometry_follows_the_specification() -> None:
    plain, extended = Geometry(16), Geometry(16, extended_l2=True, refcount_order=0)
    assert (plain.l2_entries, plain.l2_span, plain.unit_size) == (8192, 8192 * K64, K64)
    assert (extended.l2_entries, extended.unit_size, extended.units) == (4096, 2 * KiB, 32)
    assert (plain.refcount_block_entries, extended.refcount_block_entries) == (32768, 524288)
    assert [plain.l1_entries(size) for size in (0, 1, 8192 * K64, 8192 * K64 + 1)] == [0, 1, 1, 2]


def test_runs_join_what_stands_together() -> None:
    entries = words(COPIED | K64, 2 * K64, COPIED | 9 * K64, 0, 0, 1, 10 * K64 | 1)
    runs = runs_of(Geometry(16), entries, None, 0, 100, 7 * K64 - 5)
    assert runs == [
        Run(100, 2 * K64 - 100, Kind.DATA, K64 + 100),
        Run(2 * K64, K64, Kind.DATA, 9 * K64),
        Run(3 * K64, 2 * K64, Kind.UNALLOCATED, 0),
        Run(5 * K64, K64, Kind.ZERO, 0),
        Run(6 * K64, K64 - 5, Kind.ZERO_HOST, 10 * K64),
    ]


def test_runs_of_subclusters_begin_and_end_anywhere() -> None:
    geometry = Geometry(16, extended_l2=True)
    bitmaps = words(0xFFFF0000, 0x0000FFFF | ALL_ZERO & ~(0xFFFF << 32))
    runs = runs_of(geometry, words(COPIED | K64, 2 * K64), bitmaps, 0, 1000, 2 * K64 - 1000)
    assert runs == [
        Run(1000, 32 * KiB - 1000, Kind.UNALLOCATED_HOST, K64 + 1000),
        Run(32 * KiB, 64 * KiB, Kind.DATA, K64 + 32 * KiB),
        Run(96 * KiB, 32 * KiB - 1000, Kind.ZERO_HOST, 2 * K64 + 32 * KiB),
    ]


def test_entries_that_contradict_the_format_are_found() -> None:
    sound = words(0, 1, COPIED | K64, 2 * K64 | 1, COMPRESSED | 5)
    assert broken_entries(Geometry(16), sound, None, 0, 10 * K64) is None
    bad = words(2, 1 << 60, COPIED | 512, 10 * K64, COMPRESSED | 10 * K64, K64)
    found = broken_entries(Geometry(16), bad, None, 0, 10 * K64)
    assert found is not None
    assert found.tolist() == [True] * 5 + [False]
    old = broken_entries(Geometry(16, version=2), words(1, K64), None, 0, 10 * K64)
    assert old is not None
    assert old.tolist() == [True, False]


def test_entries_of_a_data_file_stand_at_their_guest_offset() -> None:
    geometry = Geometry(16, data_file=True)
    entries = words(COPIED, COPIED | 2 * K64, COMPRESSED | 5, 0, COPIED | 4 * K64)
    found = broken_entries(geometry, entries, None, 0, 0)
    assert found is not None
    assert found.tolist() == [False, True, True, False, False]


def test_segments_say_where_a_write_may_go() -> None:
    table = L2Table(
        0,
        0,
        words(COPIED | K64, COPIED | 2 * K64, COPIED | 3 * K64 | 1, 4 * K64, 0, COMPRESSED | 7),
        extended=False,
    )
    assert segments_of(Geometry(16), table, 0, 10, 6 * K64) == [
        Segment(10, 2 * K64, Mode.IN_PLACE, K64 + 10),
        Segment(2 * K64, 3 * K64, Mode.REUSE, 3 * K64),
        Segment(3 * K64, 6 * K64, Mode.FRESH, 4 * K64),
    ]


def test_subclusters_that_a_write_does_not_touch_do_not_matter() -> None:
    geometry = Geometry(16, extended_l2=True)
    table = L2Table(0, 0, words(COPIED | K64, 0x0000FF00), extended=True)
    inside = segments_of(geometry, table, 0, 8 * 2 * KiB, 16 * 2 * KiB)
    assert [each.mode for each in inside] == [Mode.IN_PLACE]
    outside = segments_of(geometry, table, 0, 8 * 2 * KiB - 1, 16 * 2 * KiB)
    assert [each.mode for each in outside] == [Mode.REUSE]
    assert subcluster_mask(8, 16) == 0xFF00


@given(
    st.lists(
        st.sampled_from([0, ZERO, COPIED, COPIED | ZERO])
        | st.builds(
            lambda place, flags: place * K64 | flags,
            st.integers(1, 4),
            st.sampled_from([0, COPIED, COPIED | ZERO, COMPRESSED]),
        ),
        min_size=2,
        max_size=12,
    ),
    st.integers(0, K64 - 1),
    st.integers(0, K64 - 1),
)
def test_few_entries_are_told_as_many_are(entries: list[int], head: int, tail: int) -> None:
    geometry, offset, end = Geometry(16), 5 * K64 + head, (5 + len(entries)) * K64 - tail
    few = runs_of(geometry, words(*entries), None, 5 * K64, offset, end)
    many = _general(geometry, words(*entries), None, 5 * K64, offset, end)

    def told(runs: list[Run]) -> list[tuple[int, int, int, int]]:
        placed = (Kind.DATA, Kind.ZERO_HOST, Kind.COMPRESSED)  # else a place means nothing
        return [
            (run.offset, run.length, run.kind, run.place if run.kind in placed else 0)
            for run in runs
        ]

    assert told(few) == told(many)


def test_the_header_is_nobodys_data() -> None:
    entries = [COPIED, COPIED | K64, COPIED | 2 * K64]
    for more in (0, 40):
        found = entries + [COPIED | (3 + turn) * K64 for turn in range(more)]
        runs = runs_of(Geometry(16), words(*found), None, 0, 0, len(found) * K64)
        assert [(run.offset, run.kind, run.place) for run in runs] == [
            (0, Kind.UNALLOCATED, 0),
            (K64, Kind.DATA, K64),
        ]
