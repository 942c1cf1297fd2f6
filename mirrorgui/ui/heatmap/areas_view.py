"""Tables of areas: those of one cell, and the largest of the whole image."""

import time

from PySide6.QtCore import QModelIndex, QSize, QTimer, Signal
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from mirrorgui.ui.columns import NARROW, fit_columns
from mirrorgui.ui.heatmap import texts
from mirrorgui.ui.heatmap.areas import Area, areas_of
from mirrorgui.ui.heatmap.areas_model import AREA_ROLE, AreasModel
from mirrorgui.ui.heatmap.cells import ChunkState
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.heatmap.runs import RunScan
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look

WANTED = 200
RESCAN_MS = 2000
STEP_MS = 15
"""A slice takes 4 ms: between two of them the window lives."""


class AreasTable(QTableView):
    """A table of areas; Enter or a double click on a row shows the place in the map.

    Signals:
        place_requested: an offset in bytes.
    """

    place_requested = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows = AreasModel(self)
        self.setModel(self.rows)
        set_look(self, "narrow")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.setShowGrid(False)
        self.setAlternatingRowColors(True)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 8)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setHighlightSections(False)
        header.setStretchLastSection(True)
        self.setIconSize(QSize(10, 10))
        place = ["999.9999 GiB"]
        states = [texts.state_name(state) for state in ChunkState]
        samples = (states, place, ["999.9 KiB"], place, ["99"], ["Input/output error"])
        fit_columns(self, samples, NARROW)
        self.activated.connect(self._activated)

    def _activated(self, index: QModelIndex) -> None:
        area = index.data(AREA_ROLE)
        if isinstance(area, Area):
            self.place_requested.emit(area.offset)


class LargestAreas(AreasTable):
    """The failed and the largest areas of the image; looked for only while visible."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._frame: MapFrame | None = None
        self._scan: RunScan | None = None
        self.setAccessibleName(tr("Areas: failed ones first, then the largest"))
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._work)

    def set_frame(self, frame: MapFrame) -> None:
        """Show another image."""
        self._frame, self._scan = frame, None
        self.rows.show_areas([])
        if self.isVisible():
            self._timer.start(0)

    def _work(self) -> None:
        if self._frame is None:
            return
        if self._scan is None:
            self._scan = RunScan(self._frame.words, self._frame.in_flight, WANTED)
            self._timer.setInterval(STEP_MS)
        self._scan.step()
        if self._scan.finished:
            runs = self._scan.result()
            self.rows.show_areas(areas_of(self._frame, runs, time.time_ns()))
            self._scan = None
            self._timer.setInterval(RESCAN_MS)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._timer.start(0)

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.stop()
        self._scan = None
