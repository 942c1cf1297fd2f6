"""The log: what happened, to be filtered, searched, copied and saved."""

import logging
from pathlib import Path

from PySide6.QtCore import (
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
    QTimer,
)
from PySide6.QtGui import QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.columns import fit_columns
from mirrorgui.ui.dialogs.files import save_text
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.ui.models.log import (
    LEVEL_ROLE,
    LINE_ROLE,
    TEXT,
    LogLine,
    LogModel,
    LogQueue,
    level_name,
)
from mirrorgui.ui.style import set_look

TAKE_MS = 250
"""Often enough to feel live; one repaint however many lines have come."""

LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


class _ByLevel(QSortFilterProxyModel):
    level = logging.INFO

    def set_level(self, level: int) -> None:
        self.beginFilterChange()
        self.level = level
        self.endFilterChange()

    def filterAcceptsRow(self, row: int, parent: QModelIndex | QPersistentModelIndex) -> bool:
        return int(self.sourceModel().index(row, 0, parent).data(LEVEL_ROLE)) >= self.level


class LogFeed(QObject):
    """Moves lines from the queue to the model, on the Qt thread, a few times a second."""

    def __init__(self, queue: LogQueue, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._queue = queue
        self.model = LogModel(self)
        self._timer = QTimer(self)
        self._timer.setInterval(TAKE_MS)
        self._timer.timeout.connect(self.take)
        self._timer.start()

    def take(self) -> None:
        """Show what has been logged since the last time."""
        self.model.add(self._queue.take())

    def stop(self) -> None:
        """Take what is there, then no more."""
        self._timer.stop()
        self.take()


class LogPanel(QWidget):
    """A table of lines that follows its end, unless somebody has scrolled up to read."""

    def __init__(self, model: LogModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = model
        self._at_end = True
        self._filtered = _ByLevel(self)
        self._filtered.setSourceModel(self.model)
        self.table = QTableView(self)
        self.level = QComboBox(self)
        self.search = QLineEdit(self)
        self.next = QPushButton(tr("&Next"), self)
        self.previous = QPushButton(tr("&Previous"), self)
        self.copy = QPushButton(tr("Cop&y"), self)
        self.save = QPushButton(tr("&Save..."), self)
        self.found = QLabel(self)
        self._set_up_table()
        self._lay_out()
        self._connect()

    def _set_up_table(self) -> None:
        table = self.table
        table.setModel(self._filtered)
        table.setAccessibleName(tr("Log"))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.verticalHeader().hide()
        # Rows of one height: measuring thousands of them would stop the window for a moment.
        table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + 8)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(TEXT, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        levels = [level_name(level) for level in LEVELS]
        fit_columns(table, (["00:00:00.000"], levels, ["mirrorgui.session"]))

    def _lay_out(self) -> None:
        for level in LEVELS:
            self.level.addItem(tr("{level} and above", level=level_name(level)), level)
        self.level.setCurrentIndex(LEVELS.index(logging.INFO))
        self.level.setAccessibleName(tr("Lowest level shown"))
        self.search.setPlaceholderText(tr("Find"))
        self.search.setAccessibleName(tr("Find in the log"))
        self.search.setClearButtonEnabled(True)
        set_look(self.found, "muted")
        icons_of().give(self.save, "save")
        top = QHBoxLayout()
        top.addWidget(self.level)
        top.addWidget(self.search, 1)
        top.addWidget(self.found)
        top.addWidget(self.previous)
        top.addWidget(self.next)
        bottom = QHBoxLayout()
        bottom.addStretch(1)
        bottom.addWidget(self.copy)
        bottom.addWidget(self.save)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 10)
        column.addLayout(top)
        column.addWidget(self.table, 1)
        column.addLayout(bottom)

    def _connect(self) -> None:
        self.model.rowsAboutToBeInserted.connect(self._before_lines)
        self.model.rowsInserted.connect(self._after_lines)
        self.level.currentIndexChanged.connect(self._choose_level)
        self.search.textChanged.connect(self._look_again)
        self.search.returnPressed.connect(self.find_next)
        self.next.clicked.connect(self.find_next)
        self.previous.clicked.connect(self.find_previous)
        self.copy.clicked.connect(self.copy_selected)
        self.save.clicked.connect(self._save)
        copy = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), self.table)
        copy.setContext(Qt.ShortcutContext.WidgetShortcut)
        copy.activated.connect(self.copy_selected)
        self._look_again("")

    def _before_lines(self) -> None:
        bar = self.table.verticalScrollBar()
        self._at_end = bar.value() >= bar.maximum() - 2

    def _after_lines(self) -> None:
        if self._at_end:
            self.table.scrollToBottom()

    def shown_lines(self) -> list[LogLine]:
        """Return the lines that the filter lets through, the oldest first."""
        rows = range(self._filtered.rowCount())
        return [self._filtered.index(row, 0).data(LINE_ROLE) for row in rows]

    def focus_find(self) -> None:
        """Put the cursor into the search field."""
        self.search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.search.selectAll()

    def find_next(self) -> None:
        """Go to the next line with the text looked for, from the top again after the last."""
        self._go(1)

    def find_previous(self) -> None:
        """Go to the previous line with the text looked for."""
        self._go(-1)

    def copy_selected(self) -> None:
        """Put the selected lines, or all that are shown, on the clipboard."""
        rows = sorted(index.row() for index in self.table.selectionModel().selectedRows())
        chosen = [self._filtered.index(row, 0).data(LINE_ROLE) for row in rows]
        lines = chosen or self.shown_lines()
        QGuiApplication.clipboard().setText("\n".join(line.as_text() for line in lines))

    def save_to(self, path: Path) -> None:
        """Write the lines that are shown.

        Raises:
            OSError: the file could not be written.
        """
        text = "".join(f"{line.as_text()}\n" for line in self.shown_lines())
        path.write_text(text, encoding="utf-8")

    def _save(self) -> None:
        save_text(self, tr("Save log"), "mirrorgui.log", tr("Text (*.log *.txt)"), self.save_to)

    def _choose_level(self) -> None:
        self._filtered.set_level(int(self.level.currentData()))
        self._look_again(self.search.text())

    def _matches(self) -> list[int]:
        wanted = self.search.text().casefold()
        if not wanted:
            return []
        shown = enumerate(self.shown_lines())
        return [row for row, line in shown if wanted in line.as_text().casefold()]

    def _look_again(self, text: str) -> None:
        self.next.setEnabled(bool(text))
        self.previous.setEnabled(bool(text))
        self.found.setText(ntr("{n} found", "{n} found", len(self._matches())) if text else "")

    def _go(self, step: int) -> None:
        matches = self._matches()
        self._look_again(self.search.text())
        if not matches:
            return
        selected = self.table.selectionModel().selectedRows()
        here = selected[0].row() if selected else -1
        if step > 0:
            row = next((each for each in matches if each > here), matches[0])
        else:
            row = next((each for each in reversed(matches) if each < here), matches[-1])
        self.table.selectRow(row)
        self.table.scrollTo(self._filtered.index(row, 0))
