import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QContextMenuEvent, QGuiApplication, QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QToolTip

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.ui.heatmap import colors, marks
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.geometry import CellOrder
from mirrorgui.ui.heatmap.map_view import MapView
from tests.ui.map_states import (
    GRANULARITY,
    lifelike,
    operations_at,
    snapshot_of,
    take_in_flight,
    words_of,
)

Key, Mod = Qt.Key, Qt.KeyboardModifier


def show(qtbot, words, operations=(), *, size=(840, 470), order=CellOrder.ROWS, image=None):
    """Show maps in a view of a size."""
    view = MapView()
    qtbot.addWidget(view)
    view.resize(*size)
    view.show()
    frame = MapFrame("source.img", image or words.chunks * GRANULARITY, GRANULARITY)
    frame.update(snapshot_of(words.chunks, operations), words)
    view.set_frame(frame)
    view.set_order(order)
    return view


def letters(text):
    """Make maps from one letter a chunk: . s t a f."""
    flags = np.array([[each in "ta", each in "sa", each == "f"] for each in text]).T
    return words_of(*flags)


def pixel(view, cell, across=0.5, down=0.5):
    """Return the colour of a point within a cell, as grabbed from the screen."""
    picture = view.grab().toImage()
    grid, ratio = view.viewport_.view.grid, picture.devicePixelRatio()
    x, y = grid.corner(cell)
    side = grid.cell - marks.gap_of(grid.cell)
    return picture.pixelColor(int((x + side * across) * ratio), int((y + side * down) * ratio))


def places_of(picture, color):
    """Return the places (x, y) of a colour in a picture."""
    picture = picture.convertToFormat(QImage.Format.Format_RGB32)
    width, height = picture.width(), picture.height()
    values = np.frombuffer(picture.constBits(), np.uint32).reshape(height, width)
    rows, columns = np.nonzero(values == np.uint32(color.rgb()))
    return set(zip(columns.tolist(), rows.tolist(), strict=True))


def press(view, key, held=Mod.NoModifier):
    QTest.keyClick(view, key, held)


def wheel(view, point, steps, held=Mod.NoModifier):
    event = QWheelEvent(
        QPointF(point), view.mapToGlobal(QPointF(point)), QPoint(), QPoint(0, 120 * steps),
        Qt.MouseButton.NoButton, held, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(view.viewport(), event)


def centre_of(view, cell):
    grid = view.viewport_.view.grid
    x, y = grid.corner(cell)
    return QPoint(int(x + grid.cell / 2), int(y + grid.cell / 2))


# ---- cells ------------------------------------------------------------------------------------


def test_every_state_has_its_value_and_its_colour_on_the_screen(qtbot):
    view = show(qtbot, letters(".staf" + "s" * 95))
    assert view.cells[:5].tolist() == [
        colors.NOT_ALLOCATED, colors.IN_SYNC, colors.TO_COPY, colors.AGAIN, colors.FAILED,
    ]  # fmt: skip
    for cell, name in ((1, "in_sync"), (2, "to_copy"), (3, "again"), (4, "failed")):
        expected = QColor(getattr(colors.LIGHT, name))
        assert pixel(view, cell, 0.1, 0.15) == expected, name
    ground = QColor(colors.LIGHT.not_allocated)
    assert abs(pixel(view, 0).lightness() - ground.lightness()) < 30


def test_failed_cells_have_a_cross_and_others_none(qtbot):
    view = show(qtbot, letters("sf" + "s" * 1200), size=(640, 400))
    assert view.failed_cells().tolist() == [1]
    failed, mark = QColor(colors.LIGHT.failed), QColor(colors.LIGHT.mark)
    inside = {
        pixel(view, 1, across / 8, down / 8).name() for across in range(8) for down in range(8)
    }
    assert failed.name() in inside
    assert any(QColor(name).lightness() > 200 for name in inside), mark.name()


@pytest.mark.parametrize("order", CellOrder)
@pytest.mark.parametrize("size", [(520, 300), (1600, 900)])
@pytest.mark.parametrize(
    ("chunks", "failed"), [(1 << 20, 777_777), (1 << 24, 0), (1 << 24, (1 << 24) - 1)]
)
def test_one_failed_chunk_among_millions_is_seen(qtbot, chunks, failed, size, order):
    words = MapWords.empty(chunks)
    words.copied[:] = ~np.uint64(0)
    words.failed[failed // 64] = np.uint64(1) << np.uint64(failed % 64)
    view = show(qtbot, words, size=size, order=order)
    assert len(view.failed_cells()) == 1
    cell = int(view.failed_cells()[0])
    assert view.viewport_.cell_of(failed) == cell
    red = QColor(colors.LIGHT.failed)
    picture = view.grab().toImage()
    found = places_of(picture, red)
    x, y = view.viewport_.view.grid.corner(cell)
    side = view.viewport_.view.grid.cell
    assert len(found) >= 4
    assert all(x <= px < x + side and y <= py < y + side for px, py in found)


@pytest.mark.parametrize("cell", [4, 5, 6, 10])
def test_failed_is_marked_at_every_size_of_cells(qtbot, cell):
    words = MapWords.empty(1 << 20)
    words.failed[9] = np.uint64(1)
    view = show(qtbot, words, size=(600, 400))
    view.viewport_.set_preferred_cell(cell)
    view.view_changed()
    grid = view.viewport_.view.grid
    picture = view.grab().toImage()
    x, y = grid.corner(int(view.failed_cells()[0]))
    inside = {
        picture.pixelColor(int(x) + dx, int(y) + dy).name()
        for dx in range(int(grid.cell))
        for dy in range(int(grid.cell))
    }
    assert len(inside) >= 2  # colour and mark
    assert QColor(colors.LIGHT.failed).name() in inside


def test_many_failed_cells_all_have_their_cross_and_keep_it_when_they_change(qtbot):
    words = letters("f" * 1500)
    view = show(qtbot, words, size=(900, 600))
    assert len(view.failed_cells()) == view.viewport_.cells > 300
    whole = len(places_of(view.grab().toImage(), QColor(colors.LIGHT.failed)))
    words.failed[:12] = 0
    view.frame.update(snapshot_of(1500), words)
    view.refresh()
    fewer = len(places_of(view.grab().toImage(), QColor(colors.LIGHT.failed)))
    gone = 1 - len(view.failed_cells()) / view.viewport_.cells
    assert gone > 0.4
    assert fewer == pytest.approx(whole * (1 - gone), rel=0.01)


def test_chunks_in_flight_have_a_frame_and_keep_their_fill(qtbot):
    words = letters("t" * 100)
    operations = operations_at(10, 100, 2)
    take_in_flight(words, operations)
    view = show(qtbot, words, operations)
    assert view.in_flight_cells().tolist() == [10, 11]
    assert view.cells[10] == colors.TO_COPY
    assert pixel(view, 10, 0.5, 0.02) == QColor(colors.LIGHT.in_flight)
    assert pixel(view, 10, 0.5, 0.3) == QColor(colors.LIGHT.to_copy)


def test_frames_are_held_a_moment_unless_motion_is_unwanted(qtbot):
    words = letters("t" * 100)
    view = show(qtbot, words, operations_at(10, 100, 1))
    view.frame.update(snapshot_of(100), words)
    view.refresh()
    assert view.in_flight_cells().tolist() == [10]
    view.reduced_motion = True
    view.refresh()
    assert view.in_flight_cells().tolist() == []


def test_small_cells_touch_and_larger_ones_have_gaps(qtbot):
    view = show(qtbot, letters("s" * 100))
    grid = view.viewport_.view.grid
    picture = view.grab().toImage()
    x, y = grid.corner(0)
    assert picture.pixelColor(int(x + grid.cell) - 1, int(y) + 9) == QColor(colors.LIGHT.ground)
    words = MapWords.empty(1 << 24)
    words.copied[:] = ~np.uint64(0)
    view = show(qtbot, words)
    view.viewport_.set_preferred_cell(4)
    view.view_changed()
    assert view.viewport_.view.grid.cell < 6
    picture = view.grab().toImage()
    x, y = view.viewport_.view.grid.corner(0)
    found = {picture.pixelColor(int(x) + n, int(y) + 1).name() for n in range(40)}
    assert found == {QColor(colors.LIGHT.in_sync).name()}


def test_not_allocated_is_hatched_when_cells_are_large(qtbot):
    view = show(qtbot, letters("." * 100))
    seen = {pixel(view, 3, n / 20, 0.5).name() for n in range(2, 19)}
    assert len(seen) >= 3
    view = show(qtbot, MapWords.empty(1 << 20))
    seen = {pixel(view, 3, n / 20, 0.5).name() for n in range(2, 19)}
    assert seen == {QColor(colors.LIGHT.not_allocated).name()}


def test_dark_and_monochrome_palettes_are_used_at_once(qtbot):
    view = show(qtbot, letters("s" * 100))
    for palette in (colors.DARK, colors.MONOCHROME, colors.LIGHT):
        view.set_map_palette(palette)
        assert pixel(view, 50, 0.2, 0.2) == QColor(palette.in_sync)


@pytest.mark.parametrize("order", CellOrder)
def test_picture_agrees_with_the_counts_of_each_cell(qtbot, order):
    words, edge = lifelike(1 << 20)
    view = show(qtbot, words, operations_at(edge, 1 << 20), order=order)
    counts = view.counts
    assert counts.cells == view.viewport_.cells
    assert np.array_equal(view.cells == colors.FAILED, counts.failed > 0)
    picture = view.grab().toImage()
    table = colors.opaque_table(view.palette_)
    grid = view.viewport_.view.grid
    plain = [
        cell for cell in range(0, counts.cells, 97)
        if cell not in view.in_flight_cells() and view.cells[cell] != colors.FAILED
    ]  # fmt: skip
    assert len(plain) > 20
    for cell in plain:
        x, y = grid.corner(cell)
        red, green, blue, _ = table[view.cells[cell]].tolist()
        assert picture.pixelColor(int(x + 2), int(y + 2)) == QColor(red, green, blue)


@pytest.mark.parametrize("cell", [5, 10, 16, 61, 95])
@pytest.mark.parametrize("hatched", [False, True])
def test_no_cell_bleeds_into_its_neighbours_far_from_the_corner(qtbot, cell, hatched):
    """Cells alternate: every pixel of a cell has the cell's colour, whatever the scale."""
    chunks = 1 << 15
    text = ("st" * chunks)[:chunks]
    holes = (".." if hatched else "st") + text[2:]
    view = show(qtbot, letters(holes), size=(2300, 1300))
    view.one_to_one(0)
    view.viewport_._show(view.area.grid(float(cell), CellOrder.ROWS), 1)
    view.view_changed()
    grid, gap = view.viewport_.view.grid, int(marks.gap_of(cell))
    rgb = [QColor(colors.LIGHT.in_sync).rgb(), QColor(colors.LIGHT.to_copy).rgb()]
    picture = view.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    values = np.frombuffer(picture.constBits(), np.uint32).reshape(picture.height(), -1)
    inset = 0 if cell < 16 else int(marks.radius_of(cell)) + 1
    side = cell - gap
    for index in range(2, min(view.viewport_.cells, grid.cells), 31):
        x, y = (int(each) for each in grid.corner(index))
        if cell < 48:  # larger ones have writing in them
            inside = values[y : y + side, x + inset : x + side - inset]
            assert np.all(inside == rgb[index % 2]), (index, x, y)
        edges = values[y, x + inset : x + side - inset]
        assert np.all(edges == rgb[index % 2]), (index, x, y)


# ---- zoom and pan -----------------------------------------------------------------------------


def test_wheel_zooms_at_the_pointer_down_to_single_chunks(qtbot):
    words, _ = lifelike(1 << 20)
    view = show(qtbot, words)
    cell = view.viewport_.cells // 3
    point = centre_of(view, cell)
    chunk = view.viewport_.chunks_of(cell)[0]
    while view.viewport_.view.per_cell > 1:
        wheel(view, point, 1)
        first, end = view.viewport_.chunks_of(
            view.viewport_.view.grid.index_at(point.x(), point.y())
        )
        assert first <= chunk < end
    assert end - first == 1
    for _ in range(40):
        wheel(view, point, -1)
    assert view.viewport_.is_fit


def test_wheel_with_control_changes_the_size_of_cells(qtbot):
    words, _ = lifelike(1 << 20)
    view = show(qtbot, words)
    few = view.viewport_.view.grid.cells
    wheel(view, QPoint(100, 100), -5, Mod.ControlModifier)
    assert view.viewport_.preferred_cell == 5
    assert view.viewport_.view.grid.cells > few


def test_dragging_pans_and_ends_following(qtbot):
    words, _ = lifelike(1 << 20)
    view = show(qtbot, words)
    view.one_to_one(1000)
    view.set_following(True)
    first, columns = view.viewport_.view.first, view.viewport_.view.grid.columns
    side = view.viewport_.view.grid.cell
    start = centre_of(view, columns * 5 + 5)
    QTest.mousePress(view.viewport(), Qt.MouseButton.LeftButton, Mod.NoModifier, start)
    target = QPoint(start.x() - round(2 * side), start.y() - round(3 * side))
    QTest.mouseMove(view.viewport(), target)
    QTest.mouseRelease(view.viewport(), Qt.MouseButton.LeftButton, Mod.NoModifier, target)
    assert view.viewport_.view.first == first + 3 * columns + 2
    assert not view.following
    assert view.selection is None


def test_double_click_shows_single_chunks(qtbot):
    words, _ = lifelike(1 << 20)
    view = show(qtbot, words)
    chunk = view.viewport_.chunks_of(700)[0]
    QTest.mouseDClick(
        view.viewport(), Qt.MouseButton.LeftButton, Mod.NoModifier, centre_of(view, 700)
    )
    assert view.viewport_.view.per_cell == 1
    assert view.viewport_.cell_of(chunk) is not None


def test_following_keeps_the_copy_in_view(qtbot):
    words, _ = lifelike(1 << 20)
    view = show(qtbot, words)
    view.one_to_one(0)
    press(view, Key.Key_F)
    assert view.following
    for position in (300_000, 301_000, 900_000):
        view.frame.update(snapshot_of(1 << 20, operations_at(position, 1 << 20, 1)), words)
        view.refresh()
        assert view.viewport_.cell_of(position) is not None


# ---- keyboard ---------------------------------------------------------------------------------


def test_arrow_keys_move_the_cursor_by_cells(qtbot):
    view = show(qtbot, letters("s" * 4000))
    columns, per_cell = view.viewport_.view.grid.columns, view.viewport_.view.per_cell
    press(view, Key.Key_Right)
    assert view.cursor_chunk == per_cell
    press(view, Key.Key_Right, Mod.ControlModifier)
    assert view.cursor_chunk == 11 * per_cell
    press(view, Key.Key_Down)
    assert view.cursor_chunk == (11 + columns) * per_cell
    press(view, Key.Key_Left)
    press(view, Key.Key_Up)
    assert view.cursor_chunk == 10 * per_cell
    press(view, Key.Key_Up)
    assert view.cursor_chunk == 10 * per_cell
    press(view, Key.Key_End)
    assert view.cursor_chunk == 3999
    press(view, Key.Key_Home)
    assert view.cursor_chunk == 0
    press(view, Key.Key_Left)
    assert view.cursor_chunk == 0


@pytest.mark.parametrize("order", CellOrder)
def test_page_keys_and_plus_minus_zero(qtbot, order):
    words, _ = lifelike(1 << 20)
    view = show(qtbot, words, order=order)
    press(view, Key.Key_PageDown)
    press(view, Key.Key_Right)
    for _ in range(3):
        press(view, Key.Key_Plus)
    assert view.viewport_.view.per_cell == view.viewport_.fit_per_cell // 8
    press(view, Key.Key_Minus)
    assert view.viewport_.view.per_cell == view.viewport_.fit_per_cell // 4
    press(view, Key.Key_PageUp)
    press(view, Key.Key_0)
    assert view.viewport_.is_fit


def test_arrow_keys_follow_the_picture_in_hilbert_order(qtbot):
    view = show(qtbot, letters("s" * 1000), order=CellOrder.HILBERT)
    grid = view.viewport_.view.grid
    press(view, Key.Key_Right)
    press(view, Key.Key_Down)
    assert grid.place(view.viewport_.cell_of(view.cursor_chunk)) == (1, 1)


def test_cursor_that_leaves_the_view_takes_it_along(qtbot):
    words, _ = lifelike(1 << 20)
    view = show(qtbot, words)
    view.one_to_one(0)
    press(view, Key.Key_End)
    assert view.viewport_.cell_of((1 << 20) - 1) is not None
    press(view, Key.Key_Home)
    assert view.viewport_.view.first == 0


def test_n_goes_from_failed_to_failed_and_around(qtbot):
    view = show(qtbot, letters("s" * 50 + "f" + "s" * 29 + "f" + "s" * 19))
    inspected = []
    view.inspect_requested.connect(inspected.append)
    for _ in range(3):
        press(view, Key.Key_N)
    assert inspected == [50, 80, 50]
    press(view, Key.Key_N, Mod.ShiftModifier)
    assert inspected[-1] == 80


def test_d_goes_to_the_next_chunk_to_copy_and_does_nothing_without(qtbot):
    view = show(qtbot, letters("s" * 60 + "tt" + "s" * 38))
    press(view, Key.Key_D)
    assert view.cursor_chunk == 60
    view = show(qtbot, letters("s" * 100))
    press(view, Key.Key_D)
    press(view, Key.Key_N)
    assert view.cursor_chunk == 0


def test_enter_inspects_the_cell_under_the_cursor(qtbot):
    view = show(qtbot, letters("s" * 100))
    with qtbot.waitSignal(view.inspect_requested) as caught:
        press(view, Key.Key_Right)
        press(view, Key.Key_Return)
    assert caught.args == [1]


def test_keys_of_the_window_are_left_to_it(qtbot):
    view = show(qtbot, letters("s" * 100))
    for key in (Key.Key_N, Key.Key_F, Key.Key_Return):
        event_seen = []
        view.inspect_requested.connect(event_seen.append)
        press(view, key, Mod.ControlModifier)
        assert not event_seen
    assert not view.following


# ---- words ------------------------------------------------------------------------------------


def test_tooltip_comes_after_a_moment_and_follows_the_pointer(qtbot):
    view = show(qtbot, letters("s" * 99 + "f"))
    QTest.mouseMove(view.viewport(), centre_of(view, 3))
    qtbot.waitUntil(lambda: QToolTip.isVisible(), timeout=3000)
    assert "192.00 KiB" in QToolTip.text()
    QTest.mouseMove(view.viewport(), centre_of(view, 99))
    assert "1 chunk: failed" in QToolTip.text()
    QToolTip.hideText()


def test_tooltips_are_right_at_both_ends_and_in_a_short_last_chunk(qtbot):
    chunks = (1 << 24) - 5
    words = MapWords.empty(chunks)
    view = show(qtbot, words, image=chunks * GRANULARITY - 512)
    last = view.viewport_.cells - 1
    assert view.tooltip_text(0).startswith("Cell 0   0 B - 0 B + ")
    first, end = view.viewport_.chunks_of(last)
    assert end == chunks
    assert f"{hex(chunks * GRANULARITY - 513)[-4:].upper()}" in view.tooltip_text(last)
    assert f"{end - first:,}".replace(",", "\N{NO-BREAK SPACE}") in view.tooltip_text(last)


def test_map_says_in_words_how_it_goes(qtbot):
    view = show(qtbot, letters("s" * 50 + "t" * 50))
    assert view.accessibleName() == "Map of source.img"
    assert view.accessibleDescription().startswith("50 percent in sync, 3.1 MiB to copy")
    press(view, Key.Key_End)
    assert view.accessibleDescription().endswith("cursor at 6.19 MiB, to copy")


def test_description_is_not_renewed_with_every_frame(qtbot):
    words = letters("s" * 50 + "t" * 50)
    view = show(qtbot, words)
    before = view.accessibleDescription()
    words.dirty[:] = 0
    view.frame.update(snapshot_of(100), words)
    view.refresh()
    assert view.accessibleDescription() == before


# ---- selection and menu -----------------------------------------------------------------------


def test_shift_and_dragging_selects_a_range(qtbot):
    view = show(qtbot, letters("s" * 100))
    begin, end = centre_of(view, 3), centre_of(view, 40)
    chosen = []
    view.selection_changed.connect(chosen.append)
    QTest.mousePress(view.viewport(), Qt.MouseButton.LeftButton, Mod.ShiftModifier, begin)
    QTest.mouseMove(view.viewport(), end)
    QTest.mouseRelease(view.viewport(), Qt.MouseButton.LeftButton, Mod.ShiftModifier, end)
    assert chosen[-1] == (3, 41)
    assert pixel(view, 20, 0.3, 0.3) != QColor(colors.LIGHT.in_sync)
    assert pixel(view, 60, 0.3, 0.3) == QColor(colors.LIGHT.in_sync)
    press(view, Key.Key_Escape)
    assert view.selection is None


def test_click_inspects_and_lifts_the_selection(qtbot):
    view = show(qtbot, letters("s" * 100))
    view.select((3, 9))
    with qtbot.waitSignal(view.inspect_requested) as caught:
        QTest.mouseClick(
            view.viewport(), Qt.MouseButton.LeftButton, Mod.NoModifier, centre_of(view, 17)
        )
    assert caught.args == [17]
    assert view.selection is None
    assert view.cursor_chunk == 17


def test_menu_copies_and_asks(qtbot):
    view = show(qtbot, letters("s" * 100))
    view.set_cursor_chunk(5)
    menu = view.make_menu()
    actions = {action.text(): action for action in menu.actions() if action.text()}
    assert list(actions) == [
        "Copy offset", "Inspect", "Find in errors", "Zoom to single chunks here", "Reset zoom",
    ]  # fmt: skip
    actions["Copy offset"].trigger()
    assert QGuiApplication.clipboard().text() == str(5 * GRANULARITY)
    with qtbot.waitSignal(view.errors_requested) as caught:
        actions["Find in errors"].trigger()
    assert caught.args == [(5, 6)]
    assert not actions["Reset zoom"].isEnabled()
    view.select((3, 9))
    copy = next(each for each in view.make_menu().actions() if each.text() == "Copy range")
    copy.trigger()
    assert QGuiApplication.clipboard().text() == f"{3 * GRANULARITY} {6 * GRANULARITY}"


def test_menu_opens_for_the_cell_under_the_pointer(qtbot):
    view = show(qtbot, letters("s" * 100))
    where = centre_of(view, 33)
    event = QContextMenuEvent(
        QContextMenuEvent.Reason.Mouse, where, view.viewport().mapToGlobal(where)
    )
    QApplication.sendEvent(view.viewport(), event)
    assert view.cursor_chunk == 33
    QApplication.activePopupWidget().close()


@pytest.mark.parametrize("size", [(160, 120), (3000, 200), (200, 1500)])
@pytest.mark.parametrize("chunks", [0, 1, 63, 65, 5000])
def test_odd_images_and_sizes_are_drawn(qtbot, chunks, size):
    view = show(qtbot, MapWords.empty(chunks), size=size)
    view.grab()
    for key in (Key.Key_Plus, Key.Key_End, Key.Key_Left, Key.Key_N, Key.Key_Minus, Key.Key_0):
        press(view, key)
    view.grab()
