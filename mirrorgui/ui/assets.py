"""Pictures that ship with the application, drawn in the colours of the theme."""

import weakref
from functools import lru_cache
from pathlib import Path

import shiboken6
from PySide6.QtCore import QByteArray, QObject, QRectF, QSize, Qt
from PySide6.QtGui import QAction, QColor, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel

from mirrorgui.ui import theme

APPLICATION_ID = "io.github.mirrorgui.mirrorgui"

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE.parent / "_resources", _HERE.parent.parent / "resources")
"""Inside the wheel, and beside the package in a checkout."""

_SIZES = (16, 20, 24, 32, 40, 48, 64, 96, 128)
"""Device pixels; up to 64 points on a screen of 200 %."""

_NAME = "mirrorgui-icons"


def resource_folder() -> Path:
    """Return the folder of shipped files."""
    return next((place for place in _PLACES if place.is_dir()), _PLACES[0])


def resource(relative: str) -> Path | None:
    """Return the path of a shipped file, or None when there is no such file."""
    for place in _PLACES:
        if (place / relative).is_file():
            return place / relative
    return None


@lru_cache(maxsize=256)
def _svg(name: str) -> bytes | None:
    path = resource(f"icons/actions/{name}.svg")
    return path.read_bytes() if path is not None else None


def pixmap(name: str, color: str, pixels: int) -> QPixmap:
    """Draw an icon as a square of ``pixels`` device pixels; empty when there is no such icon."""
    picture = QPixmap(QSize(pixels, pixels))
    picture.fill(Qt.GlobalColor.transparent)
    source = _svg(name)
    if source is None:
        return picture
    renderer = QSvgRenderer(QByteArray(source.replace(b"currentColor", color.encode())))
    painter = QPainter(picture)
    renderer.render(painter, QRectF(0, 0, pixels, pixels))
    painter.end()
    return picture


@lru_cache(maxsize=256)
def icon(name: str, color: str, disabled: str = "") -> QIcon:
    """Make an icon in a colour, and greyed in another one for its disabled state."""
    made = QIcon()
    if _svg(name) is None:
        return made
    for pixels in _SIZES:
        made.addPixmap(pixmap(name, color, pixels))
        if disabled:
            made.addPixmap(pixmap(name, disabled, pixels), QIcon.Mode.Disabled)
    return made


def application_icon() -> QIcon:
    """Return the application's own icon."""
    path = resource(f"icons/hicolor/scalable/apps/{APPLICATION_ID}.svg")
    return QIcon(str(path)) if path is not None else QIcon()


class Icons(QObject):
    """Gives buttons, actions and labels their icons, again whenever light and dark change places.

    There is one for each application: ``icons_of(app)``.
    """

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self.setObjectName(_NAME)
        self._given: weakref.WeakKeyDictionary[QObject, tuple[str, str, int]] = (
            weakref.WeakKeyDictionary()
        )
        theme.theme_of(app).changed.connect(self._draw_all)

    def give(self, target: QObject, name: str, color: str = "text", size: int = 20) -> None:
        """Show an icon on a button, an action or a label.

        Args:
            target: what shows it.
            name: the icon's name.
            color: which of ``ThemeColors`` it is drawn in.
            size: its side in points, for labels.
        """
        if self._given.get(target) == (name, color, size):
            return
        self._given[target] = (name, color, size)
        self._draw(target, name, color, size)

    def _draw_all(self) -> None:
        for target, given in list(self._given.items()):
            if shiboken6.isValid(target):
                self._draw(target, *given)

    def _draw(self, target: QObject, name: str, color: str, size: int) -> None:
        colors = theme.current()
        paint = str(getattr(colors, color))
        if isinstance(target, QLabel):
            ratio = target.devicePixelRatioF()
            picture = pixmap(name, paint, round(size * ratio))
            picture.setDevicePixelRatio(ratio)
            target.setPixmap(picture)
        elif isinstance(target, (QAbstractButton, QAction)):
            target.setIcon(icon(name, paint, faded(colors)))


def faded(colors: theme.ThemeColors) -> str:
    """Return the colour of disabled icons: half way between writing and ground."""
    muted, ground = QColor(colors.muted), QColor(colors.window)
    return QColor(
        (muted.red() + ground.red()) // 2,
        (muted.green() + ground.green()) // 2,
        (muted.blue() + ground.blue()) // 2,
    ).name()


def icons_of(app: QApplication | None = None) -> Icons:
    """Return the application's icons; the first call makes the book.

    Raises:
        TypeError: there is no application yet.
    """
    owner = app if app is not None else QApplication.instance()
    if not isinstance(owner, QApplication):
        raise TypeError("icons need a running QApplication")
    found = owner.findChild(Icons, _NAME)
    return found if found is not None else Icons(owner)
