"""The map as a table: what a picture shows, for those who cannot see it, or want it exact."""

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QColor

from mirrorgui.ui.heatmap.areas import Area, cells_of, exact
from mirrorgui.ui.heatmap.colors import LIGHT, MapPalette
from mirrorgui.ui.i18n import tr

_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()

AREA_ROLE = Qt.ItemDataRole.UserRole
"""Role under which a row's ``Area`` is found."""


class AreasModel(QAbstractTableModel):
    """Areas of an image, one a row. Rows that stay keep their selection when others come."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._areas: list[Area] = []
        self._palette = LIGHT

    def set_map_palette(self, palette: MapPalette) -> None:
        """Show the states' colours beside their names."""
        self._palette = palette

    @staticmethod
    def headers() -> tuple[str, ...]:
        """Return the titles of the columns."""
        return (
            tr("State"), tr("From"), tr("Length"), tr("To"), tr("Tries"), tr("Last error"),
            tr("Age"),
        )  # fmt: skip

    @property
    def areas(self) -> tuple[Area, ...]:
        """The rows."""
        return tuple(self._areas)

    def show_areas(self, areas: list[Area]) -> None:
        """Replace the rows."""
        if areas == self._areas:
            return
        old, new = len(self._areas), len(areas)
        if new < old:
            self.beginRemoveRows(_ROOT, new, old - 1)
            self._areas = areas
            self.endRemoveRows()
        elif new > old:
            self.beginInsertRows(_ROOT, old, new - 1)
            self._areas = areas
            self.endInsertRows()
        else:
            self._areas = areas
        if areas:
            last = self.index(new - 1, self.columnCount() - 1)
            self.dataChanged.emit(self.index(0, 0), last)

    def rowCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._areas)

    def columnCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self.headers())

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> str | None:
        if orientation is Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self.headers()[section]
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid():
            return None
        area = self._areas[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return cells_of(area)[index.column()]
        if role == Qt.ItemDataRole.DecorationRole and index.column() == 0:
            return QColor(self._palette.of(area.state))
        if role == Qt.ItemDataRole.ToolTipRole:
            return exact(area)
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() in (1, 2, 3, 4):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == AREA_ROLE:
            return area
        return None
