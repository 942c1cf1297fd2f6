"""Where clients find the disk: the address to copy, and commands that use it."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QMenu, QPushButton, QToolButton, QWidget

from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.elide import ElidedLabel
from mirrorgui.ui.exported import Exported
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look
from mirrorgui.ui.system import copy_text


class CommandMenu(QMenu):
    """Commands for clients; choosing one puts it on the clipboard.

    Signals:
        copied: the name of the program whose command was copied.
    """

    copied = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTipsVisible(True)
        self.triggered.connect(self._copy)

    def show_commands(self, exported: Exported) -> None:
        """Offer the commands of an export."""
        self.clear()
        for each in exported.commands:
            text = tr("Copy for {program}: {purpose}", program=each.program, purpose=each.purpose)
            action = self.addAction(text)
            action.setToolTip(each.line)
            action.setData((each.program, each.line))

    def _copy(self, action: QAction) -> None:
        program, line = action.data()
        copy_text(line)
        self.copied.emit(program)


class ExportBar(QFrame):
    """Shows an export's address in one line, or hides."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.uri = ElidedLabel(self)
        self.uri.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.copy = QPushButton(tr("Copy address"), self)
        self.menu = CommandMenu(self)
        self.commands = QToolButton(self)
        self._caption = QLabel(tr("Clients use"), self)
        self._shown: tuple[str, bool, str] | None = None
        self._lay_out()
        self.copy.clicked.connect(self._copy)
        self.hide()

    def _lay_out(self) -> None:
        set_look(self._caption, "caption")
        icons_of().give(self.copy, "copy")
        self.commands.setText(tr("Commands"))
        self.commands.setAccessibleName(tr("Commands for clients"))
        self.commands.setMenu(self.menu)
        self.commands.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.commands.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.commands.setProperty("menued", "true")
        set_look(self.commands, "button")
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 0, 16, 6)
        row.setSpacing(8)
        row.addWidget(self._caption)
        row.addWidget(self.uri, 1)
        row.addWidget(self.copy)
        row.addWidget(self.commands)

    def show_export(self, exported: Exported | None) -> None:
        """Show an export; None hides the bar."""
        self.setVisible(exported is not None)
        shown = (
            (exported.uri, exported.read_only, exported.certificates)
            if exported is not None
            else None
        )
        if exported is None or shown == self._shown:
            return
        self._shown = shown
        text = tr("{uri} (read-only)", uri=exported.uri) if exported.read_only else exported.uri
        self.uri.set_full_text(text, tip=exported.uri)
        self.uri.setAccessibleName(tr("Address for clients: {uri}", uri=exported.uri))
        self.menu.show_commands(exported)

    def _copy(self) -> None:
        if self._shown is not None:
            copy_text(self._shown[0])
