"""What happened, as lines: the events of jobs and the records of ``logging``."""

import logging
import time
from collections import deque
from dataclasses import dataclass

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from mirrorgui.mirror.events import JobEvent
from mirrorgui.ui.i18n import tr

Index = QModelIndex | QPersistentModelIndex

MAX_LINES = 5000
"""Lines kept; older ones go."""

TIME, LEVEL, ORIGIN, TEXT = range(4)

LEVEL_ROLE = Qt.ItemDataRole.UserRole
LINE_ROLE = Qt.ItemDataRole.UserRole + 1


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line.

    Attributes:
        time_ns: wall clock, nanoseconds since 1970.
        level: a level of ``logging``.
        origin: the logger's or the job's name.
        text: what happened.
        details: a traceback, or empty.
    """

    time_ns: int
    level: int
    origin: str
    text: str
    details: str = ""

    def as_text(self) -> str:
        """Write it for a file or the clipboard."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.time_ns / 1e9))
        millis = self.time_ns // 1_000_000 % 1000
        line = f"{stamp}.{millis:03d} {level_name(self.level)} {self.origin}: {self.text}"
        return f"{line}\n{self.details}" if self.details else line


def level_name(level: int) -> str:
    """Return a level's name in front of people."""
    if level >= logging.ERROR:
        return tr("Error")
    if level >= logging.WARNING:
        return tr("Warning")
    return tr("Info") if level >= logging.INFO else tr("Debug")


def line_of_event(event: JobEvent, job: str) -> LogLine:
    """Make a line of a job's event, with QEMU's names."""
    fields = " ".join(f"{key}={value}" for key, value in event.data.items())
    level = logging.INFO
    if event.name == "BLOCK_JOB_ERROR" or event.data.get("error"):
        level = logging.ERROR
    return LogLine(event.time_ns, level, job, f"{event.name} {fields}".rstrip())


class LogQueue(logging.Handler):
    """Collects records from any thread; whoever shows them takes them on the Qt thread.

    Bounded: when nobody takes them the oldest go.
    """

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._traceback = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        details = ""
        if record.exc_info:
            details = self._traceback.formatException(record.exc_info)
        self._lines.append(
            LogLine(
                int(record.created * 1e9),
                record.levelno,
                record.name.removeprefix("mirrorgui."),
                record.getMessage(),
                details,
            )
        )

    def put(self, line: LogLine) -> None:
        """Add a line that is no record of ``logging``."""
        self._lines.append(line)

    def take(self) -> list[LogLine]:
        """Return what has come since the last call."""
        taken = []
        while True:
            try:
                taken.append(self._lines.popleft())
            except IndexError:
                return taken


class LogModel(QAbstractTableModel):
    """The last ``MAX_LINES`` lines, the newest at the bottom."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lines: list[LogLine] = []

    def add(self, lines: list[LogLine]) -> None:
        """Append lines and drop the oldest beyond the limit."""
        if not lines:
            return
        lines = lines[-MAX_LINES:]
        surplus = len(self._lines) + len(lines) - MAX_LINES
        if surplus > 0:
            self.beginRemoveRows(QModelIndex(), 0, surplus - 1)
            del self._lines[:surplus]
            self.endRemoveRows()
        first = len(self._lines)
        self.beginInsertRows(QModelIndex(), first, first + len(lines) - 1)
        self._lines.extend(lines)
        self.endInsertRows()

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """All lines, the oldest first."""
        return tuple(self._lines)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        return 0 if parent.isValid() else len(self._lines)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        return 0 if parent.isValid() else 4

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return (tr("Time"), tr("Level"), tr("Origin"), tr("Text"))[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid():
            return None
        line = self._lines[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(line, index.column())
        if role == LEVEL_ROLE:
            return line.level
        if role == LINE_ROLE:
            return line
        if role == Qt.ItemDataRole.ToolTipRole and index.column() == TEXT:
            return line.details or line.text
        return None

    @staticmethod
    def _text(line: LogLine, column: int) -> str:
        if column == TIME:
            stamp = time.strftime("%H:%M:%S", time.localtime(line.time_ns / 1e9))
            return f"{stamp}.{line.time_ns // 1_000_000 % 1000:03d}"
        if column == LEVEL:
            return level_name(line.level)
        return line.origin if column == ORIGIN else line.text
