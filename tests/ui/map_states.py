"""Maps for tests: naive readers of the packed words, and states that look like real jobs."""

import itertools

import numpy as np

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.options import CopyMode, SyncMode
from mirrorgui.mirror.snapshot import JobSnapshot, OperationView, Phase
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.heatmap.cells import ChunkState
from mirrorgui.units import KiB, MiB

GRANULARITY = 64 * KiB
SECOND = 1_000_000_000

_generations = itertools.count(1)


def pack(flags):
    """Turn one flag a chunk into words."""
    padded = np.zeros(-(-len(flags) // 64) * 64, np.uint8)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little").view(np.uint64).copy()


def words_of(dirty, copied, failed):
    """Make maps from three rows of flags."""
    return MapWords(len(dirty), pack(dirty), pack(copied), pack(failed))


def naive_state(dirty, copied, failed, in_flight):
    """Say a chunk's state from its flags, as the table of states has it."""
    if failed:
        return ChunkState.FAILED
    if in_flight:
        return ChunkState.IN_FLIGHT
    if dirty:
        return ChunkState.AGAIN if copied else ChunkState.TO_COPY
    return ChunkState.IN_SYNC if copied else ChunkState.NOT_ALLOCATED


def lifelike(chunks, front=0.45, seed=5, failures=4):
    """Make a map in the middle of a job: holes, a copy front, scattered writes, failed places."""
    rng = np.random.default_rng(seed)
    allocated = np.zeros(chunks, bool)
    position = 0
    while position < chunks:
        run = max(int(rng.exponential(chunks / 40)), 1)
        allocated[position : position + run] = rng.random() < 0.74
        position += run
    allocated[: max(chunks // 50, 1)] = True
    edge = int(chunks * front)
    done = np.arange(chunks) < edge
    copied = allocated & done
    dirty = allocated & ~done
    centres = rng.integers(0, max(edge, 1), 6)
    spread = max(chunks // 90, 1)
    for centre in centres:
        near = centre + rng.normal(0, spread, max(chunks // 150, 2)).astype(np.int64)
        near = near[(near >= 0) & (near < edge)]
        dirty[near] |= copied[near]
    lone = rng.integers(0, max(edge, 1), max(chunks // 2000, 1))
    dirty[lone] |= copied[lone]
    failed = np.zeros(chunks, bool)
    where = np.flatnonzero(allocated[:edge])
    if len(where):
        failed[rng.choice(where, min(failures, len(where)), replace=False)] = True
    dirty |= failed
    copied &= ~failed
    return words_of(dirty, copied, failed), edge


def operations_at(edge, chunks, count=16, granularity=GRANULARITY, now_ns=100 * SECOND):
    """Make operations in flight behind a copy front, some of them old."""
    length = max(min(MiB // granularity, chunks // 64), 1)
    made = []
    for number in range(count):
        first = edge + number * length
        if first + length > chunks:
            break
        age = SECOND * (7 if number == 3 else 1.4 if number == 6 else 0.012 * (number + 1))
        made.append(OperationView(first * granularity, length * granularity, now_ns - int(age)))
    return tuple(made)


def take_in_flight(words, operations, granularity=GRANULARITY):
    """Clear the dirty bits of operations, as the job does before it reads."""
    for each in operations:
        for chunk in range(each.offset // granularity, (each.offset + each.length) // granularity):
            words.dirty[chunk // 64] &= ~(np.uint64(1) << np.uint64(chunk % 64))


def snapshot_of(chunks, operations=(), granularity=GRANULARITY, **fields):
    """Make the snapshot of a running job."""
    known = {
        "job_id": "mirror0",
        "status": JobStatus.RUNNING,
        "phase": Phase.COPYING,
        "sync": SyncMode.FULL,
        "copy_mode": CopyMode.BACKGROUND,
        "size": chunks * granularity,
        "granularity": granularity,
        "chunks": chunks,
        "buf_size": 16 * MiB,
        "speed": 0,
        "operations": operations,
        "time_ns": 100 * SECOND,
        "started_ns": SECOND,
        "generation": next(_generations),
    }
    return JobSnapshot(**(known | fields))
