"""DirtyBitmap: rounding, the tail, threads. tests/stateful plays it against a set of numbers."""

import random
import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from mirrorgui.mirror.bitmap import DirtyBitmap, MapWords
from mirrorgui.units import GiB, KiB, TiB

CHUNK = 64 * KiB


def test_marking_rounds_outward_and_clearing_inward() -> None:
    bitmap = DirtyBitmap(10 * CHUNK, CHUNK)
    assert bitmap.mark(CHUNK - 1, 2) == 2 * CHUNK
    assert bitmap.clear(1, 2 * CHUNK) == CHUNK
    assert bitmap.runs(0, 10 * CHUNK) == [(CHUNK, True), (9 * CHUNK, False)]
    assert bitmap.clear(0, CHUNK - 1) == 0
    assert bitmap.clear(0, CHUNK) == CHUNK
    assert bitmap.is_clean


def ranges_in(size: int, rng: random.Random) -> list[tuple[int, int]]:
    """Return a few ranges in order, without overlaps, of any length."""
    cuts = sorted(rng.sample(range(size + 1), 8))
    return [(low, high - low) for low, high in pairwise(cuts)][:: rng.choice((1, 2))]


@pytest.mark.parametrize("seed", range(40))
def test_many_ranges_at_once_are_as_one_after_the_other(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.randrange(CHUNK // 2, 20 * CHUNK)
    many, single = DirtyBitmap(size, CHUNK), DirtyBitmap(size, CHUNK)
    for _ in range(6):
        ranges = ranges_in(size, rng)
        assert many.touched(ranges) == [each for each in ranges if single.touches(*each)]
        if rng.random() < 0.5:
            many.mark_ranges(ranges)
            for offset, length in ranges:
                single.mark(offset, length)
        else:
            many.clear_ranges(ranges)
            for offset, length in ranges:
                single.clear(offset, length)
        assert many.runs(0, size) == single.runs(0, size)
        assert many.dirty_bytes == single.dirty_bytes
        assert many.is_clean is single.is_clean


@pytest.mark.parametrize("length", [0, -1])
def test_nothing_marks_nothing(length: int) -> None:
    bitmap = DirtyBitmap(10 * CHUNK, CHUNK)
    assert bitmap.mark(5, length) == 0
    assert bitmap.is_clean and bitmap.generation == 0
    assert not bitmap.touches(5, length)


def test_the_last_chunk_counts_as_long_as_it_is() -> None:
    bitmap = DirtyBitmap(2 * CHUNK + 100, CHUNK)
    assert bitmap.chunks == 3
    assert bitmap.mark(2 * CHUNK + 99, 1) == 100
    assert bitmap.dirty_bytes == 100
    assert bitmap.next_run(0, 10 * CHUNK) == (2 * CHUNK, 100)
    bitmap.mark_all()
    assert bitmap.dirty_bytes == 2 * CHUNK + 100
    assert bitmap.clear(2 * CHUNK, 99) == 0
    assert bitmap.clear(2 * CHUNK, 100) == 100
    assert bitmap.clear(0, 2 * CHUNK + 100) == 2 * CHUNK


def test_an_empty_image_has_no_chunks() -> None:
    bitmap = DirtyBitmap(0, CHUNK)
    bitmap.mark_all()
    assert (bitmap.chunks, bitmap.dirty_bytes, bitmap.is_clean) == (0, 0, True)
    assert bitmap.next_run(0, CHUNK) is None and bitmap.next_dirty(0) is None
    bitmap.copy_words_into(MapWords.empty(0).dirty)


def test_a_run_is_cut_in_whole_chunks_and_has_one_at_least() -> None:
    bitmap = DirtyBitmap(10 * CHUNK, CHUNK)
    bitmap.mark(CHUNK, 5 * CHUNK)
    assert bitmap.next_run(0, 3 * CHUNK + 5) == (CHUNK, 3 * CHUNK)
    assert bitmap.next_run(0, 1) == (CHUNK, CHUNK)
    assert bitmap.next_run(3 * CHUNK + 7, 10 * CHUNK) == (3 * CHUNK, 3 * CHUNK)
    assert bitmap.next_run(6 * CHUNK, CHUNK) is None
    assert bitmap.next_dirty(2 * CHUNK + 1) == 2 * CHUNK


def test_the_generation_changes_with_every_change_and_with_no_other_call() -> None:
    bitmap = DirtyBitmap(10 * CHUNK, CHUNK)
    seen = [bitmap.generation]
    for change in (
        lambda: bitmap.mark(0, 1),
        lambda: bitmap.mark(0, 2 * CHUNK),
        lambda: bitmap.clear(0, CHUNK),
    ):
        change()
        assert bitmap.generation not in seen
        seen.append(bitmap.generation)
    bitmap.mark(CHUNK, 1)
    bitmap.clear(5 * CHUNK, CHUNK)
    bitmap.next_run(0, CHUNK)
    assert bitmap.generation == seen[-1]


def test_words_have_bits_from_the_lowest_and_none_behind_the_last_chunk() -> None:
    bitmap = DirtyBitmap(70 * CHUNK, CHUNK)
    bitmap.mark_all()
    words = MapWords.empty(70)
    bitmap.copy_words_into(words.dirty)
    assert words.dirty.tolist() == [2**64 - 1, 2**6 - 1]
    bitmap.clear(0, 70 * CHUNK)
    bitmap.mark(65 * CHUNK, 1)
    bitmap.copy_words_into(words.dirty)
    assert words.dirty.tolist() == [0, 2]


def test_guests_in_many_threads_lose_no_mark() -> None:
    bitmap = DirtyBitmap(4096 * 512, 512)
    threads = [
        threading.Thread(
            target=lambda first=first: [
                bitmap.mark(chunk * 512, 512) for chunk in range(first, 4096, 8)
            ]
        )
        for first in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bitmap.dirty_bytes == bitmap.size
    words = MapWords.empty(4096).dirty
    bitmap.copy_words_into(words)
    assert np.bitwise_count(words).sum() == 4096


def test_a_vast_image_is_searched_in_no_time() -> None:
    bitmap = DirtyBitmap(16 * TiB, CHUNK)
    bitmap.mark(16 * TiB - GiB, 1)
    began = time.perf_counter()
    assert bitmap.next_dirty(0) == 16 * TiB - GiB
    assert time.perf_counter() - began < 0.5
