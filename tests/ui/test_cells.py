import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.snapshot import OperationView
from mirrorgui.ui.heatmap import cells
from mirrorgui.ui.heatmap.cells import ChunkState, fold, in_flight_chunks
from tests.ui.map_states import lifelike, naive_state, words_of


def none():
    return np.empty((0, 2), np.int64)


@st.composite
def maps(draw):
    chunks = draw(st.integers(1, 700))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    density = [draw(st.sampled_from([0.0, 0.02, 0.5, 1.0])) for _ in range(3)]
    flags = [rng.random(chunks) < each for each in density]
    spans = draw(
        st.lists(st.tuples(st.integers(0, chunks * 512), st.integers(0, 40 * 512)), max_size=6)
    )
    operations = [OperationView(offset, length, 0) for offset, length in spans]
    return flags, operations


@settings(max_examples=300, deadline=None)
@given(maps(), st.integers(0, 9), st.data())
def test_fold_counts_as_a_naive_reader_does(made, power, data):
    (dirty, copied, failed), operations = made
    chunks, per_cell = len(dirty), 1 << power
    first = data.draw(st.integers(0, (chunks - 1) // per_cell)) * per_cell
    wanted = data.draw(st.integers(0, 900))
    ranges = in_flight_chunks(operations, 512, chunks)
    counts = fold(words_of(dirty, copied, failed), ranges, first, wanted, per_cell)

    busy = np.zeros(chunks, bool)
    for each in operations:
        if each.length:
            busy[each.offset // 512 : -(-(each.offset + each.length) // 512)] = True
    expected = {state: [] for state in ChunkState}
    again_in_flight = []
    for begin in range(first, min(first + wanted * per_cell, chunks), per_cell):
        inside = range(begin, min(begin + per_cell, chunks))
        found = [naive_state(dirty[c], copied[c], failed[c], busy[c]) for c in inside]
        for state in ChunkState:
            expected[state].append(found.count(state))
        again_in_flight.append(sum(busy[c] and copied[c] and not failed[c] for c in inside))
    for state in ChunkState:
        assert counts.of(state).tolist() == expected[state], state
    assert counts.in_flight_again.tolist() == again_in_flight
    assert counts.total.sum() == sum(map(sum, expected.values()))


@settings(max_examples=100, deadline=None)
@given(maps())
def test_chunk_state_agrees_with_fold(made):
    (dirty, copied, failed), operations = made
    words = words_of(dirty, copied, failed)
    ranges = in_flight_chunks(operations, 512, len(dirty))
    counts = fold(words, ranges, 0, len(dirty), 1)
    for chunk in range(0, len(dirty), 7):
        assert counts.of(cells.chunk_state(words, ranges, chunk))[chunk] == 1


@settings(max_examples=150, deadline=None)
@given(maps(), st.integers(0, 700), st.integers(0, 700))
def test_counting_any_range_agrees_with_fold(made, first, end):
    (dirty, copied, failed), operations = made
    first, end = sorted((min(first, len(dirty)), min(end, len(dirty))))
    words = words_of(dirty, copied, failed)
    ranges = in_flight_chunks(operations, 512, len(dirty))
    counts = fold(words, ranges, 0, len(dirty), 1)
    assert cells.count_states(words, ranges, first, end) == counts.sums(first, end)


def test_operations_that_share_a_chunk_count_it_once():
    operations = [OperationView(0, 700, 0), OperationView(700, 300, 0), OperationView(3000, 1, 0)]
    assert in_flight_chunks(operations, 1024, 100).tolist() == [[0, 1], [2, 3]]


def test_operations_are_cut_at_the_end_of_the_image():
    operations = [OperationView(9 * 512, 4096, 0), OperationView(90 * 512, 512, 0)]
    assert in_flight_chunks(operations, 512, 10).tolist() == [[9, 10]]


def test_image_without_chunks_folds_to_nothing():
    counts = fold(MapWords.empty(0), none(), 0, 100, 64)
    assert counts.cells == 0
    assert not any(counts.sums().values())


@pytest.mark.parametrize(("first", "per_cell"), [(0, 3), (1, 2), (0, 0)])
def test_crooked_cells_are_refused(first, per_cell):
    with pytest.raises(ValueError, match=r"cell|power"):
        fold(MapWords.empty(64), none(), first, 10, per_cell)


@pytest.mark.parametrize("failed_chunk", [0, 8_388_611, 16 * 2**20 - 1])
def test_one_failed_chunk_among_sixteen_million_is_counted(failed_chunk):
    words = MapWords.empty(16 * 2**20)
    words.copied[:] = ~np.uint64(0)
    words.failed[failed_chunk // 64] = np.uint64(1) << np.uint64(failed_chunk % 64)
    counts = fold(words, none(), 0, 10_000, 2048)
    assert np.flatnonzero(counts.failed).tolist() == [failed_chunk // 2048]
    assert counts.sums()[ChunkState.IN_SYNC] == 16 * 2**20 - 1


def test_folding_leaves_the_maps_alone():
    words, edge = lifelike(5000)
    before = [array.copy() for array in (words.dirty, words.copied, words.failed)]
    fold(words, np.array([[edge, edge + 50]]), 0, 5000, 1)
    for array, old in zip((words.dirty, words.copied, words.failed), before, strict=True):
        assert np.array_equal(array, old)


def test_bytes_of_a_state_know_the_short_last_chunk():
    sums = {ChunkState.IN_SYNC: 3, ChunkState.TO_COPY: 1}
    found = cells.state_bytes(sums, 65536, ChunkState.TO_COPY, 65536 - 512)
    assert found == {ChunkState.IN_SYNC: 3 * 65536, ChunkState.TO_COPY: 512}


def test_folding_a_terabyte_is_fast_enough_for_a_frame():
    words, _ = lifelike(16 * 2**20)
    ranges = np.array([[1000, 1016], [500_000, 500_016]])
    spent = []
    for _ in range(7):
        begin = time.perf_counter()
        fold(words, ranges, 0, 8192, 2048)
        spent.append(time.perf_counter() - begin)
    assert min(spent) < 0.010  # 1.5 ms here; slack for a busy machine
