"""Looks from outside: fractions, histograms."""

import math

import pytest

from mirrorgui.mirror.options import CopyMode, SyncMode
from mirrorgui.mirror.snapshot import (
    LATENCY_BUCKETS,
    JobSnapshot,
    OperationView,
    Phase,
    latency_bucket,
    latency_percentile,
)
from mirrorgui.mirror.states import JobStatus


def snapshot(**fields: object) -> JobSnapshot:
    return JobSnapshot(
        job_id="j",
        status=JobStatus.RUNNING,
        phase=Phase.COPYING,
        sync=SyncMode.FULL,
        copy_mode=CopyMode.BACKGROUND,
        size=100,
        granularity=512,
        chunks=1,
        buf_size=512,
        speed=0,
        **fields,  # type: ignore[arg-type]
    )


def test_progress_is_what_is_done_of_what_there_is() -> None:
    assert snapshot(offset=25, length=100).remaining == 75
    assert snapshot(offset=25, length=100).fraction == 0.25
    assert snapshot().fraction == 0.0
    assert snapshot(ready=True).fraction == 1.0


@pytest.mark.parametrize("duration_ns", [1000, 1500, 2000, 10**6, 16_666_666, 10**9, 60 * 10**9])
def test_a_bucket_holds_the_durations_between_two_powers_of_the_root_of_2(duration_ns: int) -> None:
    bucket = latency_bucket(duration_ns)
    microseconds = duration_ns // 1000
    assert 2 ** (bucket / 2) <= microseconds < 2 ** ((bucket + 1) / 2)


def test_the_first_bucket_takes_all_below_and_the_last_all_above() -> None:
    assert latency_bucket(0) == latency_bucket(999) == latency_bucket(1000) == 0
    assert latency_bucket(10**18) == LATENCY_BUCKETS - 1
    buckets = [latency_bucket(1000 * 2**number) for number in range(30)]
    assert buckets == sorted(buckets) and len(set(buckets)) == 30


def test_percentiles_are_upper_edges() -> None:
    counts = [0] * LATENCY_BUCKETS
    assert latency_percentile(tuple(counts), 0.5) == 0.0
    counts[10], counts[20] = 99, 1
    assert latency_percentile(tuple(counts), 0.5) == pytest.approx(2**5.5 / 1e6)
    assert latency_percentile(tuple(counts), 0.99) == pytest.approx(2**5.5 / 1e6)
    assert latency_percentile(tuple(counts), 1.0) == pytest.approx(2**10.5 / 1e6)
    assert math.isfinite(latency_percentile((0,) * 63 + (5,), 0.5))


def test_an_operation_has_its_own_range_unless_it_has_several() -> None:
    assert OperationView(5, 10, 0).ranges == ((5, 10),)
    assert OperationView(5, 20, 0, ranges=((5, 10), (50, 10))).ranges == ((5, 10), (50, 10))
