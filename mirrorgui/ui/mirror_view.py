"""Everything about one mirror: head, messages, operations in flight, and the views as tabs."""

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.mirror.states import OVER
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.availability import Act, availability
from mirrorgui.ui.charts import ChartsPanel
from mirrorgui.ui.export_bar import ExportBar
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.header import Header
from mirrorgui.ui.heatmap.panel import ByteRange, MapPanel
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.inflight import InFlightPanel
from mirrorgui.ui.message_bar import MessageBar
from mirrorgui.ui.models.log import LogModel
from mirrorgui.ui.notices import NoticeAction
from mirrorgui.ui.panels.clients import ClientsPanel
from mirrorgui.ui.panels.errors import ErrorsPanel
from mirrorgui.ui.panels.log import LogPanel
from mirrorgui.ui.style import set_look

LOW = 520
"""Below this height the map gets the room of the operations in flight."""


class Banner(QFrame):
    """Says that this is only a demonstration.

    Signals:
        end_requested: end it and delete its files.
    """

    end_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        set_look(self, "bar-active")
        picture = QLabel(self)
        icons_of().give(picture, "info", "copy", 20)
        words = QLabel(tr("Demonstration: uses temporary files only."), self)
        self.end = QPushButton(tr("&End and delete"), self)
        self.end.clicked.connect(self.end_requested)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 5, 6, 5)
        row.addWidget(picture)
        row.addWidget(words, 1)
        row.addWidget(self.end)


class MirrorView(QWidget):
    """Shows the frames of one mirror.

    Signals:
        notice_triggered: the ``NoticeAction`` that was pressed in the message bar.
        resume_requested: try failed places again.
        end_requested: end the demonstration.
    """

    notice_triggered = Signal(object)
    resume_requested = Signal()
    end_requested = Signal()

    def __init__(self, first: Frame, log: LogModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.key = first.key
        self.header = Header(self)
        self.export = ExportBar(self)
        self.banner = Banner(self)
        self.message = MessageBar(self)
        self.in_flight = InFlightPanel(self)
        self.map = MapPanel(self)
        self.charts = ChartsPanel(self)
        self.errors = ErrorsPanel(self)
        self.clients = ClientsPanel(self)
        self.log = LogPanel(log, self)
        self.tabs = QTabWidget(self)
        self._source: tuple[str, int, int] | None = None
        self._over = False
        self._lay_out()
        self._connect()
        self.banner.setVisible(first.demonstration)
        self.update_frame(first)

    def _lay_out(self) -> None:
        self.tabs.setDocumentMode(True)
        self.tabs.setAccessibleName(tr("Views"))
        for panel, title in (
            (self.map, tr("Map")),
            (self.charts, tr("Charts")),
            (self.errors, tr("Errors")),
            (self.clients, tr("Clients")),
            (self.log, tr("Log")),
        ):
            self.tabs.addTab(panel, title)
        bars = QVBoxLayout()
        bars.setContentsMargins(12, 0, 12, 0)
        bars.setSpacing(6)
        bars.addWidget(self.banner)
        bars.addWidget(self.message)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.header)
        column.addWidget(self.export)
        column.addLayout(bars)
        column.addWidget(self.in_flight)
        column.addWidget(self.tabs, 1)

    def _connect(self) -> None:
        self.banner.end_requested.connect(self.end_requested)
        self.message.triggered.connect(self.notice_triggered)
        self.errors.try_again_requested.connect(self.resume_requested)
        self.errors.place_requested.connect(self.show_place)
        self.errors.count_changed.connect(self._count_errors)
        self.clients.count_changed.connect(self._count_clients)
        self.map.errors_requested.connect(self._show_errors_at)

    def update_frame(self, frame: Frame) -> None:
        """Show a frame."""
        snapshot = frame.snapshot
        source = (frame.names.source, snapshot.size, snapshot.granularity)
        if source != self._source:
            self._source = source
            self.map.set_source(*source)
        self.header.update_frame(frame)
        self.message.show_notice(frame.notice)
        resume = availability(Act.RESUME, snapshot, free_space=frame.free_space)
        self.message.set_possible(
            NoticeAction.RESUME, possible=resume.enabled, reason=resume.reason
        )
        self.in_flight.update_frame(snapshot)
        self._over = snapshot.status in OVER
        self._fit()
        self.map.update_frame(snapshot, frame.words)
        self.charts.add_sample(snapshot, frame.rates)
        self.errors.update_frame(frame)
        exported = frame.exported
        self.export.show_export(None if exported is None or exported.by_command else exported)
        self.clients.update_export(frame.exported)

    def _fit(self) -> None:
        """Leave the operations in flight out when they are over, or the map needs the room."""
        wanted = not self._over and self.height() >= LOW
        if self.in_flight.isHidden() is wanted:
            self.in_flight.setVisible(wanted)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def show_view(self, panel: QWidget) -> None:
        """Bring one of the views to the front and the keyboard into it."""
        self.tabs.setCurrentWidget(panel)
        panel.setFocus()

    def show_place(self, offset: int) -> None:
        """Show a byte offset in the map."""
        self.show_view(self.map)
        self.map.show_offset(offset)

    def start_search(self) -> None:
        """Put the cursor into the search field of the errors or the log."""
        if self.tabs.currentWidget() is not self.errors:
            self.tabs.setCurrentWidget(self.log)
            self.log.focus_find()
        else:
            self.errors.focus_find()

    def _show_errors_at(self, where: ByteRange) -> None:
        self.tabs.setCurrentWidget(self.errors)
        self.errors.show_place(where.offset, where.length)

    def _count_errors(self, count: int) -> None:
        text = tr("Errors ({n})", n=count) if count else tr("Errors")
        self.tabs.setTabText(self.tabs.indexOf(self.errors), text)

    def _count_clients(self, count: int) -> None:
        text = tr("Clients ({n})", n=count) if count else tr("Clients")
        self.tabs.setTabText(self.tabs.indexOf(self.clients), text)
