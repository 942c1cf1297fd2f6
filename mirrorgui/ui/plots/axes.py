"""Axes of the charts: bytes in round steps, latencies on a log scale, local times."""

import pyqtgraph as pg

from mirrorgui.ui.i18n import tr
from mirrorgui.ui.plots.scale import ticks_below, time_marks, time_step, time_text
from mirrorgui.units import format_rate, format_size

Levels = list[tuple[float, list[float]]]

WIDTH = 74
"""All charts have the same, so that their times stand above each other."""
TIME_LABEL = 78


class BytesAxis(pg.AxisItem):
    """Sizes or rates from 0 to a nice ceiling."""

    def __init__(self, *, rate: bool) -> None:
        super().__init__("left")
        self._rate = rate
        self._ceiling = 1.0
        self.setWidth(WIDTH)

    def set_ceiling(self, ceiling: float) -> None:
        """Label up to another ceiling."""
        self._ceiling = ceiling
        self.picture = None
        self.update()

    def tickValues(self, minVal: float, maxVal: float, size: float) -> Levels:  # noqa: N803, ARG002
        marks = ticks_below(self._ceiling)
        if size < 90:
            marks = [marks[0], marks[-1]]
        return [(self._ceiling, marks)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: ARG002
        write = format_rate if self._rate else format_size
        return [_plain(write(value)) for value in values]


class LatencyAxis(pg.AxisItem):
    """Powers of ten of seconds; the chart's y is their logarithm."""

    def __init__(self) -> None:
        super().__init__("left")
        self.setWidth(WIDTH)

    def tickValues(self, minVal: float, maxVal: float, size: float) -> Levels:  # noqa: N803, ARG002
        return [(1.0, [float(power) for power in range(round(minVal), round(maxVal) + 1)])]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: ARG002
        return [duration(10.0**value) for value in values]


class ClockAxis(pg.AxisItem):
    """Local times at round moments."""

    def __init__(self) -> None:
        super().__init__("bottom")
        self._step = 60

    def tickValues(self, minVal: float, maxVal: float, size: float) -> Levels:  # noqa: N803
        self._step = time_step(maxVal - minVal, max(int(size / TIME_LABEL), 1))
        return [(float(self._step), time_marks(minVal, maxVal, self._step))]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: ARG002
        return [time_text(value, self._step) for value in values]


def _plain(text: str) -> str:
    """Drop a decimal that says nothing: ``20 MiB/s``."""
    return text.replace(".0 ", " ")


def duration(seconds: float) -> str:
    """Write a latency: ``0.1 ms``, ``12 ms``, ``1.5 s``."""
    if seconds < 0.001:
        return tr("{n} ms", n=f"{seconds * 1000:.2g}")
    if seconds < 1:
        return tr("{n} ms", n=f"{seconds * 1000:.3g}")
    return tr("{n} s", n=f"{seconds:.3g}")
