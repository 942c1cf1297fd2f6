"""The dirty bitmap at 16 Mi chunks (1 TiB at 64 KiB): microseconds for each operation.

``python -m tests.bench.bitmap``
"""

import random
import statistics
import time
from collections.abc import Callable

import numpy as np

from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.units import GiB, KiB, MiB, TiB

SIZE, GRANULARITY = TiB, 64 * KiB
CHUNKS = SIZE // GRANULARITY


def measure(name: str, function: Callable[[int], object], values: list[int]) -> None:
    """Print the median and the slowest of 9 rounds over all values."""
    rounds = []
    for _ in range(9):
        started = time.perf_counter_ns()
        for value in values:
            function(value)
        rounds.append((time.perf_counter_ns() - started) / len(values) / 1000)
    print(f"{name:48}{statistics.median(rounds):10.2f} us   (slowest round {max(rounds):.2f})")


def main() -> None:
    chance = random.Random(1)
    bitmap = DirtyBitmap(SIZE, GRANULARITY)
    offsets = [chance.randrange(SIZE - MiB) for _ in range(1000)]
    words = np.zeros(-(-CHUNKS // 64), np.uint64)
    print(f"{CHUNKS} chunks")
    measure("mark a guest's write of 4 KiB", lambda o: bitmap.mark(o, 4 * KiB), offsets)
    measure("mark 1 MiB", lambda o: bitmap.mark(o, MiB), offsets)
    measure("clear 1 MiB", lambda o: bitmap.clear(o, MiB), offsets)
    bitmap.mark_all()
    measure("next run in a full bitmap", lambda o: bitmap.next_run(o, MiB), offsets)
    measure("clear and mark 1 GiB", lambda o: (bitmap.clear(o, GiB), bitmap.mark(o, GiB)), offsets)
    bitmap.clear(0, SIZE)
    for offset in offsets:
        bitmap.mark(offset, 1)
    measure("next dirty, 1000 dirty chunks", lambda o: bitmap.next_dirty(o), offsets)
    bitmap.clear(0, SIZE)
    bitmap.mark(SIZE - 1, 1)
    measure("next dirty across everything", lambda _: bitmap.next_dirty(0), list(range(20)))
    measure("count dirty bytes", lambda _: bitmap.dirty_bytes, offsets)
    measure("copy of all words", lambda _: bitmap.copy_words_into(words), list(range(20)))
    measure(
        "population count of the copy", lambda _: np.bitwise_count(words).sum(), list(range(20))
    )


if __name__ == "__main__":
    main()
