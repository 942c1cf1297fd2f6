"""Render the application's icon into the PNG sizes that desktops ask for.

Run it after a change of the drawing: ``.venv/bin/python packaging/render_icons.py``.
"""

import os
import sys
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

APP_ID = "io.github.mirrorgui.mirrorgui"
FOLDER = Path(__file__).parents[1] / "resources" / "icons" / "hicolor"
SIZES = (16, 22, 24, 32, 48, 64, 128, 256)


def render(renderer: QSvgRenderer, size: int, path: Path) -> None:
    """Paint the drawing into a square of ``size`` pixels and save it."""
    image = QImage(size, size, QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    renderer.render(painter)
    painter.end()
    if not image.save(str(path)):
        sys.exit(f"{path} could not be written")


def main() -> None:
    """Render every size."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    app = QGuiApplication(sys.argv)
    renderer = QSvgRenderer(str(FOLDER / "scalable" / "apps" / f"{APP_ID}.svg"))
    for size in SIZES:
        folder = FOLDER / f"{size}x{size}" / "apps"
        folder.mkdir(parents=True, exist_ok=True)
        render(renderer, size, folder / f"{APP_ID}.png")
    app.quit()


if __name__ == "__main__":
    main()
