"""About this program, and its keys."""

import platform
from importlib import metadata

from PySide6.QtCore import Qt, qVersion
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

import mirrorgui
from mirrorgui.ui.assets import application_icon
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look

_LICENCE = "LGPL-2.1-or-later"
_LIBRARIES = (
    ("PySide6-Essentials", "LGPL-3.0"),
    ("pyqtgraph", "MIT"),
    ("qasync", "BSD-2-Clause"),
    ("jeepney", "MIT"),
    ("numpy", "BSD-3-Clause"),
    ("bitarray", "PSF-2.0"),
    ("zstandard", "BSD-3-Clause"),
)


def versions() -> tuple[tuple[str, str, str], ...]:
    """Return name, version and licence of what this program is made of."""
    return (
        ("MirrorGUI", mirrorgui.__version__, _LICENCE),
        ("Python", platform.python_version(), "PSF-2.0"),
        ("Qt", qVersion(), "LGPL-3.0"),
        *((name, _version(name), licence) for name, licence in _LIBRARIES),
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # frozen into one folder, without its metadata
        return ""


class _TextDialog(QDialog):
    def __init__(self, title: str, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(24, 20, 24, 16)
        self.column.setSpacing(14)
        self.buttons = QHBoxLayout()
        self.buttons.addStretch(1)
        self.close_button = QPushButton(tr("&Close"), self)
        self.close_button.setDefault(True)
        self.close_button.clicked.connect(self.accept)
        self.buttons.addWidget(self.close_button)

    def finish(self) -> None:
        self.column.addLayout(self.buttons)


class AboutDialog(_TextDialog):
    """Versions and licences."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("About MirrorGUI"), parent)
        picture = QLabel(self)
        picture.setPixmap(application_icon().pixmap(64, 64))
        name = QLabel("MirrorGUI", self)
        set_look(name, "hero")
        text = QLabel(tr("Mirror a disk image while it is in use, and watch it happen."), self)
        set_look(text, "muted")
        words = QVBoxLayout()
        words.addWidget(name)
        words.addWidget(text)
        top = QHBoxLayout()
        top.setSpacing(16)
        top.addWidget(picture)
        top.addLayout(words, 1)
        self.column.addLayout(top)
        form = QFormLayout()
        form.setHorizontalSpacing(20)
        for part, version, licence in versions():
            form.addRow(part, QLabel(f"{version}   ({licence})", self))
        self.column.addLayout(form)
        self.copy = QPushButton(tr("Cop&y versions"), self)
        self.copy.clicked.connect(self._copy)
        self.buttons.insertWidget(0, self.copy)
        self.finish()

    def _copy(self) -> None:
        lines = [f"{part} {version}" for part, version, _licence in versions()]
        lines.append(platform.platform())
        QGuiApplication.clipboard().setText("\n".join(lines))


def keyboard_map() -> tuple[tuple[str, str], ...]:
    """Return all keys with what they do."""
    return (
        ("Ctrl+N", tr("New mirror")),
        ("Ctrl+O", tr("Open an image as source")),
        ("Ctrl+Return", tr("Complete: switch to the target (asks)")),
        ("Space", tr("Pause or resume (in the list of mirrors)")),
        ("Ctrl+L", tr("Speed limit")),
        ("Ctrl+1 ... Ctrl+5", tr("Map, charts, errors, clients, log")),
        ("Ctrl+E", tr("Errors")),
        ("Ctrl+F", tr("Find in errors or log")),
        ("F5", tr("Look at the images again (in New mirror)")),
        ("F6, Shift+F6", tr("Next, previous pane")),
        ("Ctrl++, Ctrl+-, Ctrl+0", tr("Map: closer, farther, the whole image")),
        ("Ctrl+Shift+S", tr("Save a picture of the map")),
        ("F11", tr("Full screen")),
        ("Delete", tr("Remove an ended mirror from the list")),
        ("Ctrl+W, Ctrl+Q", tr("Close (asks while a mirror runs)")),
    )


class KeysDialog(_TextDialog):
    """The keys of the window."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("Keyboard"), parent)
        form = QFormLayout()
        form.setHorizontalSpacing(28)
        form.setVerticalSpacing(7)
        for keys, meaning in keyboard_map():
            label = QLabel(keys, self)
            set_look(label, "value")
            form.addRow(label, QLabel(meaning, self))
        self.column.addLayout(form)
        note = QLabel(tr("Cancelling a mirror has no key of its own, on purpose."), self)
        set_look(note, "caption")
        self.column.addWidget(note)
        self.finish()
