"""A chart with its heading: title, numbers in the curves' colours, copying as picture or CSV."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QSizePolicy, QVBoxLayout, QWidget

from mirrorgui.ui.i18n import tr
from mirrorgui.ui.plots.history import as_csv
from mirrorgui.ui.plots.plot import TimePlot
from mirrorgui.ui.theme import ThemeColors

Value = tuple[str, str, str]
"""Colour's name in the theme ('' for none), what it is, and its number."""


class Chart(QWidget):
    """A plot and the numbers beside its title."""

    def __init__(self, title: str, plot: TimePlot, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = plot
        self._rows: NDArray[np.void] | None = None
        self._menu: QMenu | None = None
        self._plain = ""
        self._title = QLabel(title, self)
        self._title.setProperty("look", "section")
        self._values = QLabel(self)
        self._values.setTextFormat(Qt.TextFormat.RichText)
        self._values.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        plot.setAccessibleName(title)
        plot.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        plot.setMinimumHeight(64)
        plot.menu_requested.connect(self._open_menu)
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(self._title)
        head.addWidget(self._values, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(plot, 1)

    @property
    def text(self) -> str:
        """The numbers as shown, without their colours."""
        return self._plain

    def show_values(self, values: Sequence[Value], table: ThemeColors) -> None:
        """Write numbers beside the title."""
        parts = []
        for color, name, number in values:
            dot = f'<span style="color:{getattr(table, color)}">■</span> ' if color else ""
            parts.append(f'{dot}<span style="color:{table.muted}">{name}</span> <b>{number}</b>')
        self._plain = ", ".join(f"{name} {number}" for _, name, number in values)
        self._values.setText("&nbsp;&nbsp; ".join(parts))
        self.plot.setAccessibleDescription(self._plain)

    def show_samples(self, rows: NDArray[np.void]) -> None:
        """Draw samples."""
        self._rows = rows
        self.plot.show_samples(rows)

    def csv(self) -> str:
        """Return what is drawn as CSV."""
        if self._rows is None:
            return ""
        return as_csv(self._rows, [curve.field for curve in self.plot.curves])

    def make_menu(self) -> QMenu:
        """Make the chart's menu."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(tr("Copy picture")).triggered.connect(self._copy_picture)
        menu.addAction(tr("Copy as CSV")).triggered.connect(self._copy_csv)
        return menu

    def _open_menu(self, where: QPoint) -> None:
        self._menu = self.make_menu()
        self._menu.popup(where)

    def _copy_picture(self) -> None:
        QGuiApplication.clipboard().setPixmap(self.grab())

    def _copy_csv(self) -> None:
        QGuiApplication.clipboard().setText(self.csv())
