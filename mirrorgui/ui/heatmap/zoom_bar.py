"""The whole image from top to bottom beside the map, with a frame around the part in view."""

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPen, QPolygonF, QTransform, QWheelEvent
from PySide6.QtWidgets import QWidget

from mirrorgui.ui.heatmap import colors
from mirrorgui.ui.heatmap.colors import Cells, MapPalette
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.viewport import Viewport
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.pixel_view import CellsItem, PixelView

WIDTH = 26
POINTER = 7
"""Room at the right for the triangles that point at what is being copied."""
EDGE = 1
MIN_FRAME = 6.0
"""Height of the frame around a part so small that it would vanish."""
WHEEL_ROWS = 4


class ZoomBar(PixelView):
    """One row of the screen's pixels stands for an equal part of the image: its gravest state.

    Signals:
        start_requested: the view shall begin at this chunk.
        selected: ``(first, end)`` chunks were selected by dragging with the right button.
    """

    start_requested = Signal(object)
    selected = Signal(object)

    def __init__(self, port: Viewport, parent: QWidget | None = None) -> None:
        self._frame = MapFrame()
        self._port = port
        self._palette = colors.LIGHT
        self.ink = colors.LIGHT.cursor
        self._grip: float | None = None
        self._select_from: int | None = None
        self.rows: Cells = np.zeros(0, np.uint8)
        super().__init__(parent)
        self._image = CellsItem()
        self.addItem(self._image)
        self.add_painted(self._paint_marks, 1)
        self.setFixedWidth(WIDTH)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(tr("Overview"))
        self.setToolTip(tr("The whole image. Drag to scroll, drag with the right button to select"))

    def set_map_palette(self, palette: MapPalette, ground: str, ink: str) -> None:
        """Use other colours; ground and ink are those of the widget around."""
        self._palette = palette
        self.ink = ink
        self.set_ground(ground)
        self._image.setLookupTable(colors.opaque_table(palette), update=False)
        self.refresh()

    def set_source(self, frame: MapFrame, port: Viewport) -> None:
        """Show another image, and the part of it that ``port`` has in view."""
        self._frame, self._port = frame, port
        self.setAccessibleName(tr("Overview of {name}", name=frame.name))
        self.refresh()

    def refresh(self) -> None:
        """Show the latest frame."""
        ratio = self.area.ratio
        height = max(round((self.height() - 2 * EDGE) * ratio), 1)
        self.rows = colors.worst(colors.encode(self._frame.overview), height)
        self._image.show_values(self.rows[:, None])
        self._image.setTransform(QTransform.fromScale(WIDTH - POINTER - EDGE, 1 / ratio))
        self._image.setPos(EDGE, EDGE)
        self.repaint_items()

    def resized(self) -> None:
        self.refresh()

    def _chunk_at(self, y: float) -> int:
        share = (y - EDGE) / max(self.height() - 2 * EDGE, 1)
        return min(max(int(share * self._frame.chunks), 0), max(self._frame.chunks - 1, 0))

    def _y_of(self, chunk: float) -> float:
        return EDGE + chunk / max(self._frame.chunks, 1) * (self.height() - 2 * EDGE)

    def frame_rect(self) -> QRectF:
        """Return the frame around the part in view."""
        top, bottom = self._y_of(self._port.view.first), self._y_of(self._port.end)
        if bottom - top < MIN_FRAME:
            middle = min(max((top + bottom) / 2, MIN_FRAME / 2), self.height() - MIN_FRAME / 2)
            top, bottom = middle - MIN_FRAME / 2, middle + MIN_FRAME / 2
        return QRectF(0, top, WIDTH - POINTER + EDGE, bottom - top)

    def _paint_marks(self, painter: QPainter) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.ink))
        for begin, end in self._frame.in_flight.tolist():
            y = self._y_of((begin + end) / 2)
            x = float(WIDTH - POINTER + 2)
            painter.drawPolygon(QPolygonF([QPointF(x, y), QPointF(WIDTH, y - 3.5),
                                           QPointF(WIDTH, y + 3.5)]))  # fmt: skip
        if self._port.is_fit:
            return
        frame = self.frame_rect()
        veil = QColor(self._palette.ground)
        veil.setAlpha(110)
        whole = QRectF(EDGE, EDGE, WIDTH - POINTER - EDGE, self.height() - 2 * EDGE)
        painter.fillRect(QRectF(whole.left(), EDGE, whole.width(), frame.top() - EDGE), veil)
        below = QRectF(whole.left(), frame.bottom(), whole.width(), whole.bottom() - frame.bottom())
        painter.fillRect(below, veil)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(self._palette.cursor), 2))
        painter.drawRoundedRect(frame.adjusted(1, 0, -1, 0), 2, 2)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        y = event.position().y()
        if event.button() == Qt.MouseButton.RightButton:
            self._select_from = self._chunk_at(y)
        elif event.button() == Qt.MouseButton.LeftButton:
            frame = self.frame_rect()
            inside = frame.top() <= y <= frame.bottom()
            self._grip = y - frame.top() if inside else frame.height() / 2
            self._scroll_to(y)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        y = event.position().y()
        if self._select_from is not None:
            first, last = sorted((self._select_from, self._chunk_at(y)))
            self.selected.emit((first, min(last + 1, self._frame.chunks)))
        elif self._grip is not None:
            self._scroll_to(y)

    def _scroll_to(self, y: float) -> None:
        if self._grip is not None and not self._port.is_fit:
            row = self._port.view.grid.columns * self._port.view.per_cell
            self.start_requested.emit(self._chunk_at(y - self._grip) // row * row)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._grip, self._select_from = None, None
        event.accept()

    def wheelEvent(self, event: QWheelEvent) -> None:
        view = self._port.view
        rows = -WHEEL_ROWS if event.angleDelta().y() > 0 else WHEEL_ROWS
        first = view.first + rows * view.grid.columns * view.per_cell
        self.start_requested.emit(max(first, 0))
        event.accept()
