"""How to connect to an export: each command with a button that copies it."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.elide import ElidedLabel
from mirrorgui.ui.exported import Exported
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look
from mirrorgui.ui.system import copy_text


class CommandList(QScrollArea):
    """Says that nobody is connected, and how somebody can be."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = QLabel(tr("No client is connected."), self)
        self.buttons: dict[str, QPushButton] = {}
        self._shown: tuple[str, bool, str] | None = None
        self._page = QWidget(self)
        self._rows = QFrame(self._page)
        self._grid = QGridLayout(self._rows)
        set_look(self.title, "section")
        set_look(self._rows, "card")
        self._grid.setContentsMargins(14, 12, 14, 12)
        self._grid.setHorizontalSpacing(14)
        self._grid.setVerticalSpacing(8)
        self._grid.setColumnStretch(1, 1)
        column = QVBoxLayout(self._page)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(10)
        column.addWidget(self.title)
        column.addWidget(self._rows)
        column.addStretch(1)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWidget(self._page)

    def show_export(self, exported: Exported) -> None:
        """Show the address and the commands of an export."""
        shown = (exported.uri, exported.read_only, exported.certificates)
        if shown == self._shown:
            return
        self._shown = shown
        self.buttons.clear()
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self._add(0, tr("Address"), tr("For every NBD client"), exported.uri)
        for row, each in enumerate(exported.commands, 1):
            self._add(row, each.program, each.purpose, each.line)

    def _add(self, row: int, program: str, purpose: str, line: str) -> None:
        title, why = QLabel(program, self._rows), QLabel(purpose, self._rows)
        set_look(title, "value")
        set_look(why, "caption")
        names = QWidget(self._rows)
        column = QVBoxLayout(names)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(title)
        column.addWidget(why)
        text = ElidedLabel(self._rows)
        text.set_full_text(line, tip=line)
        text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        button = QPushButton(tr("Copy"), self._rows)
        button.setAccessibleName(tr("Copy for {program}", program=program))
        button.setToolTip(line)
        button.setProperty("line", line)
        icons_of().give(button, "copy")
        button.clicked.connect(self._copy)
        self._grid.addWidget(names, row, 0)
        self._grid.addWidget(text, row, 1)
        self._grid.addWidget(button, row, 2)
        self.buttons[program] = button

    def _copy(self) -> None:
        copy_text(self.sender().property("line"))
