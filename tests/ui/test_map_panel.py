from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAccessible, QColor, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.ui.heatmap import areas_view, colors, runs, strip
from mirrorgui.ui.heatmap import frame as frame_module
from mirrorgui.ui.heatmap.areas import Area
from mirrorgui.ui.heatmap.cells import ChunkState
from mirrorgui.ui.heatmap.geometry import CellOrder
from mirrorgui.ui.heatmap.panel import ByteRange, MapPanel
from mirrorgui.ui.heatmap.strip import JobStrip
from mirrorgui.ui.theme import ThemeChoice, theme_of
from mirrorgui.units import GiB, KiB
from tests.ui.map_states import GRANULARITY, lifelike, operations_at, snapshot_of
from tests.ui.test_map_texts import failure
from tests.ui.test_map_view import centre_of, letters, places_of

Mod = Qt.KeyboardModifier


def show(qtbot, words, *, size=None, **fields):
    panel = MapPanel()
    qtbot.addWidget(panel)
    panel.resize(940, 560)
    panel.show()
    size = size or words.chunks * GRANULARITY
    panel.set_source("source.img", size, GRANULARITY)
    panel.update_frame(snapshot_of(words.chunks, size=size, **fields), words)
    return panel


# ---- legend -----------------------------------------------------------------------------------


def test_legend_shows_sums_that_add_up(qtbot):
    panel = show(qtbot, letters("." * 16 + "s" * 48 + "t" * 32 + "a" * 16 + "f" * 16))
    shown = {state: panel.legend.value(state) for state in ChunkState}
    assert shown == {
        ChunkState.NOT_ALLOCATED: "1.0 MiB",
        ChunkState.IN_SYNC: "3.0 MiB",
        ChunkState.TO_COPY: "2.0 MiB",
        ChunkState.AGAIN: "1.0 MiB",
        ChunkState.FAILED: "1.0 MiB",
        ChunkState.IN_FLIGHT: "0 B",
    }


def test_legend_counts_the_short_last_chunk_as_it_is(qtbot):
    panel = show(qtbot, letters("st"), size=GRANULARITY + 512)
    assert panel.legend.value(ChunkState.TO_COPY) == "512 B"


def test_scale_and_part_are_written_below(qtbot):
    panel = show(qtbot, MapWords.empty(1 << 20))
    assert panel._scale.text().startswith("1 cell = ")
    assert panel._part.text() == "whole image, 64.0 GiB"
    panel.zoom_in()
    assert " to " in panel._part.text()


# ---- zoom bar ---------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [0, 7_777_777, (1 << 24) - 1])
def test_one_failed_chunk_is_seen_in_the_zoom_bar(qtbot, failed):
    words = MapWords.empty(1 << 24)
    words.copied[:] = ~np.uint64(0)
    words.failed[failed // 64] = np.uint64(1) << np.uint64(failed % 64)
    panel = show(qtbot, words)
    assert np.count_nonzero(panel.bar.rows == colors.FAILED) == 1
    red = places_of(panel.bar.grab().toImage(), QColor(colors.LIGHT.failed))
    assert len({y for _, y in red}) == 1
    assert next(iter(red))[1] == pytest.approx(
        failed / (1 << 24) * (panel.bar.height() - 2) + 1, abs=1.5
    )


def test_zoom_bar_frames_the_part_in_view_and_scrolls(qtbot):
    words, _ = lifelike(1 << 20)
    panel = show(qtbot, words)
    for _ in range(3):
        panel.zoom_in()
    frame, bar = panel.bar.frame_rect(), panel.bar
    assert frame.top() < 3
    assert frame.height() < bar.height() / 4
    below = QPoint(8, round(bar.height() * 0.7))
    QTest.mouseClick(bar.viewport(), Qt.MouseButton.LeftButton, Mod.NoModifier, below)
    middle = (panel.view.viewport_.view.first + panel.view.viewport_.end) / 2
    assert middle == pytest.approx(0.7 * (1 << 20), rel=0.05)
    assert bar.frame_rect().contains(below)


def test_dragging_the_frame_keeps_where_it_was_gripped(qtbot):
    words, _ = lifelike(1 << 20)
    panel = show(qtbot, words)
    for _ in range(3):
        panel.zoom_in()
    bar = panel.bar
    grip = bar.frame_rect().center().toPoint()
    QTest.mousePress(bar.viewport(), Qt.MouseButton.LeftButton, Mod.NoModifier, grip)
    target = QPoint(grip.x(), grip.y() + 100)
    QTest.mouseMove(bar.viewport(), target)
    QTest.mouseRelease(bar.viewport(), Qt.MouseButton.LeftButton, Mod.NoModifier, target)
    assert bar.frame_rect().center().y() == pytest.approx(target.y(), abs=2)


def test_right_dragging_the_zoom_bar_selects(qtbot):
    words, _ = lifelike(1 << 20)
    panel = show(qtbot, words)
    chosen = []
    panel.range_selected.connect(chosen.append)
    bar, right = panel.bar, Qt.MouseButton.RightButton
    top, bottom = QPoint(8, bar.height() // 4), QPoint(8, bar.height() // 2)
    QTest.mousePress(bar.viewport(), right, Mod.NoModifier, top)
    QTest.mouseMove(bar.viewport(), bottom)
    QTest.mouseRelease(bar.viewport(), right, Mod.NoModifier, bottom)
    assert chosen[-1].length == pytest.approx((1 << 20) * GRANULARITY / 4, rel=0.02)
    assert "chunks:" in panel.inspector.text


# ---- inspector --------------------------------------------------------------------------------


def test_click_shows_the_cell_in_the_inspector(qtbot):
    words = letters("s" * 99 + "f")
    panel = show(qtbot, words, errors=(failure(99 * GRANULARITY),))
    QTest.mouseClick(
        panel.view.viewport(), Qt.MouseButton.LeftButton, Mod.NoModifier, centre_of(panel.view, 99)
    )
    assert panel.inspector.chunks == (99, 100)
    assert panel.inspector.text.startswith(
        "6.19 MiB + 64.0 KiB\n0x63_0000 - 0x63_FFFF\n1 chunk: failed"
    )
    (area,) = panel.inspector.table.rows.areas
    assert (area.state, area.tries, area.error) == (ChunkState.FAILED, 3, "Input/output error")
    panel.inspector.copy.click()
    assert "6488064\t65536\tfailed\t3\tInput/output error" in QGuiApplication.clipboard().text()
    with qtbot.waitSignal(panel.errors_requested) as caught:
        panel.inspector.errors.click()
    assert caught.args == [ByteRange(99 * GRANULARITY, GRANULARITY)]


def test_inspector_follows_the_frames(qtbot, monkeypatch):
    words = letters("s" * 100)
    panel = show(qtbot, words)
    panel.show_offset(10 * GRANULARITY)
    assert "1 chunk: in sync" in panel.inspector.text
    words.dirty[0] = np.uint64(1 << 10)
    panel._details_s = 0.0
    panel.update_frame(snapshot_of(100), words)
    assert "1 chunk: again" in panel.inspector.text


def test_show_offset_puts_the_cursor_there(qtbot):
    words, _ = lifelike(1 << 20)
    panel = show(qtbot, words)
    panel.view.one_to_one(0)
    with qtbot.waitSignal(panel.cursor_moved) as caught:
        panel.show_offset(50 * 2**30 + 5)
    assert caught.args == [ByteRange(50 * 2**30, GRANULARITY)]
    assert panel.view.viewport_.cell_of(50 * 2**30 // GRANULARITY) is not None


@pytest.mark.parametrize("offset", [-1, 0, 100 * GRANULARITY - 1, 1 << 62])
def test_offsets_outside_are_brought_inside(qtbot, offset):
    panel = show(qtbot, letters("s" * 100))
    panel.show_offset(offset)
    assert 0 <= panel.view.cursor_chunk < 100


# ---- areas ------------------------------------------------------------------------------------


def test_areas_list_failed_places_first_and_lead_to_the_map(qtbot, monkeypatch):
    monkeypatch.setattr(runs, "SLICE", 64)
    panel = show(qtbot, letters("s" * 150 + "f" + "t" * 300))
    panel.side_tabs.setCurrentIndex(1)
    table = panel.areas
    qtbot.waitUntil(lambda: len(table.rows.areas) == 3, timeout=3000)
    assert [area.state for area in table.rows.areas] == [
        ChunkState.FAILED, ChunkState.TO_COPY, ChunkState.IN_SYNC,
    ]  # fmt: skip
    assert table.rows.index(0, 0).data() == "failed"
    assert table.rows.index(2, 2).data() == "9.4 MiB"
    table.activated.emit(table.rows.index(1, 0))
    assert panel.view.cursor_chunk == 151


def test_areas_are_looked_for_only_while_visible(qtbot, monkeypatch):
    monkeypatch.setattr(areas_view, "RunScan", None)  # would raise if it were used
    panel = show(qtbot, letters("s" * 150))
    QApplication.processEvents()
    assert not panel.areas._timer.isActive()


def test_rows_that_stay_keep_their_selection(qtbot):
    panel = show(qtbot, letters("s" * 10 + "t" * 10 + "s" * 10))
    panel.view.select((0, 30))
    table = panel.inspector.table
    table.selectRow(1)
    panel.update_frame(snapshot_of(30), letters("s" * 10 + "t" * 9 + "s" * 5 + "t" * 6))
    panel.inspector.refresh()
    assert [index.row() for index in table.selectionModel().selectedRows()] == [1]
    assert table.rows.rowCount() == 4


# ---- the panel --------------------------------------------------------------------------------


def test_hidden_panel_does_no_work_and_catches_up(qtbot):
    panel = show(qtbot, letters("t" * 100))
    panel.hide()
    before = panel.view.cells.copy()
    panel.update_frame(snapshot_of(100), letters("s" * 100))
    assert np.array_equal(panel.view.cells, before)
    panel.show()
    assert set(panel.view.cells.tolist()) == {colors.IN_SYNC}


def test_frame_in_which_nothing_changed_is_not_counted_again(qtbot, monkeypatch):
    words = letters("t" * 100)
    panel = show(qtbot, words)
    snapshot = snapshot_of(100)
    panel.update_frame(snapshot, words)
    monkeypatch.setattr(frame_module, "fold", None)  # would raise if it were used
    panel.update_frame(snapshot, words)
    panel.update_frame(replace(snapshot, time_ns=1), words)


def test_maps_of_another_image_are_refused(qtbot):
    panel = show(qtbot, letters("t" * 100))
    with pytest.raises(ValueError, match="maps of 99 chunks for an image of 100"):
        panel.update_frame(snapshot_of(99), letters("t" * 99))


def test_tools_zoom_order_and_follow(qtbot):
    words, _ = lifelike(1 << 20)
    panel = show(qtbot, words)
    tools = panel.tools
    assert not tools.fit.isEnabled()
    tools.closer.click()
    assert tools.fit.isEnabled()
    tools.out.click()
    assert panel.view.viewport_.is_fit
    tools.single.click()
    assert panel.view.viewport_.view.per_cell == 1
    tools.fit.click()
    tools.order.setCurrentIndex(1)
    tools.order.activated.emit(1)
    assert panel.view.viewport_.order is CellOrder.HILBERT
    tools.follow.click()
    assert panel.view.following
    panel.view.set_following(False)
    assert not tools.follow.isChecked()


def test_new_source_starts_afresh(qtbot):
    panel = show(qtbot, letters("f" * 100))
    panel.show_offset(GRANULARITY * 50)
    panel.view.select((3, 9))
    panel.set_source("other.img", 10 * GRANULARITY, GRANULARITY)
    assert panel.view.accessibleName() == "Map of other.img"
    assert panel.bar.accessibleName() == "Overview of other.img"
    assert (panel.view.cursor_chunk, panel.view.selection) == (0, None)
    assert panel.inspector.chunks is None
    assert panel.view.viewport_.cells == 10


def test_light_and_dark_change_at_once(qtbot, qapp):
    panel = show(qtbot, letters("s" * 100))
    try:
        theme_of(qapp).choose(ThemeChoice.DARK)
        assert panel.view.palette_ is colors.DARK
        panel.set_scheme(colors.Scheme.MONOCHROME)
        assert panel.view.palette_ is colors.MONOCHROME
    finally:
        theme_of(qapp).choose(ThemeChoice.LIGHT)
    panel.set_scheme(colors.Scheme.THEME)
    assert panel.view.palette_ is colors.LIGHT


def test_own_colours_are_used_and_taken_back(qtbot):
    panel = show(qtbot, letters("s" * 100))
    panel.set_map_palette(replace(colors.LIGHT, name="mine", in_sync="#123456"))
    assert places_of(panel.view.grab().toImage(), QColor("#123456"))
    panel.set_map_palette(None)
    assert not places_of(panel.view.grab().toImage(), QColor("#123456"))


def test_everything_that_takes_the_keyboard_has_a_name(qtbot):
    panel = show(qtbot, letters("s" * 100))
    for page in (0, 1):
        panel.side_tabs.setCurrentIndex(page)
        for widget in panel.findChildren(QWidget):
            if widget.isVisible() and widget.focusPolicy() is not Qt.FocusPolicy.NoFocus:
                face = QAccessible.queryAccessibleInterface(widget)
                assert face.text(QAccessible.Text.Name), widget


def test_picture_is_the_whole_panel(qtbot):
    panel = show(qtbot, letters("s" * 100))
    assert panel.picture().width() == panel.width() * panel.devicePixelRatio()


def test_focus_of_the_panel_is_the_maps(qtbot):
    panel = show(qtbot, letters("s" * 100))
    assert panel.focusProxy() is panel.view


# ---- strip ------------------------------------------------------------------------------------


def show_strip(qtbot, words, operations=()):
    made = JobStrip()
    qtbot.addWidget(made)
    made.resize(200, strip.HEIGHT)
    made.show()
    made.set_name("source.img")
    made.update_frame(snapshot_of(words.chunks, operations), words)
    return made


def test_strip_shows_the_worst_of_each_column(qtbot):
    words = MapWords.empty(1 << 24)
    words.copied[:] = ~np.uint64(0)
    words.failed[131072] = np.uint64(1)
    made = show_strip(qtbot, words)
    assert made.accessibleName() == "Map of source.img in one row"
    assert np.flatnonzero(made.columns == colors.FAILED).tolist() == [100]
    red = places_of(made.grab().toImage(), QColor(colors.LIGHT.failed))
    assert {x for x, _ in red} == {100}


def test_strip_is_not_drawn_more_than_twice_a_second(qtbot):
    words, edge = lifelike(1 << 20)
    made = show_strip(qtbot, words, operations_at(edge, 1 << 20))
    before = made.columns.copy()
    words.copied[:] = ~np.uint64(0)
    words.dirty[:] = 0
    made.update_frame(snapshot_of(1 << 20, generation=2), words)
    assert np.array_equal(made.columns, before)
    made._drawn_s -= 1
    made.update_frame(snapshot_of(1 << 20, generation=2), words)
    assert not np.array_equal(made.columns, before)


def test_areas_say_where_they_begin_in_full(qtbot):
    panel = show(qtbot, MapWords.empty(1 << 24))
    panel.inspector.inspect((0, 1))
    table = panel.inspector.table
    areas = [Area(state, int(341.2507 * GiB), 64 * KiB) for state in ChunkState]
    table.rows.show_areas(areas * 20)
    qtbot.waitUntil(table.verticalScrollBar().isVisible)
    for column in range(3):
        assert table.columnWidth(column) >= table.sizeHintForColumn(column)
    # All three at once, beside a map that is as wide as it can be.
    last = table.columnViewportPosition(2) + table.columnWidth(2)
    assert last <= table.viewport().width()


def test_details_move_out_of_sight_only_in_a_low_window(qtbot):
    panel = show(qtbot, MapWords.empty(1 << 20))
    bar = panel.side.verticalScrollBar()
    panel.resize(900, 420)
    qtbot.waitUntil(lambda: not bar.isVisible())
    panel.resize(900, 220)
    qtbot.waitUntil(bar.isVisible)
    assert panel.legend.height() >= panel.legend.sizeHint().height()
