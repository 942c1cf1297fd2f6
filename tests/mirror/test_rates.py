from dataclasses import replace

import pytest

from mirrorgui.mirror.options import CopyMode, SyncMode
from mirrorgui.mirror.rates import EtaState, RateTracker
from mirrorgui.mirror.snapshot import GuestStatistics, JobSnapshot, Phase
from mirrorgui.mirror.states import JobStatus
from mirrorgui.units import GiB, KiB, MiB

SECOND = 1_000_000_000


class Story:
    """A job told second by second."""

    def __init__(self, size=100 * GiB, **fields):
        self.tracker = RateTracker()
        self.now = 1000 * SECOND
        self.snapshot = JobSnapshot(
            job_id="mirror0", status=JobStatus.RUNNING, phase=Phase.COPYING, sync=SyncMode.FULL,
            copy_mode=CopyMode.BACKGROUND, size=size, granularity=64 * KiB,
            chunks=size // (64 * KiB), buf_size=16 * MiB, speed=0, length=size,
            time_ns=self.now, started_ns=self.now,
        )  # fmt: skip
        self.snapshot = replace(self.snapshot, **fields)
        self.rates = self.tracker.add(self.snapshot)

    def run(self, seconds, copy=0, dirty=0, guest=0, per_second=10, **fields):
        """Go on for a while at rates in bytes per second."""
        step = SECOND // per_second
        for _ in range(round(seconds * per_second)):
            old = self.snapshot
            done = old.offset + copy // per_second
            dirtied = old.dirtied_bytes + dirty // per_second
            written = old.guest.bytes_written + guest // per_second
            paused = fields.get("paused", old.paused)
            self.snapshot = replace(
                old,
                time_ns=old.time_ns + step,
                offset=done,
                dirtied_bytes=dirtied,
                length=old.length + dirty // per_second,
                guest=GuestStatistics(bytes_written=written),
                paused_ns=old.paused_ns + (step if paused else 0),
                **fields,
            )
            self.rates = self.tracker.add(self.snapshot)
        return self.rates


def test_nothing_is_known_before_copying_starts():
    story = Story(started_ns=0, phase=Phase.SCANNING)
    assert story.run(10).state is EtaState.NOT_STARTED
    assert (story.rates.current, story.rates.average, story.rates.active_ns) == (0, 0, 0)


def test_clock_starts_when_copying_starts():
    story = Story(started_ns=0, phase=Phase.SCANNING)
    story.run(50)
    story.snapshot = replace(story.snapshot, started_ns=story.snapshot.time_ns, phase=Phase.COPYING)
    rates = story.run(10, copy=10 * MiB)
    assert rates.active_ns == pytest.approx(10 * SECOND, abs=0.2 * SECOND)
    assert rates.average == pytest.approx(10 * MiB, rel=0.03)


def test_steady_copy_has_one_rate_and_an_exact_end():
    rates = Story(size=10 * GiB).run(40, copy=50 * MiB)
    assert rates.current == pytest.approx(50 * MiB, rel=0.01)
    assert rates.average == pytest.approx(50 * MiB, rel=0.01)
    assert rates.peak == pytest.approx(50 * MiB, rel=0.01)
    assert rates.state is EtaState.ETA
    assert rates.eta_s == pytest.approx((10 * GiB - 40 * 50 * MiB) / (50 * MiB), rel=0.02)


def test_current_rate_follows_within_its_window_and_peak_stays():
    story = Story()
    story.run(30, copy=100 * MiB)
    rates = story.run(6, copy=20 * MiB)
    assert rates.current == pytest.approx(20 * MiB, rel=0.02)
    assert rates.peak == pytest.approx(100 * MiB, rel=0.02)


def test_end_takes_what_guests_write_into_account():
    story = Story(size=10 * GiB)
    rates = story.run(40, copy=60 * MiB, dirty=20 * MiB, guest=25 * MiB)
    assert rates.guest_written == pytest.approx(25 * MiB, rel=0.02)
    assert rates.dirtied == pytest.approx(20 * MiB, rel=0.02)
    assert rates.eta_s == pytest.approx(story.snapshot.remaining / (40 * MiB), rel=0.02)


def test_clock_stands_still_while_paused():
    story = Story()
    before = story.run(20, copy=50 * MiB)
    paused = story.run(60, paused=True, status=JobStatus.PAUSED)
    assert paused.state is EtaState.PAUSED
    assert paused.current == 0
    assert paused.average == pytest.approx(before.average)
    assert paused.active_ns == before.active_ns
    after = story.run(1, copy=50 * MiB, paused=False, status=JobStatus.RUNNING)
    assert after.current == pytest.approx(50 * MiB, rel=0.05)
    assert after.state is EtaState.ETA


def test_pause_that_is_counted_only_at_its_end_changes_nothing():
    story = Story()
    before = story.run(20, copy=50 * MiB)
    began = story.snapshot.paused_ns
    for _ in range(300):
        story.snapshot = replace(
            story.snapshot, paused=True, status=JobStatus.PAUSED,
            time_ns=story.snapshot.time_ns + SECOND // 10, paused_ns=began,
        )  # fmt: skip
        assert story.tracker.add(story.snapshot).average == pytest.approx(before.average)
    story.snapshot = replace(story.snapshot, paused_ns=began + 30 * SECOND)
    after = story.run(1, copy=50 * MiB, paused=False, status=JobStatus.RUNNING)
    assert after.average == pytest.approx(50 * MiB, rel=0.02)


def test_guests_are_measured_also_while_the_job_is_paused():
    story = Story()
    story.run(10, copy=50 * MiB)
    rates = story.run(10, guest=8 * MiB, paused=True, status=JobStatus.PAUSED)
    assert rates.guest_written == pytest.approx(8 * MiB, rel=0.02)


def test_first_seconds_are_for_estimating():
    story = Story(size=GiB)
    assert story.run(4, copy=50 * MiB).state is EtaState.ESTIMATING
    assert story.run(2, copy=50 * MiB).state is EtaState.ETA


def test_first_percent_is_for_estimating_but_not_forever():
    story = Story(size=10_000 * GiB)
    assert story.run(20, copy=50 * MiB).state is EtaState.ESTIMATING
    assert story.run(15, copy=50 * MiB).state is EtaState.ETA


def test_guests_that_are_faster_are_told_within_40_seconds():
    story = Story(size=10 * GiB)
    story.run(20, copy=60 * MiB, dirty=10 * MiB)
    rates = story.run(39, copy=60 * MiB, dirty=80 * MiB)
    assert rates.state is EtaState.WILL_NOT_FINISH
    assert not rates.converging
    assert rates.trend_dirtied > rates.trend_copied


def test_short_burst_of_guests_does_not_turn_the_forecast_around():
    story = Story(size=10 * GiB)
    story.run(30, copy=60 * MiB)
    assert story.run(5, copy=60 * MiB, dirty=200 * MiB).state is EtaState.ETA


def test_faster_copy_takes_the_verdict_back():
    story = Story(size=10 * GiB)
    story.run(40, copy=60 * MiB, dirty=80 * MiB)
    assert story.run(35, copy=120 * MiB, dirty=80 * MiB).state is EtaState.ETA


def test_balance_on_a_knife_edge_does_not_flicker():
    story = Story(size=10 * GiB)
    story.run(40, copy=60 * MiB, dirty=60 * MiB)
    seen = set()
    for turn in range(40):
        rates = story.run(1, copy=60 * MiB, dirty=60 * MiB + (MiB if turn % 2 else -MiB))
        seen.add(rates.state)
    assert seen == {EtaState.WILL_NOT_FINISH}


def test_job_that_stands_still_because_of_errors_blames_no_guest():
    story = Story()
    story.run(20, copy=60 * MiB)
    assert story.run(60).state is EtaState.ESTIMATING


def test_in_sync_needs_no_forecast():
    story = Story(size=GiB)
    story.run(20, copy=51 * MiB)
    rates = story.run(2, status=JobStatus.READY, phase=Phase.IN_SYNC, ready=True)
    assert rates.state is EtaState.IN_SYNC
    assert rates.ready


def test_in_sync_but_outrun_says_so():
    story = Story(size=GiB)
    story.run(20, copy=51 * MiB)
    ready = {"status": JobStatus.READY, "phase": Phase.IN_SYNC, "ready": True}
    assert story.run(40, copy=10 * MiB, dirty=40 * MiB, **ready).state is EtaState.WILL_NOT_FINISH


def test_job_that_is_over_has_no_rate():
    story = Story(size=GiB)
    story.run(20, copy=51 * MiB)
    rates = story.run(0.1, status=JobStatus.CONCLUDED, phase=Phase.OVER)
    assert rates.state is EtaState.OVER
    assert rates.current == 0


def test_limit_is_the_brake_only_when_the_job_says_so():
    story = Story(speed=50 * MiB)
    assert not story.run(10, copy=20 * MiB).limited
    assert story.run(1, copy=50 * MiB, throttled=True).limited
    assert not story.run(1, copy=50 * MiB, throttled=True, speed=0).limited


@pytest.mark.parametrize("per_second", [2, 10, 200])
def test_pace_of_snapshots_does_not_matter(per_second):
    rates = Story(size=10 * GiB).run(35, copy=50 * MiB, dirty=10 * MiB, per_second=per_second)
    assert rates.current == pytest.approx(50 * MiB, rel=0.05)
    assert rates.eta_s == pytest.approx(rates.remaining / (40 * MiB), rel=0.05)


def test_memory_is_bounded_whatever_the_pace():
    story = Story()
    story.run(120, copy=MiB, per_second=200)
    assert len(story.tracker._trend._samples) < 700
