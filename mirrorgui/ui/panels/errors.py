"""The errors of a mirror: where, what, how often, and what becomes of it."""

from pathlib import Path

from PySide6.QtCore import QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.mirror.states import OVER
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.availability import Act, availability
from mirrorgui.ui.dialogs.files import save_text
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.ui.models.error_groups import ErrorGroup
from mirrorgui.ui.models.errors import (
    ERROR,
    GROUP_ROLE,
    SORT_ROLE,
    TIME,
    ErrorModel,
    as_csv,
    as_text,
)
from mirrorgui.ui.style import set_look


class ErrorsPanel(QWidget):
    """A table of failed places with what can be done about them.

    Signals:
        try_again_requested: resume the mirror, which tries the failed places first.
        place_requested: show the byte offset (object: int of any size) in the map.
        count_changed: number of places that are not solved.
    """

    try_again_requested = Signal()
    place_requested = Signal(object)
    count_changed = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = ErrorModel(self)
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSourceModel(self.model)
        self._sorted.setSortRole(SORT_ROLE)
        self._sorted.setFilterKeyColumn(-1)
        self._sorted.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self._frame: Frame | None = None
        self._unsolved = 0
        self.table = QTableView(self)
        self.search = QLineEdit(self)
        self.grouped = QCheckBox(tr("&Group neighbours"), self)
        self.try_again = QPushButton(tr("&Try again"), self)
        self.show_in_map = QPushButton(tr("Show in &map"), self)
        self.copy = QPushButton(tr("Cop&y"), self)
        self.export = QPushButton(tr("E&xport CSV..."), self)
        self.reason = QLabel(self)
        self._empty = QLabel(tr("No errors so far."), self)
        self._lost = QLabel(self)
        self._set_up_table()
        self._lay_out()
        self._connect()
        self._refresh_buttons()

    def _set_up_table(self) -> None:
        table = self.table
        table.setModel(self._sorted)
        table.setAccessibleName(tr("Errors"))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSortingEnabled(True)
        table.sortByColumn(TIME, Qt.SortOrder.DescendingOrder)
        table.setShowGrid(False)
        table.setAlternatingRowColors(True)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.verticalHeader().hide()
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(ERROR, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)

    def _lay_out(self) -> None:
        self.search.setPlaceholderText(tr("Filter"))
        self.search.setAccessibleName(tr("Filter errors"))
        self.search.setClearButtonEnabled(True)
        self.grouped.setChecked(True)
        set_look(self.reason, "muted")
        set_look(self._empty, "muted")
        set_look(self._lost, "caution")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        icons_of().give(self.try_again, "retry")
        icons_of().give(self.show_in_map, "map")
        top = QHBoxLayout()
        top.addWidget(self.search, 1)
        top.addWidget(self.grouped)
        bottom = QHBoxLayout()
        bottom.addWidget(self.try_again)
        bottom.addWidget(self.show_in_map)
        bottom.addWidget(self.reason, 1)
        bottom.addWidget(self.copy)
        bottom.addWidget(self.export)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 10)
        column.addLayout(top)
        column.addWidget(self.table, 1)
        column.addWidget(self._empty, 1)
        column.addWidget(self._lost)
        column.addLayout(bottom)
        self._lost.hide()

    def _connect(self) -> None:
        self.search.textChanged.connect(self._sorted.setFilterFixedString)
        self.grouped.toggled.connect(self._group)
        self.try_again.clicked.connect(self.try_again_requested)
        self.show_in_map.clicked.connect(self._show_place)
        self.table.doubleClicked.connect(self._show_place)
        self.copy.clicked.connect(self.copy_selected)
        self.export.clicked.connect(self._export)
        self.table.selectionModel().selectionChanged.connect(self._refresh_buttons)
        self.model.modelReset.connect(self._refresh_buttons)
        copy = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), self.table)
        copy.setContext(Qt.ShortcutContext.WidgetShortcut)
        copy.activated.connect(self.copy_selected)

    def update_frame(self, frame: Frame) -> None:
        """Show the errors of a frame."""
        before = self._frame
        self._frame = frame
        self.model.update_frame(frame.snapshot)
        unsolved = sum(not each.solved for each in frame.snapshot.errors)
        if unsolved != self._unsolved:
            self._unsolved = unsolved
            self.count_changed.emit(unsolved)
        lost = frame.snapshot.errors_lost
        self._lost.setVisible(bool(lost))
        if lost:
            words = ntr("{n} older place is", "{n} older places are", lost)
            self._lost.setText(tr("{words} not listed any more.", words=words))
        if (
            before is None
            or before.snapshot.status is not frame.snapshot.status
            or (
                before.snapshot.errors != frame.snapshot.errors
                or before.free_space != frame.free_space
            )
        ):
            self._refresh_buttons()

    def show_place(self, offset: int, length: int) -> None:
        """Select the errors inside a range of bytes."""
        self.table.clearSelection()
        for row in range(self._sorted.rowCount()):
            group: ErrorGroup = self._sorted.index(row, 0).data(GROUP_ROLE)
            if group.offset < offset + length and offset < group.offset + max(group.length, 1):
                self.table.selectRow(row)
                self.table.scrollTo(self._sorted.index(row, 0))
                return

    def focus_find(self) -> None:
        """Put the cursor into the filter."""
        self.search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.search.selectAll()

    def selected(self) -> list[ErrorGroup]:
        """Return the selected rows, as they are sorted."""
        rows = self.table.selectionModel().selectedRows()
        return [index.data(GROUP_ROLE) for index in sorted(rows, key=lambda each: each.row())]

    def copy_selected(self) -> None:
        """Put the selected rows, or all of them, on the clipboard."""
        groups = self.selected() or [
            self._sorted.index(row, 0).data(GROUP_ROLE) for row in range(self._sorted.rowCount())
        ]
        snapshot = self._frame.snapshot if self._frame else None
        QGuiApplication.clipboard().setText(as_text(groups, snapshot))

    def export_to(self, path: Path) -> None:
        """Write all places as CSV.

        Raises:
            OSError: the file could not be written.
        """
        path.write_text(as_csv(self.model.records), encoding="utf-8", newline="")

    def _export(self) -> None:
        save_text(self, tr("Export errors"), "errors.csv", tr("CSV tables (*.csv)"), self.export_to)

    def _group(self, grouped: bool) -> None:
        self.model.set_grouped(grouped)

    def _show_place(self) -> None:
        chosen = self.selected()
        if chosen and not chosen[0].is_flush:
            self.place_requested.emit(chosen[0].offset)

    def _refresh_buttons(self) -> None:
        rows = self.model.rowCount()
        self._empty.setVisible(not rows)
        self.table.setVisible(bool(rows))
        self.copy.setEnabled(bool(rows))
        self.export.setEnabled(bool(rows))
        chosen = self.selected() if rows else []
        self.show_in_map.setEnabled(bool(chosen) and not chosen[0].is_flush)
        self.show_in_map.setAccessibleDescription("" if chosen else tr("Select an error first"))
        snapshot = self._frame.snapshot if self._frame else None
        free_space = self._frame.free_space if self._frame else None
        possible = availability(Act.RESUME, snapshot, free_space=free_space)
        stopped = snapshot is not None and snapshot.paused_by_error
        self.try_again.setEnabled(possible.enabled and stopped)
        reason = "" if possible.enabled and stopped else self._reason(possible.reason, stopped)
        self.try_again.setToolTip(reason)
        self.try_again.setAccessibleDescription(reason)
        self.reason.setText(reason if rows else "")

    def _reason(self, reason: str, stopped: bool) -> str:
        if stopped and reason:
            return reason
        unsolved = any(not each.solved for each in self.model.records)
        if not unsolved:
            return tr("Nothing is left to try again")
        if self._frame is not None and self._frame.snapshot.status in OVER:
            return tr("This mirror has ended")
        return tr("Skipped places are tried again by themselves")
