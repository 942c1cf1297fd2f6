"""The failed places as a table."""

import csv
import io
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from mirrorgui.mirror.snapshot import ErrorRecord, JobSnapshot
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.ui.models.error_groups import (
    ErrorGroup,
    group_errors,
    policy_text,
    single_errors,
    state_text,
)
from mirrorgui.ui.quantities import place_text
from mirrorgui.units import format_size

Index = QModelIndex | QPersistentModelIndex

TIME, DIRECTION, OFFSET, LENGTH, ERROR, POLICY, TRIES, STATE = range(8)

SORT_ROLE = Qt.ItemDataRole.UserRole
GROUP_ROLE = Qt.ItemDataRole.UserRole + 1

CSV_HEADER = (
    "first_time",
    "last_time",
    "operation",
    "offset",
    "length",
    "errno",
    "message",
    "action",
    "tries",
    "solved",
)


def headings() -> tuple[str, ...]:
    """Return the titles of the columns."""
    return (
        tr("Last time"),
        tr("What"),
        tr("Offset"),
        tr("Length"),
        tr("Error"),
        tr("Policy"),
        tr("Tries"),
        tr("State"),
    )


class ErrorModel(QAbstractTableModel):
    """Rows are groups of failed places, or single ones."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._records: tuple[ErrorRecord, ...] = ()
        self._groups: tuple[ErrorGroup, ...] = ()
        self._snapshot: JobSnapshot | None = None
        self._shown_as: tuple[JobStatus, bool] | None = None
        self._grouped = True

    @property
    def records(self) -> tuple[ErrorRecord, ...]:
        """All failed places, the newest last."""
        return self._records

    def set_grouped(self, grouped: bool) -> None:
        """Put neighbours together, or show every place."""
        if grouped != self._grouped:
            self._grouped = grouped
            self._rebuild()

    def update_frame(self, snapshot: JobSnapshot) -> None:
        """Show the errors of a snapshot; does nothing when they are the same."""
        self._snapshot = snapshot
        if snapshot.errors != self._records:
            self._records = snapshot.errors
            self._rebuild()
        shown_as = (snapshot.status, snapshot.paused)
        if shown_as != self._shown_as:
            self._shown_as = shown_as
            if self._groups:
                last = self.index(len(self._groups) - 1, STATE)
                self.dataChanged.emit(self.index(0, STATE), last)

    def _rebuild(self) -> None:
        made = group_errors(self._records) if self._grouped else single_errors(self._records)
        if len(made) == len(self._groups):
            # The same rows with new numbers: a selection must survive a retry.
            self._groups = made
            if made:
                self.dataChanged.emit(self.index(0, 0), self.index(len(made) - 1, STATE))
            return
        self.beginResetModel()
        self._groups = made
        self.endResetModel()

    def group(self, row: int) -> ErrorGroup:
        """Return what a row shows."""
        return self._groups[row]

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        return 0 if parent.isValid() else len(self._groups)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        return 0 if parent.isValid() else len(headings())

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return headings()[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid():
            return None
        group = self._groups[index.row()]
        column = index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(group, column)
        if role == SORT_ROLE:
            return self._sort_key(group, column)
        if role == GROUP_ROLE:
            return group
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(group, column)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        return None

    def _text(self, group: ErrorGroup, column: int) -> str:
        many = len(group.records) > 1
        if column == TIME:
            return time.strftime("%H:%M:%S", time.localtime(group.last_ns / 1e9))
        if column == DIRECTION:
            places = ntr("{n} place", "{n} places", len(group.records))
            return f"{group.direction} ({places})" if many else group.direction
        if column == OFFSET:
            return "-" if group.is_flush else place_text(group.offset)
        if column == LENGTH:
            return "-" if group.is_flush else format_size(group.length)
        if column == ERROR:
            return group.first.message
        if column == POLICY:
            return policy_text(group.first.action)
        if column == TRIES:
            return str(group.tries)
        return state_text(group, self._snapshot)

    def _sort_key(self, group: ErrorGroup, column: int) -> int | str:
        numbers = {
            TIME: group.last_ns,
            OFFSET: group.offset,
            LENGTH: group.length,
            TRIES: group.tries,
        }
        if column in numbers:
            # Qt compares Python integers as 32 bit numbers; digits of equal length sort right.
            return f"{numbers[column]:020d}"
        return self._text(group, column)

    def _tip(self, group: ErrorGroup, column: int) -> str:
        if column == OFFSET and not group.is_flush:
            return f"{group.offset:,} B\n0x{group.offset:_X}"
        if column == LENGTH and not group.is_flush:
            return f"{group.length:,} B"
        if column == ERROR:
            return f"errno {group.first.errno}: {group.first.message}"
        return group.summary


def _alignment(column: int) -> int:
    number = column in (OFFSET, LENGTH, TRIES)
    side = Qt.AlignmentFlag.AlignRight if number else Qt.AlignmentFlag.AlignLeft
    return int(side | Qt.AlignmentFlag.AlignVCenter)


def as_csv(records: Sequence[ErrorRecord]) -> str:
    """Write failed places as CSV: exact bytes, times in UTC."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_HEADER)
    for each in records:
        writer.writerow(
            (
                _stamp(each.first_ns),
                _stamp(each.last_ns),
                each.operation,
                each.offset,
                each.length,
                each.errno,
                each.message,
                each.action,
                each.tries,
                "yes" if each.solved else "no",
            )
        )
    return text.getvalue()


def as_text(groups: Sequence[ErrorGroup], snapshot: JobSnapshot | None) -> str:
    """Write groups as lines for the clipboard."""
    lines = []
    for group in groups:
        line = f"{group.summary}: {group.first.message}"
        place = f"offset {group.offset}, length {group.length}, tries {group.tries}"
        lines.append(f"{line} ({place}, {state_text(group, snapshot)})")
    return "\n".join(lines)


def _stamp(wall_ns: int) -> str:
    moment = datetime.fromtimestamp(wall_ns / 1e9, UTC)
    return moment.isoformat(timespec="milliseconds")
