"""Light and dark: one table of colours, the application's palette, and a signal when it changes.

The palette follows the system unless a person chose otherwise. pyqtgraph does not follow a palette
by itself: whoever draws with it connects to ``Theme.changed`` and sets its colours again.
"""

import enum
from dataclasses import dataclass

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication


class ThemeChoice(enum.Enum):
    """What a person may choose; values are what the settings store."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True, slots=True)
class ThemeColors:
    """Colours of the window and its charts, as ``#RRGGBB``. The map's are in heatmap/colors.py.

    Attributes:
        dark: whether these are for a dark window.
        window, base, raised: grounds: window, lists and pictures, buttons and cards.
        text, muted: writing, and writing of less importance (both readable on the grounds).
        border, grid: lines around things, and lines inside charts.
        accent, on_accent: selection and default button, and writing on it.
        good, warning, danger: for words and icons that are also told apart by their text.
        good_ground, warning_ground, danger_ground: grounds of message bars.
        copy, guest, limit, third: curves: copying, the guest, the speed limit, one more.
        pause: the band behind a chart while paused.
        slow: the ground of what takes too long.
    """

    dark: bool
    window: str
    base: str
    raised: str
    text: str
    muted: str
    border: str
    grid: str
    accent: str
    on_accent: str
    good: str
    warning: str
    danger: str
    good_ground: str
    warning_ground: str
    danger_ground: str
    copy: str
    guest: str
    limit: str
    third: str
    pause: str
    slow: str


_LIGHT = ThemeColors(
    dark=False,
    window="#F3F4F6",
    base="#FFFFFF",
    raised="#FAFBFC",
    text="#1B1F24",
    muted="#59626D",
    border="#D0D5DB",
    grid="#E6E9ED",
    accent="#1F6FBF",
    on_accent="#FFFFFF",
    good="#1A7A45",
    warning="#8A5A00",
    danger="#B4005F",
    good_ground="#E3F4EA",
    warning_ground="#FFF3D9",
    danger_ground="#FDE4F0",
    copy="#2F86D0",
    guest="#A65E00",
    limit="#6B7480",
    third="#7A4FBF",
    pause="#E4E7EB",
    slow="#F2B134",
)

_DARK = ThemeColors(
    dark=True,
    window="#1E2125",
    base="#16181B",
    raised="#282C31",
    text="#E7E9EC",
    muted="#A2ABB5",
    border="#3A4048",
    grid="#2A2F35",
    accent="#3C86CC",
    on_accent="#FFFFFF",
    good="#5BC98C",
    warning="#F2B134",
    danger="#FF6DB5",
    good_ground="#16301F",
    warning_ground="#3A2D10",
    danger_ground="#3F1229",
    copy="#5AA9E6",
    guest="#F2B134",
    limit="#98A2AD",
    third="#B79CF0",
    pause="#2B3036",
    slow="#E0A020",
)


def colors(dark: bool) -> ThemeColors:
    """Return the colours of the light or the dark window."""
    return _DARK if dark else _LIGHT


def is_dark(app: QGuiApplication | None = None) -> bool:
    """Say whether the application's palette is dark at this moment."""
    palette = app.palette() if app is not None else QGuiApplication.palette()
    ground = palette.color(QPalette.ColorRole.Window)
    return ground.lightness() < palette.color(QPalette.ColorRole.WindowText).lightness()


def current(app: QGuiApplication | None = None) -> ThemeColors:
    """Return the colours that fit the application's palette at this moment."""
    return colors(is_dark(app))


def palette(dark: bool) -> QPalette:
    """Make the palette of the light or the dark window."""
    table = colors(dark)
    role = QPalette.ColorRole
    made = QPalette()
    for which, name in (
        (role.Window, table.window),
        (role.WindowText, table.text),
        (role.Base, table.base),
        (role.AlternateBase, table.raised),
        (role.Text, table.text),
        (role.PlaceholderText, table.muted),
        (role.Button, table.raised),
        (role.ButtonText, table.text),
        (role.BrightText, table.danger),
        (role.ToolTipBase, table.raised),
        (role.ToolTipText, table.text),
        (role.Highlight, table.accent),
        (role.HighlightedText, table.on_accent),
        (role.Accent, table.accent),
        (role.Link, table.accent),
        (role.LinkVisited, table.third),
        (role.Light, "#4A515A" if dark else "#FFFFFF"),
        (role.Midlight, "#3A4048" if dark else "#E9ECEF"),
        (role.Mid, "#30353B" if dark else "#BFC5CC"),
        (role.Dark, "#0F1113" if dark else "#9AA2AB"),
        (role.Shadow, "#000000" if dark else "#707880"),
    ):
        made.setColor(which, QColor(name))
    faded = QColor(table.muted)
    faded.setAlphaF(0.65)
    for which in (role.WindowText, role.Text, role.ButtonText):
        made.setColor(QPalette.ColorGroup.Disabled, which, faded)
    made.setColor(QPalette.ColorGroup.Disabled, role.Highlight, QColor(table.border))
    return made


class Theme(QObject):
    """Keeps the application's palette as chosen, and says when light and dark change places.

    There is one for each application: ``theme_of(app)``.

    Signals:
        changed: the palette has been set; True when it is dark. Colours set by hand need setting
            again.
    """

    changed = Signal(bool)

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self.setObjectName(_NAME)
        self._app = app
        self._choice: ThemeChoice | None = None
        self._dark = is_dark(app)
        app.styleHints().colorSchemeChanged.connect(self._system_changed)

    @property
    def dark(self) -> bool:
        """Whether the palette is dark at this moment."""
        return self._dark

    @property
    def choice(self) -> ThemeChoice:
        """What was chosen last; the system's until then."""
        return self._choice or ThemeChoice.SYSTEM

    def choose(self, choice: ThemeChoice) -> None:
        """Set the application's style and palette by a person's choice."""
        self._choice = choice
        hints = self._app.styleHints()
        if choice is ThemeChoice.SYSTEM:
            hints.unsetColorScheme()
            dark = hints.colorScheme() is Qt.ColorScheme.Dark
        else:
            dark = choice is ThemeChoice.DARK
            hints.setColorScheme(Qt.ColorScheme.Dark if dark else Qt.ColorScheme.Light)
        self._set_palette(dark)

    def _set_palette(self, dark: bool) -> None:
        if self._app.style().name() != "fusion":
            self._app.setStyle("Fusion")
        self._app.setPalette(palette(dark))
        self._note_change()

    def _system_changed(self, scheme: Qt.ColorScheme) -> None:
        if self._choice is ThemeChoice.SYSTEM:
            self._set_palette(scheme is Qt.ColorScheme.Dark)

    def _note_change(self) -> None:
        dark = is_dark(self._app)
        if dark != self._dark:
            self._dark = dark
            self.changed.emit(dark)


_NAME = "mirrorgui-theme"


def theme_of(app: QApplication | None = None) -> Theme:
    """Return the application's theme; the first call makes it.

    Raises:
        RuntimeError: there is no application yet.
    """
    owner = app if app is not None else QApplication.instance()
    if owner is None:
        raise RuntimeError("a theme needs a running QApplication")
    assert isinstance(owner, QApplication)
    found = owner.findChild(Theme, _NAME)
    return found if found is not None else Theme(owner)
