"""Pictures over the map that change seldom and cost much: kept until what they show changes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPixmap

from mirrorgui.ui.heatmap import colors, marks
from mirrorgui.ui.heatmap.colors import Cells, MapPalette
from mirrorgui.ui.heatmap.geometry import Area, Grid
from mirrorgui.ui.heatmap.texts import short_place
from mirrorgui.ui.heatmap.viewport import View

FEW_CROSSES = 300
"""So many are painted one by one; with more, the picture of all of them is kept."""

LABEL_PIXELS = 11

_Key = tuple[object, ...]


class KeptPicture:
    """A transparent picture as large as the map, drawn anew only for another key."""

    def __init__(self) -> None:
        self._key: _Key | None = None
        self._picture = QPixmap()

    def paint(
        self, painter: QPainter, area: Area, key: _Key, draw: Callable[[QPainter], None]
    ) -> None:
        """Paint the picture; ``draw`` makes it when the key is another one than before."""
        if (area, *key) != self._key:
            self._key = (area, *key)
            self._picture = _blank(area)
            onto = QPainter(self._picture)
            draw(onto)
            onto.end()
        painter.drawPixmap(QPointF(0, 0), self._picture)


def _blank(area: Area) -> QPixmap:
    made = QPixmap(round(area.width * area.ratio), round(area.height * area.ratio))
    made.setDevicePixelRatio(area.ratio)
    made.fill(Qt.GlobalColor.transparent)
    return made


class CrossLayer(KeptPicture):
    """Crosses on failed cells."""

    def show(
        self, painter: QPainter, area: Area, grid: Grid, failed: NDArray[np.int64], cross: QPixmap
    ) -> None:
        """Paint a cross on each failed cell."""

        def draw(onto: QPainter) -> None:
            for x, y in grid.corners(failed).tolist():
                onto.drawPixmap(QPointF(x, y), cross)

        if len(failed) <= FEW_CROSSES:
            draw(painter)
        else:
            self.paint(painter, area, (grid, failed.tobytes(), cross.cacheKey()), draw)


class LabelLayer(KeptPicture):
    """Offsets in cells that are large enough for them."""

    def show(
        self,
        painter: QPainter,
        area: Area,
        view: View,
        cells: Cells,
        palette: MapPalette,
        granularity: int,
        font: QFont,
    ) -> None:
        """Write each cell's offset into it, readable on the cell's colour."""

        def draw(onto: QPainter) -> None:
            small = QFont(font)
            small.setPixelSize(LABEL_PIXELS)
            onto.setFont(small)
            table = colors.opaque_table(palette)[: colors.FAILED + 1, :3].tolist()
            inks = [QColor(marks.readable_on(colors.to_name(tuple(rgb)))) for rgb in table]
            where = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom
            for cell, (x, y) in enumerate(view.grid.corners(np.arange(len(cells))).tolist()):
                onto.setPen(inks[cells[cell]])
                offset = (view.first + cell * view.per_cell) * granularity
                inside: QRectF = marks.body(x, y, view.grid.cell).adjusted(3, 3, -3, -3)
                onto.drawText(inside, where, short_place(offset))

        self.paint(painter, area, (view, palette, cells.tobytes(), granularity), draw)
