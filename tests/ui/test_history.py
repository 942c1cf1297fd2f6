import numpy as np
import pytest

from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.snapshot import LATENCY_BUCKETS, GuestStatistics, latency_bucket
from mirrorgui.ui.plots.history import (
    FIELDS,
    MAX_POINTS,
    History,
    Ring,
    as_csv,
    thin,
)
from mirrorgui.units import MiB
from tests.ui.map_states import SECOND, snapshot_of

WALL = 1_750_000_000.0


class Job:
    """Feeds a history with snapshots of a job."""

    def __init__(self, per_second=4):
        self.history = History()
        self.per_second = per_second
        self.ticks = 0
        self.offset = 0
        self.written = 0
        self.latency = [0] * LATENCY_BUCKETS

    def run(self, seconds, copy=10 * MiB, guest=2 * MiB, latency_ns=None, **fields):
        for _ in range(round(seconds * self.per_second)):
            self.offset += int(copy / self.per_second)
            self.written += int(guest / self.per_second)
            if latency_ns:
                self.latency[latency_bucket(latency_ns)] += 1
            now = self.ticks * SECOND // self.per_second
            statistics = GuestStatistics(bytes_written=self.written, latency=tuple(self.latency))
            snapshot = snapshot_of(
                1 << 20, offset=self.offset, length=1 << 36, time_ns=100 * SECOND + now,
                guest=statistics, **fields,
            )  # fmt: skip
            self.history.add(snapshot, WALL + now / SECOND)
            self.ticks += 1
        return self.history


def test_samples_are_exact_rates_whatever_the_pace():
    for pace in (1, 4, 10):
        rows = Job(pace).run(30).samples(60)
        assert 27 <= len(rows) <= 30
        assert rows["copy"] == pytest.approx(10 * MiB, rel=1e-6)
        assert rows["guest"] == pytest.approx(2 * MiB, rel=1e-6)
        assert np.isnan(rows["limit"]).all()


def test_left_falls_by_what_was_copied():
    rows = Job().run(30).samples(60)
    assert np.diff(rows["left"]) == pytest.approx(-10 * MiB, rel=1e-6)


def test_paused_time_is_a_gap_and_a_band():
    job = Job()
    job.run(10)
    job.run(10, copy=0, paused=True)
    history = job.run(10)
    rows = history.samples(60)
    assert np.isnan(rows["copy"]).sum() >= 9
    (pause,) = history.pauses
    assert pause.end_s - pause.begin_s == pytest.approx(10, abs=0.3)
    assert history.marks[0].text == "paused"


def test_pause_under_way_has_no_end():
    job = Job()
    job.run(5)
    assert job.run(5, paused=True).pauses[-1].end_s is None


def test_events_become_marks():
    job = Job()
    job.run(5)
    job.run(5, speed=50 * MiB)
    job.run(20, speed=0, error_count=1)
    job.run(5, copy_mode=CopyMode.WRITE_BLOCKING, error_count=1)
    history = job.run(5, ready=True, copy_mode=CopyMode.WRITE_BLOCKING, error_count=1)
    assert [mark.text for mark in history.marks] == [
        "limit 50.0 MiB/s", "limit none", "error", "write-blocking", "READY",
    ]  # fmt: skip
    assert history.ready_s == pytest.approx(WALL + 35, abs=0.3)


def test_many_errors_in_a_row_are_one_mark():
    job = Job()
    job.run(1)
    for count in range(1, 20):
        job.run(0.25, error_count=count)
    assert [mark.text for mark in job.history.marks] == ["error"]


def test_latencies_are_of_each_sample_and_absent_without_requests():
    job = Job()
    job.run(10, latency_ns=300_000)
    rows = job.run(10).samples(60)
    known = rows["guest_p50"][np.isfinite(rows["guest_p50"])]
    assert len(known) in range(8, 11)
    assert known == pytest.approx(0.0003, rel=0.45)  # buckets are that wide
    assert np.isnan(rows["copy_p99"]).all()


def test_snapshots_that_stay_away_leave_a_gap():
    job = Job(per_second=1)
    job.run(20)
    job.ticks += 30
    rows = job.run(20).samples(100)
    assert np.isnan(rows["copy"]).sum() == 1
    assert np.nanmax(rows["copy"]) == pytest.approx(10 * MiB, rel=1e-6)


@pytest.mark.parametrize("span", [60, 600, 3600, None])
def test_no_curve_has_more_points_than_are_seen(span):
    rows = Job(per_second=1).run(2 * 3600).samples(span)
    assert 50 <= len(rows) <= MAX_POINTS
    assert np.all(np.diff(rows["time_s"]) > 0)
    covered = rows["time_s"][-1] - rows["time_s"][0]
    assert covered == pytest.approx(span or 2 * 3600, rel=0.03)
    assert rows["copy"] == pytest.approx(10 * MiB, rel=1e-6)


def test_short_job_is_shown_whole():
    rows = Job().run(20).samples(None)
    assert 17 <= len(rows) <= 20


def test_empty_history_has_no_samples():
    assert len(History().samples(None)) == 0
    assert len(History().samples(60)) == 0


def test_ring_forgets_the_oldest_and_grows_as_needed():
    ring = Ring(100)
    for number in range(250):
        ring.append((float(number), *([0.0] * (len(FIELDS) - 1))))
    assert ring.rows()["time_s"].tolist() == list(range(150, 250))
    assert ring.rows(240)["time_s"].tolist() == list(range(240, 250))
    assert len(ring) == 100


def test_thinning_averages_rates_and_keeps_peaks_of_latency():
    rows = np.zeros(1200, Ring.dtype)
    rows["time_s"] = np.arange(1200)
    rows["copy"] = np.tile([0.0, 10.0], 600)
    rows["copy"][10:12] = np.nan
    rows["copy"][20] = np.nan
    rows["guest_p99"] = np.tile([1.0, 3.0], 600)
    made = thin(rows)
    assert len(made) == 600
    assert made["copy"][0] == 5.0
    assert np.isnan(made["copy"][5])
    assert made["copy"][10] == 10.0
    assert set(made["guest_p99"]) == {3.0}
    assert made["time_s"][-1] == 1199


def test_csv_has_iso_times_and_nothing_where_nothing_is_known():
    rows = Job(per_second=1).run(4).samples(60)
    lines = as_csv(rows, ["copy", "limit"]).splitlines()
    assert lines[0] == "time,copy,limit"
    assert lines[1] == "2025-06-15T15:06:41.000Z,10485760,"
