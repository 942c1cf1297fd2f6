"""The map as people handle it: with the mouse, the keyboard, a tooltip and a menu."""

from PySide6.QtCore import QPoint, QPointF, Qt, QTimer
from PySide6.QtGui import (
    QContextMenuEvent,
    QFocusEvent,
    QGuiApplication,
    QKeyEvent,
    QMouseEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QMenu, QToolTip, QWidget

from mirrorgui.ui.heatmap import texts
from mirrorgui.ui.heatmap.geometry import CellOrder
from mirrorgui.ui.heatmap.navigator import MapNavigator
from mirrorgui.ui.i18n import tr

HOVER_MS = 250
WHEEL_STEP = 120
FAR = 10
"""Cells that an arrow key moves with Ctrl."""

_LEFT, _RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
_CTRL, _SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


class MapView(MapNavigator):
    """The interactive map."""

    def __init__(self, parent: QWidget | None = None) -> None:
        self._wheel = 0
        self._pressed: QPointF | None = None
        self._pressed_first = 0
        self._dragging = False
        self._select_from: int | None = None
        self._hovered: int | None = None
        self._menu: QMenu | None = None
        super().__init__(parent)
        self._hover_timer = QTimer(self)
        self._hover_timer.setSingleShot(True)
        self._hover_timer.setInterval(HOVER_MS)
        self._hover_timer.timeout.connect(self._show_tooltip)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(160, 120)

    # ---- keyboard -----------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key, held = event.key(), event.modifiers()
        if not (self._move_by_key(key, held) or self._act_by_key(key, held)):
            event.ignore()

    def _move_by_key(self, key: int, held: Qt.KeyboardModifier) -> bool:
        grid = self.viewport_.view.grid
        far = FAR if held & _CTRL else 1
        steps = {
            Qt.Key.Key_Left: (-far, 0),
            Qt.Key.Key_Right: (far, 0),
            Qt.Key.Key_Up: (0, -far),
            Qt.Key.Key_Down: (0, far),
            Qt.Key.Key_PageUp: (0, -grid.rows),
            Qt.Key.Key_PageDown: (0, grid.rows),
        }
        if key == Qt.Key.Key_Home:
            self.set_cursor_chunk(0)
        elif key == Qt.Key.Key_End:
            self.set_cursor_chunk(self.frame.chunks - 1)
        elif key in steps:
            self.step(*steps[Qt.Key(key)])
        else:
            return False
        return True

    def _act_by_key(self, key: int, held: Qt.KeyboardModifier) -> bool:
        if key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(1)
        elif key in (Qt.Key.Key_Minus, Qt.Key.Key_Underscore):
            self.zoom(-1)
        elif key == Qt.Key.Key_0:
            self.fit()
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not held & _CTRL:
            self.inspect_requested.emit(self.cursor_chunk)
        elif key == Qt.Key.Key_N and not held & _CTRL:
            self.find_marked(self.frame.words.failed, forward=not held & _SHIFT)
        elif key == Qt.Key.Key_D and not held & _CTRL:
            self.find_marked(self.frame.words.dirty, forward=not held & _SHIFT)
        elif key == Qt.Key.Key_F and not held & _CTRL:
            self.set_following(not self._following)
            self.refresh()
        elif key == Qt.Key.Key_Escape and self.selection is not None:
            self.select(None)
        else:
            return False
        return True

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.cursor_shown = True
        self.repaint_items()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.cursor_shown = False
        self.repaint_items()

    # ---- mouse --------------------------------------------------------------------------------

    def _cell_at(self, point: QPointF) -> int | None:
        cell = self.viewport_.view.grid.index_at(point.x(), point.y())
        return cell if cell is not None and cell < self.viewport_.cells else None

    def _chunk_near(self, point: QPointF) -> int:
        cell = self.viewport_.view.grid.nearest(point.x(), point.y())
        return self.viewport_.chunks_of(min(cell, self.viewport_.cells - 1))[0]

    def wheelEvent(self, event: QWheelEvent) -> None:
        self._wheel += event.angleDelta().y()
        steps = int(self._wheel / WHEEL_STEP)
        self._wheel -= steps * WHEEL_STEP
        event.accept()
        if not steps:
            return
        if event.modifiers() & _CTRL:
            self.viewport_.set_preferred_cell(round(self.viewport_.preferred_cell) + steps)
            self.view_changed()
            return
        point = event.position()
        cell = self.viewport_.view.grid.nearest(point.x(), point.y())
        self.zoom(steps, min(cell, self.viewport_.cells - 1))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._hide_tooltip()
        if event.button() != _LEFT:
            return
        self._pressed, self._dragging = event.position(), False
        self._pressed_first = self.viewport_.view.first
        if event.modifiers() & _SHIFT:
            self._select_from = self._chunk_near(event.position())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        point = event.position()
        if self._pressed is None:
            self._hover(point)
            return
        moved = (point - self._pressed).manhattanLength()
        self._dragging = self._dragging or moved >= QApplication.startDragDistance()
        if not self._dragging:
            return
        if self._select_from is not None:
            self._drag_selection(self._select_from, self._chunk_near(point))
        elif not self.viewport_.is_fit:
            self._drag_view(point - self._pressed)

    def _drag_selection(self, chunk: int, other: int) -> None:
        first, last = sorted((chunk, other))
        self.select((first, min(last + self.viewport_.view.per_cell, self.frame.chunks)))

    def _drag_view(self, moved: QPointF) -> None:
        self.viewport().setCursor(Qt.CursorShape.ClosedHandCursor)
        view = self.viewport_.view
        cells = round(moved.y() / view.grid.cell) * view.grid.columns
        if view.grid.order is CellOrder.ROWS:
            cells += round(moved.x() / view.grid.cell)
        first = self._pressed_first - cells * view.per_cell
        if first != view.first:
            self.start_at(max(first, 0))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() != _LEFT or self._pressed is None:
            return
        clicked = not self._dragging
        self._pressed, self._select_from, self._dragging = None, None, False
        self.viewport().unsetCursor()
        cell = self._cell_at(event.position())
        if clicked and cell is not None:
            if self.selection is not None:
                self.select(None)
            chunk = self.viewport_.chunks_of(cell)[0]
            self.set_cursor_chunk(chunk)
            self.inspect_requested.emit(chunk)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        cell = self._cell_at(event.position())
        if event.button() == _LEFT and cell is not None:
            self.one_to_one(cell)

    # ---- tooltip ------------------------------------------------------------------------------

    def _hover(self, point: QPointF) -> None:
        cell = self._cell_at(point)
        if cell == self._hovered:
            return
        self._hovered = cell
        if cell is None:
            self._hide_tooltip()
        elif QToolTip.isVisible():
            self._show_tooltip()
        else:
            self._hover_timer.start()

    def _show_tooltip(self) -> None:
        if self._hovered is None or self._hovered >= self.viewport_.cells:
            return
        grid = self.viewport_.view.grid
        x, y = grid.corner(self._hovered)
        below = QPoint(round(x + grid.cell / 2), round(y + grid.cell))
        QToolTip.showText(self.mapToGlobal(below), self.tooltip_text(self._hovered), self)

    def tooltip_text(self, cell: int) -> str:
        """Return what hovering over a cell of the view tells."""
        view = self.viewport_.view
        first, end = self.viewport_.chunks_of(cell)
        return texts.tooltip(self.frame, first, end, view.first // view.per_cell + cell)

    def _hide_tooltip(self) -> None:
        self._hover_timer.stop()
        self._hovered = None
        QToolTip.hideText()

    def leaveEvent(self, event: object) -> None:
        super().leaveEvent(event)
        self._hide_tooltip()

    # ---- context menu -------------------------------------------------------------------------

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if event.reason() is QContextMenuEvent.Reason.Mouse:
            cell = self._cell_at(QPointF(event.pos()))
            if cell is not None:
                self.set_cursor_chunk(self.viewport_.chunks_of(cell)[0])
        self._menu = self.make_menu()
        self._menu.popup(event.globalPos())

    def make_menu(self) -> QMenu:
        """Make the menu for the cell under the cursor."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(tr("Copy offset")).triggered.connect(self._copy_offset)
        if self.selection is not None:
            menu.addAction(tr("Copy range")).triggered.connect(self._copy_range)
        menu.addAction(tr("Inspect")).triggered.connect(self._inspect_cursor)
        menu.addAction(tr("Find in errors")).triggered.connect(self._find_in_errors)
        menu.addSeparator()
        menu.addAction(tr("Zoom to single chunks here")).triggered.connect(self._one_to_one_here)
        reset = menu.addAction(tr("Reset zoom"))
        reset.triggered.connect(self.fit)
        reset.setEnabled(not self.viewport_.is_fit)
        return menu

    def _cursor_range(self) -> tuple[int, int]:
        if self.selection is not None:
            return self.selection
        cell = self.viewport_.cell_of(self.cursor_chunk)
        if cell is None:
            return self.cursor_chunk, min(self.cursor_chunk + 1, self.frame.chunks)
        return self.viewport_.chunks_of(cell)

    def _copy_offset(self) -> None:
        offset = self.cursor_chunk * self.frame.granularity
        QGuiApplication.clipboard().setText(str(offset))

    def _copy_range(self) -> None:
        offset, length = self.frame.range_of(*self._cursor_range())
        QGuiApplication.clipboard().setText(f"{offset} {length}")

    def _inspect_cursor(self) -> None:
        self.inspect_requested.emit(self.cursor_chunk)

    def _find_in_errors(self) -> None:
        self.errors_requested.emit(self._cursor_range())

    def _one_to_one_here(self) -> None:
        self.one_to_one()
