"""The clients of an export as a table."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from mirrorgui.ui.exported import age_text, since_text
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.ui.quantities import place_text
from mirrorgui.units import format_size

if TYPE_CHECKING:
    from mirrorgui.nbd.statistics import ConnectionStatistics

Index = QModelIndex | QPersistentModelIndex

PEER, LAST, READS, WRITES, ERRORS, SINCE, EXPORT = range(7)

SORT_ROLE = Qt.ItemDataRole.UserRole
CLIENT_ROLE = Qt.ItemDataRole.UserRole + 1

_NUMBERS = (READS, WRITES, ERRORS)

WIDEST = (
    "qemu-system-x86 (pid 812) ",
    "write 64.0 KiB at 29.120 GiB, 3 s ago",
    "888 888, 88.8 GiB",
    "888 888, 88.8 GiB",
    "Errors",
    "88:88:88",
    "debian-server",
)
"""What each column has room for at first: numbers that grow must not push the others to and fro."""


def headings() -> tuple[str, ...]:
    """Return the titles of the columns."""
    return (
        tr("Client"),
        tr("Last request"),
        tr("Reads"),
        tr("Writes"),
        tr("Errors"),
        tr("Since"),
        tr("Export"),
    )


def last_request_text(client: "ConnectionStatistics", now_s: float) -> str:
    """Say what a client asked for last, and when: ``write 4.0 KiB at 1.000 GiB, 2 s ago``."""
    if not client.last_request:
        return tr("nothing yet")
    words = client.last_request.split(" ")
    name = words[0].lower().replace("_", " ")
    if len(words) == 4:
        size, place = format_size(int(words[1])), place_text(int(words[3]))
        name = tr("{request} {size} at {place}", request=name, size=size, place=place)
    return f"{name}, {age_text(now_s - client.last_request_at)}"


class ClientsModel(QAbstractTableModel):
    """Rows are connections, the oldest first; a row stays the same client's while it is there."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._clients: tuple[ConnectionStatistics, ...] = ()
        self._now_s = 0.0

    @property
    def clients(self) -> "tuple[ConnectionStatistics, ...]":
        """What is shown."""
        return self._clients

    def show_clients(
        self, clients: "Sequence[ConnectionStatistics]", now_s: float | None = None
    ) -> None:
        """Show a look at the connections, taken at ``now_s`` (seconds since 1970)."""
        self._now_s = time.time() if now_s is None else now_s
        wanted = {each.id: each for each in clients}
        for row in reversed(range(len(self._clients))):
            if self._clients[row].id not in wanted:
                self.beginRemoveRows(QModelIndex(), row, row)
                self._clients = self._clients[:row] + self._clients[row + 1 :]
                self.endRemoveRows()
        known = {each.id for each in self._clients}
        self._clients = tuple(wanted[each.id] for each in self._clients)
        if self._clients:
            last = self.index(len(self._clients) - 1, EXPORT)
            self.dataChanged.emit(self.index(0, 0), last)
        added = tuple(each for each in clients if each.id not in known)
        if added:
            first = len(self._clients)
            self.beginInsertRows(QModelIndex(), first, first + len(added) - 1)
            self._clients += added
            self.endInsertRows()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        return 0 if parent.isValid() else len(self._clients)

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
        client, column = self._clients[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(client, column)
        if role == SORT_ROLE:
            return _sort_key(client, column)
        if role == CLIENT_ROLE:
            return client
        if role == Qt.ItemDataRole.ToolTipRole:
            return _tip(client, column)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        return None

    def _text(self, client: "ConnectionStatistics", column: int) -> str:
        if column == PEER:
            return client.peer
        if column == SINCE:
            return since_text(client.since, self._now_s)
        if column == EXPORT:
            name = tr("(being agreed)") if client.export is None else client.export or "-"
            return tr("{name}, TLS", name=name) if client.encrypted else name
        if column == LAST:
            return last_request_text(client, self._now_s)
        if column == READS:
            return _amount(client.reads, client.bytes_read)
        if column == WRITES:
            return _amount(client.writes, client.bytes_written)
        return _number(client.errors)


def _number(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _amount(requests: int, size: int) -> str:
    return f"{_number(requests)}, {format_size(size)}" if requests else "0"


def _sort_key(client: "ConnectionStatistics", column: int) -> str | int | float:
    keys: tuple[str | int | float, ...] = (
        client.peer,
        client.last_request_at,
        client.reads,
        client.writes,
        client.errors,
        client.since,
        client.export or "",
    )
    return keys[column]


def _tip(client: "ConnectionStatistics", column: int) -> str:
    if column == READS:
        return tr("{n} bytes read", n=_number(client.bytes_read))
    if column == WRITES:
        flushes = ntr("{n} flush", "{n} flushes", client.flushes)
        size = _number(client.bytes_written)
        return tr("{n} bytes written or discarded, {flushes}", n=size, flushes=flushes)
    if column == LAST:
        return client.last_request
    if column == EXPORT:
        return tr("encrypted") if client.encrypted else tr("not encrypted")
    return client.peer


def _alignment(column: int) -> int:
    side = Qt.AlignmentFlag.AlignRight if column in _NUMBERS else Qt.AlignmentFlag.AlignLeft
    return int(side | Qt.AlignmentFlag.AlignVCenter)


def as_text(clients: "Sequence[ConnectionStatistics]", now_s: float) -> str:
    """Write clients as lines for the clipboard."""
    return "\n".join(
        tr(
            "{peer}, since {since}: {reads} reads ({read}), {writes} writes ({written}), "
            "{errors} errors, last {last}",
            peer=each.peer,
            since=since_text(each.since, now_s),
            reads=each.reads,
            read=format_size(each.bytes_read),
            writes=each.writes,
            written=format_size(each.bytes_written),
            errors=each.errors,
            last=last_request_text(each, now_s),
        )
        for each in clients
    )
