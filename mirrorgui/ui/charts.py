"""Three charts over one time base: rate, what is left to copy, latency."""

import enum
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from mirrorgui.mirror.rates import EtaState, Rates
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.plots.axes import BytesAxis, LatencyAxis, duration
from mirrorgui.ui.plots.chart import Chart, Value
from mirrorgui.ui.plots.history import History
from mirrorgui.ui.plots.plot import Curve, TimePlot
from mirrorgui.ui.plots.scale import SteadyCeiling
from mirrorgui.ui.theme import colors, theme_of
from mirrorgui.units import MiB, format_rate, format_size

LOWEST_LATENCY, HIGHEST_LATENCY = -4.0, 1.0
"""0.1 ms to 10 s, as powers of ten of seconds."""

REDRAW_S = 1.0
"""As often as there is a new sample."""
HEAD_S = 0.25

MAX_CLOCK_ERROR_S = 5.0

DISTANT_LIMIT = 2.0
"""A limit farther above the curves than this would press them flat: its line may be out of view."""


class Span(enum.Enum):
    """How far back the charts look; values are seconds, None is everything."""

    MINUTE = 60
    TEN_MINUTES = 600
    HOUR = 3600
    ALL = None


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: NDArray[np.float64] = np.log10(values)
    return np.clip(logs, LOWEST_LATENCY, HIGHEST_LATENCY)


class ChartsPanel(QWidget):
    """Rate, left to copy and latency over the last minute, ten minutes, hour, or all of it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.history = History()
        self._snapshot: JobSnapshot | None = None
        self._rates = Rates()
        self._span = Span.TEN_MINUTES
        self._drawn_s = self._head_s = 0.0
        self._hovered_s: float | None = None
        self._clock_shift: float | None = None
        self._rows: NDArray[Any] | None = None
        self._make_charts()
        self._reset_scales()
        self._lay_out()
        theme = theme_of()
        theme.changed.connect(self._theme_changed)
        self._theme_changed(theme.dark)

    def _make_charts(self) -> None:
        self._rate_axis, self._left_axis = BytesAxis(rate=True), BytesAxis(rate=False)
        rate = TimePlot(
            self._rate_axis,
            [
                Curve("copy", tr("copy"), "copy", filled=True),
                Curve("guest", tr("clients write"), "guest"),
                Curve("limit", tr("limit"), "limit", dashed=True),
            ],
            times=False,
        )
        left = TimePlot(
            self._left_axis, [Curve("left", tr("left"), "copy", filled=True)], times=False
        )
        latency = TimePlot(
            LatencyAxis(),
            [
                Curve("guest_p50", tr("clients, half below"), "guest"),
                Curve("guest_p99", tr("clients, 99 % below"), "third"),
                Curve("copy_p99", tr("copy, 99 % below"), "copy"),
            ],
            _log,
        )
        self.rate = Chart(tr("Rate"), rate, self)
        self.left = Chart(tr("Left to copy"), left, self)
        self.latency = Chart(tr("Latency"), latency, self)
        self.charts = (self.rate, self.left, self.latency)
        for chart in self.charts:
            chart.plot.hovered.connect(self._hover)

    def _lay_out(self) -> None:
        spans = QHBoxLayout()
        spans.setSpacing(4)
        spans.addStretch(1)
        self._spans = QButtonGroup(self)
        for span, text in (
            (Span.MINUTE, tr("1 min")),
            (Span.TEN_MINUTES, tr("10 min")),
            (Span.HOUR, tr("1 h")),
            (Span.ALL, tr("All")),
        ):
            button = QToolButton(self)
            button.setText(text)
            button.setAccessibleName(tr("Show {span}", span=text))
            button.setCheckable(True)
            button.setAutoRaise(True)
            button.setChecked(span is self._span)
            self._spans.addButton(button, list(Span).index(span))
            spans.addWidget(button)
        self._spans.idClicked.connect(self._choose_span)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 8, 12, 8)
        column.setSpacing(6)
        column.addLayout(spans)
        for chart, stretch in zip(self.charts, (4, 4, 5), strict=True):
            column.addWidget(chart, stretch)

    # ---- samples ------------------------------------------------------------------------------

    def add_sample(self, snapshot: JobSnapshot, rates: Rates) -> None:
        """Take a sample in; call it for every frame, also while hidden (it is cheap then)."""
        self._snapshot, self._rates = snapshot, rates
        self.history.add(snapshot, self._wall_s(snapshot))
        if self.isVisible():
            self._draw_when_due()

    def _wall_s(self, snapshot: JobSnapshot) -> float:
        """Return the wall's time of a snapshot, by its own clock: frames may come late.

        That clock stands still while the computer sleeps, and the wall's may be set.
        """
        now, taken = time.time(), snapshot.time_ns / 1e9
        if self._clock_shift is None or now - (taken + self._clock_shift) > MAX_CLOCK_ERROR_S:
            self._clock_shift = now - taken
        return taken + self._clock_shift

    def clear(self) -> None:
        """Forget everything, for another job."""
        self.history = History()
        self._clock_shift = None
        self._snapshot, self._rates = None, Rates()
        self._reset_scales()
        self.redraw()

    def _reset_scales(self) -> None:
        self._rate_top = SteadyCeiling(MiB, binary=True)
        self._left_top = SteadyCeiling(MiB, binary=True)

    def set_span(self, span: Span) -> None:
        """Look back so far."""
        self._span = span
        self._spans.button(list(Span).index(span)).setChecked(True)
        self._reset_scales()
        self.redraw()

    @property
    def span(self) -> Span:
        """How far back the charts look."""
        return self._span

    def _choose_span(self, number: int) -> None:
        self.set_span(list(Span)[number])

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.redraw()

    # ---- drawing ------------------------------------------------------------------------------

    def _draw_when_due(self) -> None:
        now = time.monotonic()
        if now - self._drawn_s >= REDRAW_S:
            self.redraw()
        elif now - self._head_s >= HEAD_S:
            self._write_heads()

    def redraw(self) -> None:
        """Draw the latest samples now."""
        self._drawn_s = time.monotonic()
        history, table = self.history, colors(theme_of().dark)
        self._rows = rows = history.samples(self._span.value)
        span = self._span.value or max(history.now_s - history.began_s, 60.0)
        end = history.now_s
        for chart in self.charts:
            chart.show_samples(rows)
        self._scale_axes(rows, end - span, end)
        ready = [mark for mark in history.marks if mark.time_s == history.ready_s]
        for chart, marks in zip(self.charts, (history.marks, ready, ()), strict=True):
            chart.plot.show_events(history.pauses, marks, end, table)
        self._write_heads()

    def _scale_axes(self, rows: NDArray[Any], begin: float, end: float) -> None:
        fastest = max(_largest(rows["copy"]), _largest(rows["guest"]))
        limit = _largest(rows["limit"])
        if limit <= DISTANT_LIMIT * fastest:
            fastest = max(fastest, limit)
        rate = self._rate_top.follow(fastest, end)
        left = self._left_top.follow(_largest(rows["left"]), end)
        self._rate_axis.set_ceiling(rate)
        self._left_axis.set_ceiling(left)
        self.rate.plot.show_span(begin, end, 0, rate)
        self.left.plot.show_span(begin, end, 0, left)
        self.latency.plot.show_span(begin, end, LOWEST_LATENCY, HIGHEST_LATENCY)

    # ---- numbers ------------------------------------------------------------------------------

    def _write_heads(self) -> None:
        self._head_s = time.monotonic()
        table = colors(theme_of().dark)
        row = self._hovered_row()
        heads = self._heads_now() if row is None else self._heads_at(row)
        for chart, values in zip(self.charts, heads, strict=True):
            chart.show_values(values, table)

    def _heads_now(self) -> tuple[list[Value], list[Value], list[Value]]:
        rates, snapshot = self._rates, self._snapshot
        if snapshot is None:
            return [], [], []
        paused = rates.state is EtaState.PAUSED
        speed: list[Value] = [
            ("copy", tr("copy"), "-" if paused else format_rate(rates.current)),
            ("", tr("average"), format_rate(rates.average)),
            ("", tr("peak"), format_rate(rates.peak)),
            ("guest", tr("clients write"), format_rate(rates.guest_written)),
        ]
        if rates.limit:
            speed.append(("limit", tr("limit"), format_rate(rates.limit)))
        left: list[Value] = [("copy", "", format_size(rates.remaining))]
        rows = self._rows
        latency = self._latencies(rows[-1]) if rows is not None and len(rows) else []
        return speed, left, latency

    def _heads_at(self, row: NDArray[Any]) -> tuple[list[Value], list[Value], list[Value]]:
        moment = time.strftime("%H:%M:%S", time.localtime(float(row["time_s"])))
        speed: list[Value] = [
            ("", "", moment),
            ("copy", tr("copy"), _known(row["copy"], format_rate)),
            ("guest", tr("clients write"), _known(row["guest"], format_rate)),
        ]
        if np.isfinite(row["limit"]):
            speed.append(("limit", tr("limit"), format_rate(float(row["limit"]))))
        left: list[Value] = [("", "", moment), ("copy", "", _known(row["left"], format_size))]
        return speed, left, [("", "", moment), *self._latencies(row)]

    def _latencies(self, row: NDArray[Any]) -> list[Value]:
        return [
            (curve.color, curve.title, _known(row[curve.field], duration))
            for curve in self.latency.plot.curves
        ]

    # ---- crosshair ----------------------------------------------------------------------------

    def _hover(self, wall_s: float | None) -> None:
        self._hovered_s = wall_s
        row = self._hovered_row()
        for chart in self.charts:
            chart.plot.show_cross(None if row is None else float(row["time_s"]))
        self._write_heads()

    def _hovered_row(self) -> NDArray[Any] | None:
        rows = self._rows
        if self._hovered_s is None or rows is None or not len(rows):
            return None
        nearest: NDArray[Any] = rows[int(np.argmin(np.abs(rows["time_s"] - self._hovered_s)))]
        return nearest

    def _theme_changed(self, dark: bool) -> None:
        for chart in self.charts:
            chart.plot.apply_colors(colors(dark))
        self.redraw()


def _largest(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else 0.0


def _known(value: NDArray[Any], write: Callable[[float], str]) -> str:
    return write(float(value)) if np.isfinite(value) else "-"
