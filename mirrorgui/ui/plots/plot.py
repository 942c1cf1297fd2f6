"""One chart: curves over time with bands for pauses, lines for events and a crosshair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QContextMenuEvent,
    QFont,
    QFontMetricsF,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPen,
    QWheelEvent,
)
from PySide6.QtWidgets import QStyleOptionGraphicsItem, QWidget

from mirrorgui.ui.plots.axes import ClockAxis
from mirrorgui.ui.plots.history import Mark, Pause
from mirrorgui.ui.theme import ThemeColors

FILL_ALPHA = 60
BAND_ALPHA = 200


@dataclass(frozen=True, slots=True)
class Curve:
    """How a field of the samples is drawn.

    Attributes:
        field: its name in the samples.
        title: its name in front of people.
        color: name of the colour in the theme.
        filled: down to 0.
        dashed: with a broken line.
    """

    field: str
    title: str
    color: str
    filled: bool = False
    dashed: bool = False


class _Backdrop(pg.GraphicsObject):
    """Bands for pauses and labelled lines for events, painted in one item."""

    def __init__(self) -> None:
        super().__init__()
        self._pauses: Sequence[Pause] = ()
        self._marks: Sequence[Mark] = ()
        self._end_s = 0.0
        self._colors: ThemeColors | None = None
        self._font = QFont()
        self.setZValue(-10)

    def show_events(
        self, pauses: Sequence[Pause], marks: Sequence[Mark], end_s: float, table: ThemeColors
    ) -> None:
        self._pauses, self._marks, self._end_s, self._colors = pauses, marks, end_s, table
        self.update()

    def boundingRect(self) -> QRectF:
        box = self.getViewBox()
        return QRectF() if box is None else QRectF(box.viewRect())

    def viewRangeChanged(self) -> None:
        self.prepareGeometryChange()

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionGraphicsItem,  # noqa: ARG002 - Qt's signature
        widget: QWidget | None = None,  # noqa: ARG002
    ) -> None:
        if self._colors is None:
            return
        view = self.boundingRect()
        for pause in self._pauses:
            begin = max(pause.begin_s, view.left())
            end = min(self._end_s if pause.end_s is None else pause.end_s, view.right())
            if end > begin:
                band = QRectF(begin, view.top(), end - begin, view.height())
                grey = QColor(self._colors.pause)
                grey.setAlpha(BAND_ALPHA)
                painter.fillRect(band, grey)
        self._paint_marks(painter, view)

    def _paint_marks(self, painter: QPainter, view: QRectF) -> None:
        assert self._colors is not None
        to_pixels = painter.transform()
        painter.save()
        painter.resetTransform()
        ratio = painter.device().devicePixelRatioF()
        painter.scale(ratio, ratio)
        font = QFont(self._font)
        font.setPointSizeF(max(font.pointSizeF() * 0.85, 6.0))
        painter.setFont(font)
        metrics = QFontMetricsF(font)
        free_from = -np.inf
        for mark in self._marks:
            if not view.left() <= mark.time_s <= view.right():
                continue
            top = to_pixels.map(QPointF(mark.time_s, view.bottom())) / ratio
            bottom = to_pixels.map(QPointF(mark.time_s, view.top())) / ratio
            if top.y() > bottom.y():
                top, bottom = bottom, top
            painter.setPen(QPen(QColor(self._colors.limit), 1, Qt.PenStyle.DotLine))
            painter.drawLine(top, bottom)
            if top.x() >= free_from:
                # Labels that would lie on another one are left out; the crosshair tells them.
                painter.setPen(QColor(self._colors.muted))
                painter.drawText(QPointF(top.x() + 3, top.y() + metrics.ascent() + 1), mark.text)
                free_from = top.x() + metrics.horizontalAdvance(mark.text) + 8
        painter.restore()


class TimePlot(pg.PlotWidget):
    """Curves of samples over the wall clock. Its scale is set from outside; the mouse only looks.

    Args:
        axis: the left axis.
        curves: what is drawn.
        transform: from a field's values to the y axis.
        times: whether times are written below.

    Signals:
        hovered: the time under the pointer (seconds since 1970), or None.
        menu_requested: where on the screen a menu shall open.
    """

    hovered = Signal(object)
    menu_requested = Signal(object)

    def __init__(
        self,
        axis: pg.AxisItem,
        curves: Sequence[Curve],
        transform: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
        *,
        times: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent, axisItems={"left": axis, "bottom": ClockAxis()})
        self.curves = tuple(curves)
        self._transform = transform
        self._backdrop = _Backdrop()
        self._lines: dict[str, pg.PlotDataItem] = {}
        self._lone: dict[str, pg.ScatterPlotItem] = {}
        item = self.getPlotItem()
        item.setMenuEnabled(False)
        item.hideButtons()
        item.setMouseEnabled(False, False)
        item.getViewBox().setDefaultPadding(0)
        item.addItem(self._backdrop, ignoreBounds=True)
        item.showGrid(x=True, y=True, alpha=1.0)
        for side in ("left", "bottom"):
            # pyqtgraph puts axes, and with them the grid, over the curves; its curves are at -100.
            item.getAxis(side).setZValue(-200)
            item.getAxis(side).setStyle(hideOverlappingLabels=False)
        item.getAxis("bottom").setStyle(showValues=times)
        item.getAxis("bottom").setHeight(None if times else 4)
        item.layout.setContentsMargins(0, 4, 8, 0)
        for curve in self.curves:
            line = pg.PlotDataItem(skipFiniteCheck=False, connect="finite")
            item.addItem(line, ignoreBounds=True)
            self._lines[curve.field] = line
            lone = pg.ScatterPlotItem(size=4, pen=None, pxMode=True)
            item.addItem(lone, ignoreBounds=True)
            self._lone[curve.field] = lone
        self.cross = pg.InfiniteLine(angle=90, movable=False)
        self.cross.hide()
        item.addItem(self.cross, ignoreBounds=True)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        event.ignore()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self.hovered.emit(self.time_at(event.position().x(), event.position().y()))

    def leaveEvent(self, event: object) -> None:  # noqa: ARG002 - Qt's signature
        self.hovered.emit(None)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu_requested.emit(event.globalPos())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        event.ignore()

    def apply_colors(self, table: ThemeColors) -> None:
        """Use the colours of the theme."""
        self.setBackground(table.base)
        for side in ("left", "bottom"):
            axis = self.getPlotItem().getAxis(side)
            axis.setPen(pg.mkPen(table.grid))
            axis.setTextPen(pg.mkPen(table.muted))
            axis.setTickPen(pg.mkPen(table.grid))
        self.cross.setPen(pg.mkPen(table.muted, width=1))
        for curve in self.curves:
            color = QColor(getattr(table, curve.color))
            style = Qt.PenStyle.DashLine if curve.dashed else Qt.PenStyle.SolidLine
            line = self._lines[curve.field]
            line.setPen(pg.mkPen(color, width=1, style=style))
            self._lone[curve.field].setBrush(pg.mkBrush(color))
            if curve.filled:
                tint = QColor(color)
                tint.setAlpha(FILL_ALPHA)
                line.setFillLevel(0.0)
                line.setFillBrush(tint)

    def show_samples(self, rows: NDArray[np.void]) -> None:
        """Draw the curves of samples."""
        for curve in self.curves:
            values = rows[curve.field]
            if self._transform is not None:
                values = self._transform(values)
            self._lines[curve.field].setData(rows["time_s"], values)
            lone = _lone_points(values)
            self._lone[curve.field].setData(rows["time_s"][lone], values[lone])

    def points(self, field: str) -> int:
        """Return how many points a curve has."""
        times = self._lines[field].xData
        return 0 if times is None else len(times)

    def show_span(self, begin_s: float, end_s: float, bottom: float, top: float) -> None:
        """Show a span of time, and of values."""
        self.getPlotItem().setRange(
            xRange=(begin_s, end_s), yRange=(bottom, top), padding=0, disableAutoRange=True
        )

    def show_events(
        self, pauses: Sequence[Pause], marks: Sequence[Mark], end_s: float, table: ThemeColors
    ) -> None:
        """Draw what happened behind the curves."""
        self._backdrop.show_events(pauses, marks, end_s, table)

    def show_cross(self, wall_s: float | None) -> None:
        """Draw the crosshair at a time, or not at all."""
        self.cross.setVisible(wall_s is not None)
        if wall_s is not None:
            self.cross.setPos(wall_s)

    def time_at(self, x: float, y: float) -> float | None:
        """Return the time at a point of the widget, or None beside the curves."""
        box = self.getPlotItem().getViewBox()
        point = self.mapToScene(QPointF(x, y).toPoint())
        if not box.sceneBoundingRect().contains(point):
            return None
        return float(box.mapSceneToView(point).x())


def _lone_points(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which values have no neighbour, so that no line would show them."""
    known = np.concatenate(([False], np.isfinite(values), [False]))
    return known[1:-1] & ~known[:-2] & ~known[2:]
