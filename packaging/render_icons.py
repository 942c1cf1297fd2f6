"""Render the application's icon into the PNG sizes that desktops ask for.

Run it after a change of the drawing: ``.venv/bin/python packaging/render_icons.py``. The smallest
sizes are not the drawing made smaller, which would be a blur: they have one cell where the drawing
has two, and every edge of theirs is an edge of pixels.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

APP_ID = "io.github.mirrorgui.mirrorgui"
FOLDER = Path(__file__).parents[1] / "resources" / "icons" / "hicolor"
SIZES = (32, 48, 64, 128, 256)

GROUND, CELL, COPIED, MARKED, LINE = "#29435f", "#6cb6f2", "#5a97cb", "#f2b134", "#ffffff"


@dataclass(frozen=True)
class Grid:
    """A small icon: its three rows of one cell on each side of the line, in pixels.

    Attributes:
        size: the side of the square.
        corner: the radius of its corners.
        left: where the cells on the left begin, and as far from the other side those on the right.
        width: of a cell.
        rows: top and height of each row.
        border: of the cell that is still to be copied.
    """

    size: int
    corner: int
    left: int
    width: int
    rows: tuple[tuple[int, int], ...]
    border: int


SMALL = (
    Grid(16, 4, 2, 4, ((2, 3), (6, 4), (11, 3)), 1),
    Grid(22, 5, 3, 5, ((3, 4), (8, 6), (15, 4)), 1),
    Grid(24, 6, 3, 6, ((3, 5), (9, 6), (16, 5)), 2),
)


def empty(size: int) -> QImage:
    """Return a transparent square."""
    image = QImage(size, size, QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(Qt.GlobalColor.transparent)
    return image


def drawn(renderer: QSvgRenderer, size: int) -> QImage:
    """Return the drawing as a square of ``size`` pixels."""
    image = empty(size)
    painter = QPainter(image)
    renderer.render(painter)
    painter.end()
    return image


def fitted(grid: Grid) -> QImage:
    """Return a small icon, drawn for its pixels."""
    image = empty(grid.size)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(GROUND))
    painter.drawRoundedRect(QRect(0, 0, grid.size, grid.size), grid.corner, grid.corner)
    right = grid.size - grid.left - grid.width
    for turn, (top, height) in enumerate(grid.rows):
        is_middle = turn == 1
        source = QRect(grid.left, top, grid.width, height)
        target = QRect(right, top, grid.width, height)
        painter.fillRect(source, QColor(MARKED if is_middle else CELL))
        painter.fillRect(target, QColor(MARKED if is_middle else COPIED))
        if is_middle:
            inset = grid.border
            painter.fillRect(target.adjusted(inset, inset, -inset, -inset), QColor(GROUND))
    middle = grid.size // 2
    line = QRect(middle - 1, grid.left - 1, 2, grid.size - 2 * grid.left + 2)
    painter.fillRect(line, QColor(LINE))
    painter.end()
    return image


def save(image: QImage) -> None:
    """Save a picture where desktops look for one of its size."""
    size = image.width()
    folder = FOLDER / f"{size}x{size}" / "apps"
    folder.mkdir(parents=True, exist_ok=True)
    if not image.save(str(folder / f"{APP_ID}.png")):
        sys.exit(f"{folder / APP_ID}.png could not be written")


def main() -> None:
    """Render every size."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    app = QGuiApplication(sys.argv)
    renderer = QSvgRenderer(str(FOLDER / "scalable" / "apps" / f"{APP_ID}.svg"))
    for size in SIZES:
        save(drawn(renderer, size))
    for grid in SMALL:
        save(fitted(grid))
    app.quit()


if __name__ == "__main__":
    main()
