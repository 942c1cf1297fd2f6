import time

import pytest

from mirrorgui.mirror.rates import EtaState, Rates
from mirrorgui.ui import rate_texts
from mirrorgui.ui.rate_texts import DAY, HOUR, MINUTE, EtaText, duration_text, eta_text
from mirrorgui.units import MiB

NOW = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a minute"),
        (59.9, "less than a minute"),
        (60, "1 min"),
        (170, "3 min"),
        (3599, "1 h"),
        (HOUR, "1 h"),
        (HOUR + 19 * MINUTE, "1 h 20 min"),
        (HOUR + 58 * MINUTE, "2 h"),
        (23 * HOUR + 59 * MINUTE, "24 h"),
        (DAY + 3 * HOUR, "1 d 3 h"),
        (2 * DAY, "2 d"),
        (1e12, "more than 999 days"),
    ],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration_text(seconds) == text


def test_remaining_time_has_the_clock_time_too():
    rates = Rates(state=EtaState.ETA, eta_s=480)
    assert eta_text(rates, NOW) == "about 8 min left, at 12:08"
    assert eta_text(Rates(state=EtaState.ETA, eta_s=5), NOW) == (
        "less than a minute left, at 12:00"
    )
    later = eta_text(Rates(state=EtaState.ETA, eta_s=20 * HOUR), NOW)
    assert later.startswith("about 20 h left, at ") and later.endswith(" 08:00")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (EtaState.NOT_STARTED, "not started yet"),
        (EtaState.ESTIMATING, "estimating..."),
        (EtaState.PAUSED, "-"),
        (EtaState.IN_SYNC, ""),
        (EtaState.OVER, ""),
    ],
)
def test_other_states_have_their_words(state, text):
    assert eta_text(Rates(state=state), NOW) == text


def test_not_finishing_leaves_the_numbers_to_the_message():
    rates = Rates(state=EtaState.WILL_NOT_FINISH, trend_copied=60 * MiB, trend_dirtied=80 * MiB)
    assert eta_text(rates, NOW) == "will not finish at these rates"
    assert not rates.converging


def test_small_changes_are_not_repainted_for_five_seconds():
    shown = EtaText()
    first = shown.update(Rates(state=EtaState.ETA, eta_s=600), NOW)
    assert shown.update(Rates(state=EtaState.ETA, eta_s=640), NOW + 1) == first
    assert shown.update(Rates(state=EtaState.ETA, eta_s=640), NOW + 5.1) != first


def test_large_changes_are_repainted_at_once():
    shown = EtaText()
    first = shown.update(Rates(state=EtaState.ETA, eta_s=600), NOW)
    assert shown.update(Rates(state=EtaState.ETA, eta_s=900), NOW + 1) != first


def test_other_state_is_repainted_at_once():
    shown = EtaText()
    shown.update(Rates(state=EtaState.ETA, eta_s=600), NOW)
    assert shown.update(Rates(state=EtaState.PAUSED), NOW + 0.1) == "-"


def test_rate_line_names_the_limit_only_when_it_is_the_brake():
    rates = Rates(
        state=EtaState.ETA, current=50 * MiB, average=40 * MiB, peak=90 * MiB, limit=50 * MiB
    )
    assert rate_texts.rate_line(rates) == "50.0 MiB/s (avg 40.0 MiB/s, peak 90.0 MiB/s)"
    assert rate_texts.limit_text(rates) == "limit 50.0 MiB/s"
    braked = Rates(state=EtaState.ETA, limit=50 * MiB, limited=True)
    assert rate_texts.rate_line(braked).endswith("limited to 50.0 MiB/s by your setting")
    assert rate_texts.limit_text(Rates()) == ""
    assert rate_texts.rate_line(Rates()) == "-"
