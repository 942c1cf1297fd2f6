"""The picture of the map: cells as one indexed image, and marks painted over it.

Drawing only; ``map_view`` adds the mouse, the keyboard and the words.
"""

import time

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QImage, QPainter, QPainterPath, QPen, QPixmap
from PySide6.QtWidgets import QWidget

from mirrorgui.ui.heatmap import colors, marks
from mirrorgui.ui.heatmap.cells import CellCounts
from mirrorgui.ui.heatmap.colors import Cells, MapPalette
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.geometry import Area, CellOrder, Grid
from mirrorgui.ui.heatmap.layers import CrossLayer, LabelLayer
from mirrorgui.ui.heatmap.viewport import Viewport
from mirrorgui.ui.pixel_view import CellsItem, PixelView

HOLD_S = 0.25
"""A chunk is shown in flight for at least this long: copying one may take a millisecond."""

FRAMES_EACH = 600
"""With more cells in flight than this, those in a row share a frame."""

SELECTION_ALPHA = 70

Indices = NDArray[np.int64]


class MapCanvas(PixelView):
    """Paints a ``MapFrame`` as seen through a ``Viewport``.

    Attributes:
        frame: what is shown; ``refresh`` after it changed.
        viewport_: which part of it.
        cells: the values of the cells in view, as last painted.
        counts: their counts.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        self.frame = MapFrame()
        self.viewport_ = Viewport(1, Area(100, 100))
        self.palette_ = colors.LIGHT
        self.reduced_motion = False
        self.counts: CellCounts = self.frame.overview
        self.cells: Cells = np.zeros(0, np.uint8)
        self.cursor_chunk = 0
        self.cursor_shown = False
        self.cursor_pinned = False
        self.selection: tuple[int, int] | None = None
        self._held: dict[tuple[int, int], float] = {}
        self._tile: QPixmap | None = None
        self._cross = QPixmap()
        self._hatch: QBrush | None = None
        self._hatched = False
        self._crosses, self._labels = CrossLayer(), LabelLayer()
        super().__init__(parent)
        self._image = CellsItem()
        self._image.setZValue(1)
        self.addItem(self._image)
        self.add_painted(self._paint_ground, 0)
        self.add_painted(self._paint_marks, 2)
        self._apply_palette()

    # ---- what is shown -------------------------------------------------------------------------

    def set_frame(self, frame: MapFrame) -> None:
        """Show another image from its whole."""
        self.frame = frame
        order, preferred = self.viewport_.order, self.viewport_.preferred_cell
        self.viewport_ = Viewport(max(frame.chunks, 1), self.area, order)
        self.viewport_.set_preferred_cell(preferred)
        self._held.clear()
        self.cursor_chunk = 0
        self.selection = None
        self.view_changed()

    def set_map_palette(self, palette: MapPalette) -> None:
        """Use other colours."""
        self.palette_ = palette
        self._apply_palette()
        self.view_changed()

    def _apply_palette(self) -> None:
        self.set_ground(self.palette_.ground)

    def set_order(self, order: CellOrder) -> None:
        """Lay cells out by rows or along a Hilbert curve."""
        self.viewport_.set_order(order)
        self.view_changed()

    def view_changed(self) -> None:
        """Make what depends on the raster anew, and paint."""
        grid, ratio = self.viewport_.view.grid, self.area.ratio
        self._tile = marks.gap_tile(grid.cell, ratio, self.palette_.ground)
        self._cross = marks.cross(grid.cell, ratio, self.palette_)
        large = grid.cell >= marks.HATCH_CELL
        self._hatch = marks.hatch_brush(ratio, self.palette_) if large else None
        self._image.setPos(grid.left, grid.top)
        self._image.setScale(grid.cell)
        self.frame.set_overview_scale(self.viewport_.fit_per_cell)
        self.refresh()

    def refresh(self) -> None:
        """Count the cells in view and paint them."""
        view = self.viewport_.view
        self.counts = self.frame.counts(view)
        self.cells = colors.encode(self.counts)
        self._hold_in_flight()
        self._hatched = self._hatch is not None and colors.NOT_ALLOCATED in self.cells
        table = colors.lookup_table if self._hatched else colors.opaque_table
        self._image.setLookupTable(table(self.palette_), update=False)
        self._image.show_values(view.grid.raster(self.cells, colors.OUTSIDE))
        self.repaint_items()

    def _hold_in_flight(self) -> None:
        now = time.monotonic()
        current = [(begin, end) for begin, end in self.frame.in_flight.tolist()]
        hold = 0.0 if self.reduced_motion else HOLD_S
        self._held = {
            span: seen for span, seen in self._held.items() if now - seen < hold
        } | dict.fromkeys(current, now)

    def resized(self) -> None:
        self.viewport_.resize(self.area)
        self.view_changed()

    # ---- cells --------------------------------------------------------------------------------

    @property
    def is_holding(self) -> bool:
        """Whether frames are shown that will have to go, though nothing else changes."""
        return bool(self._held)

    def in_flight_cells(self) -> Indices:
        """Return the cells in view that have a frame: in flight now, or a moment ago."""
        view, port = self.viewport_.view, self.viewport_
        found = [
            np.arange(
                (max(begin, view.first) - view.first) // view.per_cell,
                -(-(min(end, port.end) - view.first) // view.per_cell),
            )
            for begin, end in self._held
            if begin < port.end and end > view.first
        ]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def failed_cells(self) -> Indices:
        """Return the cells in view that have a cross."""
        return np.flatnonzero(self.cells == colors.FAILED)

    # ---- painting -----------------------------------------------------------------------------

    def _raster_rect(self) -> QRectF:
        grid = self.viewport_.view.grid
        return QRectF(grid.left, grid.top, grid.columns * grid.cell, grid.rows * grid.cell)

    def _paint_ground(self, painter: QPainter) -> None:
        """Paint what shows where the image is transparent: the hatch of what is not allocated."""
        if self._hatched and self._hatch is not None:
            painter.fillRect(self._raster_rect(), self._hatch)

    def _paint_marks(self, painter: QPainter) -> None:
        self._paint_gaps(painter)
        self._paint_crosses(painter)
        self._paint_labels(painter)
        self._paint_frames(painter)
        self._paint_selection(painter)
        self._paint_cursor(painter)

    def _paint_gaps(self, painter: QPainter) -> None:
        """Part the cells: by lines, or by a tile with round corners when they are large."""
        grid, area = self.viewport_.view.grid, self._raster_rect()
        gap = marks.gap_of(grid.cell)
        if self._tile is not None:
            painter.drawTiledPixmap(area, self._tile)
        elif gap:
            ground = QColor(self.palette_.ground)
            for column in range(1, grid.columns + 1):
                right = grid.left + column * grid.cell
                painter.fillRect(QRectF(right - gap, grid.top, gap, area.height()), ground)
            for row in range(1, grid.rows + 1):
                below = grid.top + row * grid.cell
                painter.fillRect(QRectF(grid.left, below - gap, area.width(), gap), ground)

    def _paint_crosses(self, painter: QPainter) -> None:
        grid = self.viewport_.view.grid
        self._crosses.show(painter, self.area, grid, self.failed_cells(), self._cross)

    def _paint_labels(self, painter: QPainter) -> None:
        view = self.viewport_.view
        if view.grid.cell >= marks.LABEL_CELL:
            self._labels.show(
                painter,
                self.area,
                view,
                self.cells,
                self.palette_,
                self.frame.granularity,
                self.font(),
            )

    def _paint_frames(self, painter: QPainter) -> None:
        cell = self.viewport_.view.grid.cell
        spans = self._frame_spans()
        width = marks.frame_width(cell, len(spans))
        pen = QPen(QColor(self.palette_.in_flight), width)
        pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for x, y, length in spans:
            inner = marks.body(x, y, cell)
            inner.setWidth(length - marks.gap_of(cell))
            painter.drawRect(inner.adjusted(width / 2, width / 2, -width / 2, -width / 2))

    def _frame_spans(self) -> list[tuple[float, float, float]]:
        """Return corners and lengths of frames; many cells in a row share one."""
        cells, grid = self.in_flight_cells(), self.viewport_.view.grid
        corners = grid.corners(cells)
        if len(cells) <= FRAMES_EACH or grid.order is CellOrder.HILBERT:
            return [(x, y, grid.cell) for x, y in corners[: 4 * FRAMES_EACH].tolist()]
        breaks = np.flatnonzero((np.diff(cells) != 1) | (np.diff(corners[:, 1]) != 0)) + 1
        begins = np.concatenate(([0], breaks))
        lengths = np.diff(np.append(begins, len(cells))) * grid.cell
        spans: list[tuple[float, float, float]] = [
            (x, y, length)
            for (x, y), length in zip(corners[begins].tolist(), lengths.tolist(), strict=True)
        ]
        return spans

    def _paint_selection(self, painter: QPainter) -> None:
        if self.selection is None:
            return
        view, grid = self.viewport_.view, self.viewport_.view.grid
        begin, end = self.selection
        low = max((begin - view.first) // view.per_cell, 0)
        high = min(-(-(end - view.first) // view.per_cell), len(self.cells))
        if low >= high:
            return
        chosen = np.zeros(len(self.cells), np.uint8)
        chosen[low:high] = 1
        mask = grid.raster(chosen, 0)
        picture = QImage(
            mask.data, grid.columns, grid.rows, grid.columns, QImage.Format.Format_Indexed8
        )
        tint = QColor(self.palette_.cursor)
        tint.setAlpha(SELECTION_ALPHA)
        picture.setColorTable([0, tint.rgba()])
        painter.drawImage(self._raster_rect(), picture)
        if grid.order is CellOrder.ROWS:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(QColor(self.palette_.cursor), 2))
            painter.drawPath(_outline(grid, low, high))

    def _paint_cursor(self, painter: QPainter) -> None:
        cell = self.viewport_.cell_of(self.cursor_chunk)
        if cell is None or not (self.cursor_shown or self.cursor_pinned):
            return
        grid = self.viewport_.view.grid
        x, y = grid.corner(cell)
        around = marks.body(x, y, grid.cell).adjusted(-1.5, -1.5, 1.5, 1.5)
        width = 2 if self.cursor_shown else 1
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(self.palette_.ground), width + 3))
        painter.drawRect(around)
        painter.setPen(QPen(QColor(self.palette_.cursor), width))
        painter.drawRect(around)


def _outline(grid: Grid, low: int, high: int) -> QPainterPath:
    """Return the border of the cells [low, high) of a raster in rows."""
    path = QPainterPath()
    while low < high:
        row, column = divmod(low, grid.columns)
        rows = 1 if column else max((high - low) // grid.columns, 1)
        columns = min(high - low, grid.columns - column)
        x, y = grid.left + column * grid.cell, grid.top + row * grid.cell
        path.addRect(QRectF(x, y, columns * grid.cell, rows * grid.cell))
        low += columns * rows
    return path.simplified()
