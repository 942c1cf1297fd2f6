"""Small pictures that cells are made of: gaps, crosses, hatches. Sharp on any screen."""

from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPainterPath, QPen, QPixmap

from mirrorgui.ui.heatmap.colors import MapPalette

GAP_CELL = 6.0
"""Below this side cells touch: a gap would take more than it shows."""
ROUND_CELL = 16.0
HATCH_CELL = 12.0
LABEL_CELL = 48.0
LABEL_HEIGHT = 14.0
CROSS_CELL = 6.0
"""Below this side a dot stands for the cross."""

FEW_FRAMES = 32

TILED = 8
"""Cells on a side of a tile: blitting every cell by itself would cost more than its pixels."""

HATCH_STEP = 6
"""Distance of hatch lines, device-independent pixels."""
HATCH_TILED = 16
"""Lines in a tile: Qt copies a tile's rows, and short ones cost more to begin than to copy."""


def gap_of(cell: float) -> float:
    """Return the gap between cells of a side."""
    if cell < GAP_CELL:
        return 0.0
    return 1.0 if cell < ROUND_CELL else 2.0


def radius_of(cell: float) -> float:
    """Return the radius of a cell's corners."""
    return 0.0 if cell < ROUND_CELL else min(cell / 10, 4.0)


def body(x: float, y: float, cell: float) -> QRectF:
    """Return the part of a cell that is not gap."""
    gap = gap_of(cell)
    return QRectF(x, y, cell - gap, cell - gap)


def _blank(side: float, ratio: float) -> QPixmap:
    pixels = max(round(side * ratio), 1)
    made = QPixmap(pixels, pixels)
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    return made


def gap_tile(cell: float, ratio: float, ground: str) -> QPixmap | None:
    """Return what lies over cells with round corners, several of them at once; None without."""
    if not radius_of(cell):
        return None
    made = _blank(cell * TILED, ratio)
    outer, inner = QPainterPath(), QPainterPath()
    outer.addRect(QRectF(0, 0, cell * TILED, cell * TILED))
    for number in range(TILED * TILED):
        row, column = divmod(number, TILED)
        inside = body(column * cell, row * cell, cell)
        inner.addRoundedRect(inside, radius_of(cell), radius_of(cell))
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.fillPath(outer.subtracted(inner), QColor(ground))
    painter.end()
    return made


def cross(cell: float, ratio: float, palette: MapPalette) -> QPixmap:
    """Return the mark of a failed cell: a cross, or a dot where a cross would not be seen."""
    made = _blank(cell, ratio)
    inside = body(0, 0, cell)
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    if cell < CROSS_CELL:
        side = min(3.0, cell - 1)
        dot = QRectF(0, 0, side, side)
        dot.moveCenter(QRectF(0, 0, cell, cell).center())
        painter.fillRect(dot.toRect(), QColor(palette.mark))
    else:
        if cell >= LABEL_CELL:
            inside.adjust(LABEL_HEIGHT / 2, 0, -LABEL_HEIGHT / 2, -LABEL_HEIGHT)
        edge = max(inside.width() * 0.24, 1.0)
        arms = inside.adjusted(edge, edge, -edge, -edge)
        width = max(cell / 8, 1.2)
        pen = QPen(QColor(palette.mark), width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap)
        painter.setPen(pen)
        painter.drawLines(
            [
                QLineF(arms.topLeft(), arms.bottomRight()),
                QLineF(arms.topRight(), arms.bottomLeft()),
            ]
        )
    painter.end()
    return made


def hatch_brush(ratio: float, palette: MapPalette) -> QBrush:
    """Return the ground of what is not allocated: quiet, with diagonal lines."""
    side = float(HATCH_STEP * HATCH_TILED)
    made = _blank(side, ratio)
    made.fill(QColor(palette.not_allocated))
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor(palette.hatch), 1.2))
    for number in range(-HATCH_TILED, HATCH_TILED + 1):
        shift = number * float(HATCH_STEP)
        painter.drawLine(QPointF(shift - 1, side + 1), QPointF(shift + side + 1, -1))
    painter.end()
    return QBrush(made)


def frame_width(cell: float, cells: int) -> float:
    """Return the width of the frame around each of so many cells in flight.

    A lone one has to be found; a crowd of small ones would hide what they stand for.
    """
    return 2.0 if cell >= HATCH_CELL or (cell >= GAP_CELL and cells <= FEW_FRAMES) else 1.0


def readable_on(color: str) -> str:
    """Return black or white, whichever is read better on a colour."""
    ground = QColor(color)
    light = 0.299 * ground.red() + 0.587 * ground.green() + 0.114 * ground.blue()
    return "#000000" if light > 130 else "#FFFFFF"
