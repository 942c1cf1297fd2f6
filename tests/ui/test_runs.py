import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.ui.heatmap import runs
from mirrorgui.ui.heatmap.cells import ChunkState
from tests.ui.map_states import lifelike, naive_state, pack, words_of


def none():
    return np.empty((0, 2), np.int64)


@st.composite
def maps(draw):
    chunks = draw(st.integers(1, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    flags = [rng.random(chunks) < draw(st.sampled_from([0.0, 0.1, 0.9])) for _ in range(3)]
    begin = draw(st.integers(0, chunks))
    return flags, (begin, draw(st.integers(begin, chunks)))


def naive_runs(flags, busy):
    found = []
    for chunk, (dirty, copied, failed) in enumerate(zip(*flags, strict=True)):
        state = naive_state(dirty, copied, failed, busy[0] <= chunk < busy[1])
        if found and found[-1][0] is state:
            found[-1][2] = chunk + 1
        else:
            found.append([state, chunk, chunk + 1])
    return [runs.Run(*each) for each in found]


@given(maps())
def test_runs_are_those_of_a_naive_reader(made):
    flags, busy = made
    words = words_of(*flags)
    codes = runs.chunk_codes(words, np.array([busy]), 0, words.chunks)
    assert list(runs.runs_of(codes, 0)) == naive_runs(flags, busy)


@given(maps(), st.integers(0, 399), st.integers(1, 400))
def test_part_of_an_image_has_the_same_codes(made, first, count):
    flags, busy = made
    words = words_of(*flags)
    first = min(first, words.chunks - 1)
    end = min(first + count, words.chunks)
    whole = runs.chunk_codes(words, np.array([busy]), 0, words.chunks)
    part = runs.chunk_codes(words, np.array([busy]), first, end)
    assert np.array_equal(part, whole[first:end])


@given(maps(), st.integers(1, 30), st.sampled_from([64, 128, 1 << 20]))
def test_scan_in_slices_finds_failed_runs_and_the_largest(made, wanted, slice_length):
    flags, busy = made
    words = words_of(*flags)
    old, runs.SLICE = runs.SLICE, slice_length
    try:
        scan = runs.RunScan(words, np.array([busy]), wanted)
        while not scan.finished:
            scan.step()
    finally:
        runs.SLICE = old
    every = naive_runs(flags, busy)
    failed = [run for run in every if run.state is ChunkState.FAILED][:wanted]
    others = [run for run in every if run.state is not ChunkState.FAILED]
    lengths = sorted((run.chunks for run in others), reverse=True)[: wanted - len(failed)]
    result = scan.result()
    assert list(result[: len(failed)]) == failed
    assert [run.chunks for run in result[len(failed) :]] == lengths
    assert set(result) <= set(every)


def test_scan_sees_one_moment_only():
    words, _ = lifelike(4096)
    scan = runs.RunScan(words, none(), 10)
    words.dirty[:] = 0
    words.copied[:] = 0
    while not scan.finished:
        scan.step()
    assert any(run.state is ChunkState.TO_COPY for run in scan.result())


@given(st.sets(st.integers(0, 299)), st.integers(-1, 300))
def test_next_and_previous_marked_chunk(marked, chunk):
    flags = np.zeros(300, bool)
    flags[list(marked)] = True
    words = pack(flags)
    assert runs.next_marked(words, chunk) == min((m for m in marked if m > chunk), default=None)
    below = max((m for m in marked if m < chunk), default=None)
    assert runs.previous_marked(words, max(chunk, 0)) == below


def test_image_without_chunks_has_no_runs():
    words = MapWords.empty(0)
    assert list(runs.runs_of(runs.chunk_codes(words, none(), 0, 0), 0)) == []
    assert runs.RunScan(words, none(), 5).finished
    assert runs.next_marked(words.failed, -1) is None


def test_a_slice_of_a_scan_does_not_stall_the_window():
    words, _ = lifelike(4 << 20)
    scan = runs.RunScan(words, none(), 200)
    spent = []
    while not scan.finished:
        begin = time.perf_counter()
        scan.step()
        spent.append(time.perf_counter() - begin)
    assert min(spent) < 0.03  # 5 ms here; slack for a busy machine
