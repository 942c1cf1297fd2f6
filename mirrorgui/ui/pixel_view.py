"""A pyqtgraph view whose scene is the widget's own pixels: no ranges, no mouse modes, no menus."""

from collections.abc import Callable

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QRectF, Qt
from PySide6.QtGui import (
    QColor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QGraphicsView, QStyleOptionGraphicsItem, QWidget

from mirrorgui.ui.heatmap.geometry import Area

MAX_DRIFT = 0.3
"""How far a scaled pixel may be out of its place, in pixels of the screen; half of one is seen."""


class PaintedItem(pg.GraphicsObject):
    """An item that a function paints, as large as its view."""

    def __init__(self, paint: Callable[[QPainter], None], z: float) -> None:
        super().__init__()
        self._paint = paint
        self._bounds = QRectF()
        self.setZValue(z)

    def set_bounds(self, bounds: QRectF) -> None:
        """Cover another rectangle of the scene."""
        self.prepareGeometryChange()
        self._bounds = bounds

    def boundingRect(self) -> QRectF:
        return self._bounds

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionGraphicsItem,  # noqa: ARG002 - Qt's signature
        widget: QWidget | None = None,  # noqa: ARG002
    ) -> None:
        self._paint(painter)


class CellsItem(pg.ImageItem):
    """An indexed image of few pixels, drawn much larger.

    Qt scales 32 bit images on a fast way and indexed ones pixel by pixel: three times as long for
    a large window. Converting the few pixels costs nothing beside that.
    """

    def __init__(self) -> None:
        super().__init__(axisOrder="row-major", autoDownsample=False)

    def render(self) -> None:
        super().render()
        if self.qimage is not None:
            transparent = self.qimage.hasAlphaChannel()
            kind = QImage.Format
            self.qimage = self.qimage.convertToFormat(
                kind.Format_ARGB32_Premultiplied if transparent else kind.Format_RGB32
            )

    def paint(self, painter: QPainter, *args: object) -> None:  # noqa: ARG002 - Qt's
        if self.image is None:
            return
        if self._renderRequired:
            self.render()
        if self._unrenderable or self.qimage is None:
            return
        to_device = painter.deviceTransform()
        across = _exact_length(abs(to_device.m11()))
        down = _exact_length(abs(to_device.m22()))
        picture: QImage = self.qimage
        for y in range(0, picture.height(), down):
            for x in range(0, picture.width(), across):
                width = min(across, picture.width() - x)
                height = min(down, picture.height() - y)
                part = QRectF(x, y, width, height)
                painter.drawImage(part, picture, part)

    def show_values(self, values: NDArray[np.uint8]) -> None:
        """Show other values: rows by columns."""
        self.setImage(values, autoLevels=False, levels=(0, 255))


def _exact_length(scale: float) -> int:
    """Return how many pixels in a row Qt scales without being half a pixel out at the end.

    Its fast way steps through the source by a fraction of 16 bits, cut off: an error that grows
    with every pixel drawn, and by the scale.
    """
    return max(int(MAX_DRIFT * 65536 / max(scale, 1.0) ** 2), 1)


class PixelView(pg.GraphicsView):
    """Items in device-independent pixels of the widget.

    Subclasses handle the mouse and the keyboard themselves; pyqtgraph's own handling is off.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        self._painted: list[PaintedItem] = []
        super().__init__(parent, useOpenGL=False, background=None)
        self.setCentralItem(None)
        self.setCacheMode(QGraphicsView.CacheModeFlag.CacheNone)
        self.setViewportUpdateMode(QGraphicsView.ViewportUpdateMode.FullViewportUpdate)
        # Else it would count as one more place for the keyboard, and a nameless one.
        self.viewport().setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)

    def close(self) -> bool:
        """Close as any widget does; pyqtgraph's own way takes the viewport away, and crashes."""
        return QGraphicsView.close(self)

    def add_painted(self, paint: Callable[[QPainter], None], z: float) -> PaintedItem:
        """Add an item that ``paint`` draws in the view's pixels; higher ``z`` lies above."""
        item = PaintedItem(paint, z)
        item.set_bounds(QRectF(self.rect()))
        self._painted.append(item)
        self.addItem(item)
        return item

    def repaint_items(self) -> None:
        """Draw everything anew at the next chance."""
        self.viewport().update()

    def set_ground(self, color: str) -> None:
        """Set the colour behind everything."""
        self.setBackground(QColor(color))

    @property
    def area(self) -> Area:
        """The widget's room."""
        return Area(self.width(), self.height(), self.devicePixelRatioF())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if event is None:  # pyqtgraph's constructor: the subclass is not there yet
            return
        for item in self._painted:
            item.set_bounds(QRectF(self.rect()))
        self.resized()

    def resized(self) -> None:
        """Subclasses follow the widget's new size, or its screen's other resolution, here."""

    def event(self, event: QEvent) -> bool:
        handled = bool(super().event(event))
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self.resized()
        return handled

    def keyPressEvent(self, event: QKeyEvent) -> None:
        event.ignore()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()

    def leaveEvent(self, event: object) -> None:
        """Leave pyqtgraph's hover handling alone: nothing here uses it."""
