from dataclasses import replace

import pytest
from PySide6.QtCore import QEvent
from PySide6.QtGui import QColor, QHelpEvent
from PySide6.QtWidgets import QApplication, QToolTip

from mirrorgui.mirror.snapshot import OperationKind, OperationView
from mirrorgui.ui.inflight import InFlightPanel
from mirrorgui.ui.inflight_slots import Pace, SlotBoard
from mirrorgui.ui.theme import ThemeChoice, colors, theme_of
from mirrorgui.units import GiB, MiB
from tests.ui.map_states import SECOND, snapshot_of
from tests.ui.test_map_view import places_of

NOW = 100 * SECOND


def operation(number, age_s=0.012, length=MiB, kind=OperationKind.COPY):
    return OperationView(12 * GiB + number * MiB, length, NOW - int(age_s * SECOND), kind)


def board_of(*operations, board=None):
    board = board or SlotBoard()
    board.update(snapshot_of(1 << 20, operations))
    return board


def test_there_are_as_many_slots_as_may_be_in_flight():
    board = board_of(*(operation(number) for number in range(16)))
    assert len(board.slots) == 16
    assert all(board.slots)
    assert board.count_text == "16 / 16"
    assert board.cap_text == "up to 1.0 MiB each"


def test_operation_keeps_its_slot_until_it_ends():
    first, second, third = operation(1), operation(2), operation(3)
    board = board_of(first, second)
    board_of(third, second, board=board)
    assert [slot.offset for slot in board.slots if slot] == [third.offset, second.offset]
    board_of(second, board=board)
    assert board.slots[0] is None
    assert board.slots[1].offset == second.offset


def test_more_than_slots_are_counted():
    board = board_of(*(operation(number) for number in range(19)))
    assert board.more == 3
    assert board.count == 19


@pytest.mark.parametrize(
    ("age", "pace", "text"),
    [
        (0.012, Pace.GOOD, "12 ms"),
        (1.0, Pace.GOOD, "1000 ms"),
        (1.4, Pace.SLOW, "1.4 s"),
        (5.0, Pace.SLOW, "5.0 s"),
        (7.9, Pace.HUNG, "waiting 7 s"),
    ],
)
def test_age_tells_slow_from_hung(age, pace, text):
    slot = board_of(operation(0, age)).slots[0]
    assert (slot.pace, slot.age_text) == (pace, text)


def test_details_have_the_exact_place():
    slot = board_of(operation(0, kind=OperationKind.GUEST)).slots[0]
    assert slot.details == (
        "client's write: 12.00 GiB + 1.0 MiB (0x3_0000_0000 - 0x3_000F_FFFF), for 12 ms"
    )


def test_share_is_of_the_longest_operation():
    assert board_of(operation(0, length=MiB // 4)).slots[0].share == 0.25


def show(qtbot, *operations, width=940):
    panel = InFlightPanel()
    qtbot.addWidget(panel)
    panel.resize(width, 50)
    panel.show()
    panel.update_frame(snapshot_of(1 << 20, operations))
    return panel


@pytest.mark.parametrize("width", [320, 560, 940, 2400])
def test_slots_lie_side_by_side_within_the_panel(qtbot, width):
    panel = show(qtbot, operation(0), width=width)
    rects = [panel.slot_rect(number) for number in range(16)]
    for number, rect in enumerate(rects):
        assert 0 < rect.left() < rect.right() <= panel.width()
        assert rect.bottom() <= panel.height()
        assert not any(rect.intersects(other) for other in rects[:number])


def test_slow_operations_are_amber(qtbot):
    panel = show(qtbot, operation(0), operation(1, 1.5), operation(2, 7))
    amber = places_of(panel.grab().toImage(), QColor(colors(False).slow))
    inside = [sum(panel.slot_rect(number).contains(x, y) for x, y in amber) for number in range(4)]
    assert inside[0] == inside[3] == 0
    assert inside[1] > 100
    assert inside[2] > 100


def test_description_and_tooltip_say_it_in_words(qtbot):
    panel = show(qtbot, operation(0), operation(1, 7))
    assert panel.accessibleName() == "Operations in flight"
    assert panel.accessibleDescription().startswith("In flight 2 / 16; copy: 12.00 GiB + 1.0 MiB")
    where = panel.slot_rect(1).center().toPoint()
    event = QHelpEvent(QEvent.Type.ToolTip, where, panel.mapToGlobal(where))
    QApplication.sendEvent(panel.viewport(), event)
    assert "for waiting 7 s" in QToolTip.text() or "waiting 7 s" in QToolTip.text()
    QToolTip.hideText()


def test_clear_and_dark(qtbot, qapp):
    panel = show(qtbot, operation(0))
    panel.clear()
    assert not any(panel.board.slots)
    try:
        theme_of(qapp).choose(ThemeChoice.DARK)
        ground = QColor(colors(True).window)
        assert panel.grab().toImage().pixelColor(2, 2) == ground
    finally:
        theme_of(qapp).choose(ThemeChoice.LIGHT)


def test_snapshot_without_operations_frees_every_slot(qtbot):
    panel = show(qtbot, operation(0))
    panel.update_frame(replace(snapshot_of(1 << 20), operations=()))
    assert panel.board.count_text == "0 / 16"
