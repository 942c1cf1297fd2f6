import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorgui.ui.plots.axes import duration
from mirrorgui.ui.plots.scale import (
    SHRINK_AFTER_S,
    SteadyCeiling,
    nice_ceiling,
    ticks_below,
    time_marks,
    time_step,
    time_text,
)
from mirrorgui.units import GiB, KiB, MiB


@pytest.mark.parametrize(
    ("value", "ceiling"),
    [(0, 1), (1, 1), (3 * MiB, 5 * MiB), (51 * MiB, 100 * MiB), (100 * MiB, 100 * MiB),
     (900 * KiB, 1000 * KiB), (1001 * KiB, MiB), (501 * MiB, 1000 * MiB), (1001 * MiB, GiB),
     (64 * GiB, 100 * GiB)],
)  # fmt: skip
def test_ceilings_are_round_sizes(value, ceiling):
    assert nice_ceiling(value, binary=True) == ceiling


@pytest.mark.parametrize(("value", "ceiling"), [(0.3, 0.5), (7, 10), (20, 20), (21, 50)])
def test_ceilings_are_round_numbers(value, ceiling):
    assert nice_ceiling(value, binary=False) == pytest.approx(ceiling)


@given(st.floats(0, 1e18))
def test_ceiling_is_never_below_and_less_than_three_times_above(value):
    ceiling = nice_ceiling(value, binary=True)
    assert ceiling >= value * (1 - 1e-6)
    assert value < 1 or ceiling <= 2.6 * value
    ticks = ticks_below(ceiling)
    assert ticks[0] == 0
    assert ticks[-1] == ceiling


def test_axis_grows_at_once_and_shrinks_late():
    axis = SteadyCeiling(MiB, binary=True)
    assert axis.value == MiB
    assert axis.follow(40 * MiB, 0) == 50 * MiB
    assert axis.follow(3 * MiB, 1) == 50 * MiB
    assert axis.follow(45 * MiB, 20) == 50 * MiB
    assert axis.follow(3 * MiB, 21) == 50 * MiB
    assert axis.follow(3 * MiB, 21 + SHRINK_AFTER_S - 1) == 50 * MiB
    assert axis.follow(3 * MiB, 21 + SHRINK_AFTER_S) == 5 * MiB


@pytest.mark.parametrize(
    ("span", "most", "step"),
    [(60, 10, 10), (600, 10, 60), (3600, 10, 600), (86400, 8, 3 * 3600), (1e9, 3, 7 * 86400)],
)
def test_time_marks_have_round_distances(span, most, step):
    assert time_step(span, most) == step


def test_time_marks_are_at_round_local_times():
    now = time.mktime((2026, 3, 4, 12, 34, 56, 0, 0, -1))
    marks = time_marks(now - 3600, now, 600)
    assert [time_text(mark, 600) for mark in marks] == [
        "11:40", "11:50", "12:00", "12:10", "12:20", "12:30",
    ]  # fmt: skip
    assert time_text(now, 10) == "12:34:56"
    assert time_text(now, 86400) == "04 Mar"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0001, "0.1 ms"), (0.00036, "0.36 ms"), (0.012, "12 ms"), (1, "1 s"), (10, "10 s")],
)
def test_latencies_are_short(seconds, text):
    assert duration(seconds) == text
