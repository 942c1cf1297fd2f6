"""Rates and remaining time in words. Free of Qt."""

import time

from mirrorgui.mirror.rates import EtaState, Rates
from mirrorgui.ui.i18n import tr
from mirrorgui.units import format_rate

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

WORTH_SAYING = 0.10
"""A remaining time that changed by less is not worth a new text,"""
REFRESH_S = 5.0
"""unless the old one has been standing for this long."""

LONGEST_S = 999 * DAY
"""Beyond this a number would only pretend to know something."""


def duration_text(seconds: float) -> str:
    """Write a duration with two units at most: ``less than a minute``, ``3 min``, ``1 h 20 min``.

    Minutes are given in steps of five above an hour: nobody knows it better than that.
    """
    if seconds < MINUTE:
        return tr("less than a minute")
    if seconds > LONGEST_S:
        return tr("more than {n} days", n=LONGEST_S // DAY)
    if seconds < HOUR:
        minutes = round(seconds / MINUTE)
        return tr("{n} min", n=minutes) if minutes < 60 else tr("{n} h", n=1)
    if seconds < DAY:
        hours, minutes = divmod(5 * round(seconds / MINUTE / 5), 60)
        return tr("{h} h {m} min", h=hours, m=minutes) if minutes else tr("{n} h", n=hours)
    days, hours = divmod(round(seconds / HOUR), 24)
    return tr("{d} d {h} h", d=days, h=hours) if hours else tr("{n} d", n=days)


def clock_text(wall_s: float, now_s: float) -> str:
    """Write the local time of day, with the date when it is not today: ``19:52``, ``Tue 07:10``."""
    then, now = time.localtime(wall_s), time.localtime(now_s)
    if (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday):
        return time.strftime("%H:%M", then)
    if wall_s - now_s < 6 * DAY:
        return time.strftime("%a %H:%M", then)
    return time.strftime("%Y-%m-%d", then)


def remaining_text(seconds: float, now_s: float) -> str:
    """Write what is left and when that is: ``about 3 min left, at 19:52``."""
    clock = clock_text(now_s + seconds, now_s)
    if seconds < MINUTE:
        return tr("less than a minute left, at {clock}", clock=clock)
    return tr("about {time} left, at {clock}", time=duration_text(seconds), clock=clock)


def rate_line(rates: Rates) -> str:
    """Write ``51.8 MiB/s (avg 47.2 MiB/s, peak 96.0 MiB/s)``; the limit too if it is the brake."""
    if rates.state is EtaState.NOT_STARTED:
        return "-"
    text = tr(
        "{now} (avg {average}, peak {peak})",
        now="-" if rates.state is EtaState.PAUSED else format_rate(rates.current),
        average=format_rate(rates.average),
        peak=format_rate(rates.peak),
    )
    return f"{text}, {limit_text(rates)}" if rates.limited else text


def limit_text(rates: Rates) -> str:
    """Say that the speed limit is set, and that it is what holds the job back when it is."""
    if not rates.limit:
        return ""
    limit = format_rate(rates.limit)
    if rates.limited:
        return tr("limited to {limit} by your setting", limit=limit)
    return tr("limit {limit}", limit=limit)


class EtaText:
    """The remaining time as shown, repainted only when it is worth it.

    A new text replaces the old one when the state is another, when the time changed by more than
    10 %, or after 5 s.
    """

    def __init__(self) -> None:
        self._state: EtaState | None = None
        self._seconds = 0.0
        self._since_s = 0.0
        self._text = ""

    def update(self, rates: Rates, now_s: float) -> str:
        """Return the text to show at ``now_s`` (wall clock, seconds since 1970)."""
        seconds = rates.eta_s if rates.eta_s is not None else 0.0
        if rates.state is self._state and not self._is_worth_it(seconds, now_s):
            return self._text
        self._state, self._seconds, self._since_s = rates.state, seconds, now_s
        self._text = eta_text(rates, now_s)
        return self._text

    def _is_worth_it(self, seconds: float, now_s: float) -> bool:
        waited = now_s - self._since_s
        expected = max(self._seconds - waited, 0.0)
        return waited >= REFRESH_S or abs(seconds - expected) > WORTH_SAYING * max(expected, 1.0)


def eta_text(rates: Rates, now_s: float) -> str:
    """Say what is known about the end at ``now_s`` (wall clock, seconds since 1970)."""
    if rates.state is EtaState.ETA and rates.eta_s is not None:
        return remaining_text(rates.eta_s, now_s)
    if rates.state is EtaState.WILL_NOT_FINISH:
        # The message below has the numbers; a second pair, of another moment, would contradict it.
        return tr("will not finish at these rates")
    words = {
        EtaState.NOT_STARTED: tr("not started yet"),
        EtaState.ESTIMATING: tr("estimating..."),
        EtaState.PAUSED: "-",
        EtaState.IN_SYNC: "",
        EtaState.OVER: "",
    }
    return words.get(rates.state, "")
