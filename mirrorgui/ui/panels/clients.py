"""Who uses the disk: the connections of an export, or how to make one."""

import time

from PySide6.QtCore import QAbstractItemModel, QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QResizeEvent, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QStackedWidget,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.nbd.statistics import ConnectionStatistics
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.exported import Exported
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.ui.models.clients import (
    CLIENT_ROLE,
    EXPORT,
    LAST,
    SINCE,
    SORT_ROLE,
    WIDEST,
    ClientsModel,
    as_text,
)
from mirrorgui.ui.panels.commands import CommandList
from mirrorgui.ui.style import set_look


class _Table(QTableView):
    """Gives each column room for what may come to stand in it, the last request what is left."""

    def setModel(self, model: QAbstractItemModel | None) -> None:
        super().setModel(model)
        for column in range(len(WIDEST)):
            self.horizontalHeader().resizeSection(column, self._room(column))

    def _room(self, column: int) -> int:
        return self.fontMetrics().horizontalAdvance(WIDEST[column]) + 22

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit()

    def fit(self) -> None:
        """Give the last request what the other columns leave."""
        header = self.horizontalHeader()
        left = self.viewport().width() - header.length() + header.sectionSize(LAST)
        header.resizeSection(LAST, max(left, self._room(LAST)))


class ClientsPanel(QWidget):
    """A table of clients; before there is one, the address and the commands to connect.

    Signals:
        count_changed: number of clients.
    """

    count_changed = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ClientsModel(self)
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSourceModel(self.model)
        self._sorted.setSortRole(SORT_ROLE)
        self._exported: Exported | None = None
        self._count = 0
        self.table = _Table(self)
        self.copy = QPushButton(tr("Cop&y"), self)
        self.count = QLabel(self)
        self.invitation = CommandList(self)
        self.nothing = QLabel(self)
        self._used = QWidget(self)
        self._stack = QStackedWidget(self)
        self._set_up_table()
        self._lay_out()
        self.copy.clicked.connect(self.copy_selected)
        copy = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), self.table)
        copy.setContext(Qt.ShortcutContext.WidgetShortcut)
        copy.activated.connect(self.copy_selected)
        self._show()

    def _set_up_table(self) -> None:
        table = self.table
        table.setModel(self._sorted)
        table.setAccessibleName(tr("Clients"))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSortingEnabled(True)
        table.sortByColumn(SINCE, Qt.SortOrder.AscendingOrder)
        table.setShowGrid(False)
        table.setAlternatingRowColors(True)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.verticalHeader().hide()
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setHighlightSections(False)

    def _lay_out(self) -> None:
        for label in (self.count, self.nothing):
            set_look(label, "muted")
        self.nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.nothing.setWordWrap(True)
        icons_of().give(self.copy, "copy")
        bottom = QHBoxLayout()
        bottom.addWidget(self.count, 1)
        bottom.addWidget(self.copy)
        used = QVBoxLayout(self._used)
        used.setContentsMargins(0, 0, 0, 0)
        used.addWidget(self.table, 1)
        used.addLayout(bottom)
        for page in (self.nothing, self.invitation, self._used):
            self._stack.addWidget(page)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 10)
        column.addWidget(self._stack)

    def update_export(self, exported: Exported | None) -> None:
        """Show a look at an export; the table is filled only while somebody can see it."""
        if exported == self._exported:
            return
        self._exported = exported
        count = len(exported.clients) if exported is not None else 0
        if count != self._count:
            self._count = count
            self.count_changed.emit(count)
        if self.isVisible():
            self._show()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._show()

    def _show(self) -> None:
        exported = self._exported
        clients = exported.clients if exported is not None else ()
        self.model.show_clients(clients)
        if exported is None:
            self.nothing.setText(
                tr(
                    "The source is not offered to anybody. Say so in New mirror when virtual "
                    "machines are to use it meanwhile."
                )
            )
            self._stack.setCurrentWidget(self.nothing)
        elif not clients:
            self.invitation.show_export(exported)
            self._stack.setCurrentWidget(self.invitation)
        else:
            self.count.setText(ntr("{n} client", "{n} clients", len(clients)))
            # The same words in every row say nothing, and take the room of the last request.
            agreed = {(each.export, each.encrypted) for each in clients if each.export is not None}
            plain = not any(each.encrypted for each in clients)
            self.table.setColumnHidden(EXPORT, plain and len(agreed) < 2)
            self.table.fit()
            self._stack.setCurrentWidget(self._used)

    def selected(self) -> list[ConnectionStatistics]:
        """Return the selected clients, as they are sorted."""
        rows = self.table.selectionModel().selectedRows()
        return [index.data(CLIENT_ROLE) for index in sorted(rows, key=lambda each: each.row())]

    def copy_selected(self) -> None:
        """Put the selected clients, or all of them, on the clipboard."""
        chosen = self.selected() or list(self.model.clients)
        QGuiApplication.clipboard().setText(as_text(chosen, time.time()))
