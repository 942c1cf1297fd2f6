import time

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPointF, Qt
from PySide6.QtGui import QColor, QGuiApplication, QMouseEvent
from PySide6.QtWidgets import QApplication

from mirrorgui.mirror.rates import EtaState, Rates
from mirrorgui.ui.charts import ChartsPanel, Span
from mirrorgui.ui.theme import ThemeChoice, colors, theme_of
from mirrorgui.units import MiB
from tests.ui.map_states import snapshot_of
from tests.ui.test_history import Job
from tests.ui.test_map_view import places_of


def show(qtbot, job=None):
    panel = ChartsPanel()
    qtbot.addWidget(panel)
    panel.resize(900, 560)
    panel.show()
    if job is not None:
        panel.history = job.history
        panel._snapshot = snapshot_of(1 << 20)
    panel.redraw()
    return panel


def hover(plot, position):
    """Move the pointer as Qt tells of it: a real one waits for the window manager."""
    spot = QPointF(position)
    everywhere = QPointF(plot.viewport().mapToGlobal(position))
    none = Qt.MouseButton.NoButton
    event = QMouseEvent(
        QEvent.Type.MouseMove, spot, everywhere, none, none, Qt.KeyboardModifier.NoModifier
    )
    QApplication.sendEvent(plot.viewport(), event)


def story():
    job = Job(per_second=1)
    job.run(120, latency_ns=300_000)
    job.run(30, copy=0, paused=True)
    job.run(200, latency_ns=2_000_000, speed=50 * MiB)
    return job


def test_numbers_come_from_the_one_source_of_rates(qtbot):
    panel = show(qtbot)
    rates = Rates(
        current=51.8 * MiB, average=47.2 * MiB, peak=96 * MiB, guest_written=3.1 * MiB,
        state=EtaState.ETA, remaining=24 * MiB, limit=100 * MiB,
    )  # fmt: skip
    panel.add_sample(snapshot_of(100), rates)
    panel.redraw()
    assert panel.rate.text == (
        "copy 51.8 MiB/s, average 47.2 MiB/s, peak 96.0 MiB/s, "
        "clients write 3.1 MiB/s, limit 100.0 MiB/s"
    )
    assert panel.left.text.strip() == "24.0 MiB"
    panel.add_sample(snapshot_of(100), Rates(state=EtaState.PAUSED))
    panel.redraw()
    assert panel.rate.text.startswith("copy -,")


def test_curves_are_drawn_in_their_colours(qtbot):
    panel = show(qtbot, story())
    picture = panel.rate.plot.grab().toImage()
    table = colors(False)
    assert len(places_of(picture, QColor(table.copy))) > 100
    assert len(places_of(picture, QColor(table.guest))) > 50
    grey = places_of(panel.latency.plot.grab().toImage(), QColor(table.base))
    assert grey


def test_no_curve_has_too_many_points(qtbot):
    panel = show(qtbot, Job(per_second=1))
    panel.history = Job(per_second=1).run(5000)
    for span in Span:
        panel.set_span(span)
        for chart in panel.charts:
            assert all(chart.plot.points(curve.field) <= 600 for curve in chart.plot.curves)


def test_time_base_is_fixed_and_common(qtbot):
    panel = show(qtbot, story())
    for span, seconds in ((Span.MINUTE, 60), (Span.TEN_MINUTES, 600), (Span.HOUR, 3600)):
        panel.set_span(span)
        for chart in panel.charts:
            begin, end = chart.plot.getPlotItem().viewRange()[0]
            assert end == panel.history.now_s
            assert end - begin == pytest.approx(seconds)


def test_axes_have_round_ceilings(qtbot):
    panel = show(qtbot, story())
    assert panel.rate.plot.getPlotItem().viewRange()[1] == [0, 10 * MiB]
    assert panel.latency.plot.getPlotItem().viewRange()[1] == [-4, 1]


def test_distant_limit_does_not_flatten_the_curves(qtbot):
    job = Job(per_second=1)
    job.run(60, speed=10_000 * MiB)
    panel = show(qtbot, job)
    assert panel.rate.plot.getPlotItem().viewRange()[1] == [0, 10 * MiB]


def test_hovering_shows_the_values_of_that_moment_in_all_charts(qtbot):
    panel = show(qtbot, story())
    plot = panel.left.plot
    moment = panel.history.now_s - 100
    point = plot.getPlotItem().getViewBox().mapViewToScene(QPointF(moment, 0)).toPoint()
    hover(plot, plot.mapFromScene(point.x(), point.y() - 10))
    shown = time.strftime("%H:%M", time.localtime(moment))
    for chart in panel.charts:
        assert chart.plot.cross.isVisible()
        assert chart.plot.cross.value() == pytest.approx(moment, abs=3)
        assert shown in chart.text
    assert "copy 10.0 MiB/s" in panel.rate.text
    assert "limit 50.0 MiB/s" in panel.rate.text
    plot.hovered.emit(None)
    assert not plot.cross.isVisible()
    assert shown not in panel.rate.text


def test_copy_as_csv_and_as_picture(qtbot):
    panel = show(qtbot, story())
    actions = {action.text(): action for action in panel.latency.make_menu().actions()}
    actions["Copy as CSV"].trigger()
    lines = QGuiApplication.clipboard().text().splitlines()
    assert lines[0] == "time,guest_p50,guest_p99,copy_p99"
    assert len(lines) == panel.latency.plot.points("guest_p50") + 1
    actions["Copy picture"].trigger()
    assert QGuiApplication.clipboard().pixmap().width() >= 800


def test_events_and_pauses_are_drawn(qtbot):
    panel = show(qtbot, story())
    texts = [mark.text for mark in panel.history.marks]
    assert texts == ["paused", "limit 50.0 MiB/s"]
    before = panel.rate.plot.grab().toImage()
    panel.history.pauses.clear()
    panel.history.marks.clear()
    panel.redraw()
    assert panel.rate.plot.grab().toImage() != before


def test_single_values_are_seen_as_dots(qtbot):
    job = Job(per_second=1)
    job.run(30)
    job.run(1, latency_ns=300_000)
    job.run(30)
    panel = show(qtbot, job)
    panel.set_span(Span.MINUTE)
    assert places_of(panel.latency.plot.grab().toImage(), QColor(colors(False).third))


def test_hidden_charts_collect_and_draw_when_shown(qtbot):
    panel = show(qtbot)
    panel.hide()
    panel.history = story().history
    before = panel.rate.plot.points("copy")
    panel.show()
    assert panel.rate.plot.points("copy") > before


def test_light_and_dark_change_at_once(qtbot, qapp):
    panel = show(qtbot, story())
    try:
        theme_of(qapp).choose(ThemeChoice.DARK)
        picture = panel.rate.plot.grab().toImage()
        assert len(places_of(picture, QColor(colors(True).base))) > 1000
        assert len(places_of(picture, QColor(colors(True).copy))) > 100
    finally:
        theme_of(qapp).choose(ThemeChoice.LIGHT)


def test_samples_have_the_time_at_which_they_were_taken(qtbot):
    panel = show(qtbot)
    for second in range(120):
        panel.add_sample(snapshot_of(100, time_ns=(500 + second) * 10**9), Rates())
    panel.redraw()
    assert panel.history.now_s - panel.history.began_s == pytest.approx(119)
    assert panel.rate.plot.points("guest") in range(115, 120)


def test_computer_that_slept_does_not_leave_the_clock_behind(qtbot):
    panel = show(qtbot)
    panel.add_sample(snapshot_of(100, time_ns=10**9), Rates())
    panel._clock_shift -= 3600
    panel.add_sample(snapshot_of(100, time_ns=2 * 10**9), Rates())
    assert panel.history.now_s == pytest.approx(time.time(), abs=5)


def test_clear_forgets_everything(qtbot):
    panel = show(qtbot, story())
    panel.clear()
    assert panel.rate.plot.points("copy") == 0
    assert panel.rate.text == ""


def test_charts_have_names_and_say_their_numbers(qtbot):
    panel = show(qtbot, story())
    names = [chart.plot.accessibleName() for chart in panel.charts]
    assert names == ["Rate", "Left to copy", "Latency"]
    assert panel.rate.plot.accessibleDescription() == panel.rate.text
    assert panel.rate.plot.focusPolicy() is Qt.FocusPolicy.StrongFocus


def test_redrawing_is_quick(qtbot):
    panel = show(qtbot, story())
    spent = []
    for _ in range(5):
        begin = time.perf_counter()
        panel.redraw()
        spent.append(time.perf_counter() - begin)
    assert np.min(spent) < 0.03  # 3 ms here
