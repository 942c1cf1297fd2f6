"""One cell, or a selection, in detail: where it is, what is in it, and every run of chunks."""

import time

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from mirrorgui.ui.heatmap import texts
from mirrorgui.ui.heatmap.areas import areas_of, as_text
from mirrorgui.ui.heatmap.areas_view import AreasTable
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.i18n import tr
from mirrorgui.units import format_size

LARGEST_TABLE = 1 << 20
"""Chunks up to which runs are listed; a larger selection shows its sums only."""


class Inspector(QWidget):
    """Shows the chunks [first, end) of an image.

    Signals:
        errors_requested: ``(first, end)`` chunks whose errors shall be listed.
        place_requested: an offset in bytes.
    """

    errors_requested = Signal(object)
    place_requested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._frame = MapFrame()
        self._chunks: tuple[int, int] | None = None
        self._title = QLabel(self)
        self._details = QLabel(self)
        for label in (self._title, self._details):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._title.setProperty("look", "value")
        self.table = AreasTable(self)
        self.table.setAccessibleName(tr("Parts of the cell"))
        self.table.place_requested.connect(self.place_requested)
        self.copy = QPushButton(tr("Copy as text"), self)
        self.copy.clicked.connect(self._copy)
        self.errors = QPushButton(tr("Find in errors"), self)
        self.errors.clicked.connect(self._find_errors)
        buttons = QHBoxLayout()
        self._hint_room = QWidget(self)
        buttons.addWidget(self.copy)
        buttons.addWidget(self.errors)
        buttons.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(self._title)
        column.addWidget(self._details)
        column.addWidget(self.table, 1)
        column.addWidget(self._hint_room, 1)
        column.addLayout(buttons)
        self.set_frame(self._frame)

    def set_frame(self, frame: MapFrame) -> None:
        """Show another image, nothing of it yet."""
        self._frame = frame
        self.inspect(None)

    @property
    def chunks(self) -> tuple[int, int] | None:
        """What is shown: chunks [first, end), or None."""
        return self._chunks

    @property
    def text(self) -> str:
        """What is said above the table."""
        return f"{self._title.text()}\n{self._details.text()}"

    def inspect(self, chunks: tuple[int, int] | None) -> None:
        """Show the chunks [first, end)."""
        self._chunks = chunks
        for widget in (self.table, self.copy, self.errors):
            widget.setVisible(chunks is not None)
        self._hint_room.setVisible(chunks is None)
        self.refresh()

    def refresh(self) -> None:
        """Show the latest frame of the chunks."""
        if self._chunks is None:
            self._title.setText(tr("Nothing inspected"))
            self._details.setText(
                tr("Click a cell to see what is in it; drag with Shift to add up a range.")
            )
            self.table.rows.show_areas([])
            return
        first, end = self._chunks
        offset, length = self._frame.range_of(first, end)
        self._title.setText(f"{texts.place(offset)} + {format_size(length)}")
        self._details.setText(
            "\n".join(
                (
                    texts.hex_range(offset, length),
                    texts.counts_line(self._frame.counts_of(first, end), end - first),
                )
            )
        )
        runs = texts.runs_between(self._frame, first, min(end, first + LARGEST_TABLE))
        self.table.rows.show_areas(areas_of(self._frame, runs, time.time_ns()))

    def as_text(self) -> str:
        """Return everything shown as text."""
        return f"{self._frame.name}\n{self.text}\n\n{as_text(self.table.rows.areas)}\n"

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.as_text())

    def _find_errors(self) -> None:
        if self._chunks is not None:
            self.errors_requested.emit(self._chunks)
