"""What QMP commands offer to clients, below everything else: one line for each export."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.elide import ElidedLabel
from mirrorgui.ui.export_bar import CommandMenu
from mirrorgui.ui.exported import connected_text
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.node_exports import NodeExported
from mirrorgui.ui.style import set_look
from mirrorgui.ui.system import copy_text

ROWS_SHOWN = 3
"""More than these are scrolled to: mirrors need the room."""

LOW = 640
"""In a window that is lower there is room for one row."""

NARROW = 900
"""Below this width a button has its icon only."""

_ADDRESS = 2


def _stack(holder: QWidget, *labels: QLabel) -> None:
    """Put labels close below each other."""
    column = QVBoxLayout(holder)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(0)
    for label in labels:
        column.addWidget(label)


class ExportRow:
    """One export: its widgets stand in one row of the list's grid."""

    def __init__(self, parent: QWidget) -> None:
        self.icon = QLabel(parent)
        self.names = QWidget(parent)
        self.name = ElidedLabel(self.names)
        self.shows = ElidedLabel(self.names)
        self.uri = ElidedLabel(parent)
        self.use = QWidget(parent)
        self.access = QLabel(self.use)
        self.clients = QLabel(self.use)
        self.copy = QPushButton(tr("Copy address"), parent)
        self.commands = QToolButton(parent)
        self.menu = CommandMenu(self.commands)
        self.stop = QPushButton(tr("Stop"), parent)
        self._offers: tuple[str, bool, bool] | None = None
        self._set_up()

    def _set_up(self) -> None:
        _stack(self.names, self.name, self.shows)
        _stack(self.use, self.access, self.clients)
        set_look(self.name, "section")
        for label in (self.shows, self.access, self.clients):
            set_look(label, "caption")
        self.uri.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        icons_of().give(self.icon, "disk", "muted", 18)
        icons_of().give(self.copy, "copy")
        self.copy.clicked.connect(self._copy)
        self.commands.setText(tr("Commands"))
        self.commands.setMenu(self.menu)
        self.commands.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.commands.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.commands.setProperty("menued", "true")
        set_look(self.commands, "button")

    @property
    def widgets(self) -> tuple[QWidget, ...]:
        """All of them, from the left."""
        shown = (self.icon, self.names, self.uri, self.use)
        return (*shown, self.copy, self.commands, self.stop)

    def set_narrow(self, narrow: bool) -> None:
        """Leave room for the address where there is little."""
        self.copy.setText("" if narrow else tr("Copy address"))

    def show_export(self, export: NodeExported) -> None:
        """Show an export as it is now."""
        exported = export.exported
        self.name.set_full_text(export.id, tip=tr("Export {id}", id=export.id))
        self.shows.set_full_text(
            export.shows, tip=tr("Node {node}, {image}", node=export.node, image=export.image)
        )
        self.uri.set_full_text(exported.uri, tip=exported.uri)
        self.access.setText(export.access)
        count = connected_text(len(exported.clients))
        self.clients.setText(tr("shutting down") if export.shutting_down else count)
        self.stop.setEnabled(not export.shutting_down)
        offers = (exported.uri, exported.read_only, exported.alone)
        if offers != self._offers:
            self._offers = offers
            self._name_parts(export)
            self.menu.show_commands(exported)
            self.commands.setEnabled(bool(exported.commands))

    def _name_parts(self, export: NodeExported) -> None:
        uri, name = export.exported.uri, export.id
        self.uri.setAccessibleName(tr("Address for clients of {id}: {uri}", id=name, uri=uri))
        self.copy.setAccessibleName(tr("Copy the address of {id}", id=name))
        self.commands.setAccessibleName(tr("Commands for clients of {id}", id=name))
        self.stop.setAccessibleName(tr("Stop the export {id}", id=name))
        self.copy.setToolTip(uri)
        self.stop.setToolTip(tr("Disconnect the clients of {id} and offer it no longer", id=name))

    def _copy(self) -> None:
        copy_text(self.uri.full_text())


class ExportsList(QFrame):
    """Lists exports, or hides while there are none.

    Signals:
        stop_requested: the id of an export that shall be offered no longer.
    """

    stop_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("exports")
        self.rows: dict[str, ExportRow] = {}
        self._narrow = False
        self.caption = QLabel(tr("Exports over QMP"), self)
        set_look(self.caption, "caption")
        self._page = QWidget()
        self._grid = QGridLayout(self._page)
        self._grid.setContentsMargins(12, 0, 12, 6)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(_ADDRESS, 1)
        self.area = _Rows(self._page, self)
        self.caption.setContentsMargins(12, 6, 12, 2)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.caption)
        column.addWidget(self.area)
        self.hide()

    def show_exports(self, exports: tuple[NodeExported, ...]) -> None:
        """Show all exports as they are now."""
        if [each.id for each in exports] != list(self.rows):
            self._make_rows(exports)
            self.area.rows = len(exports)
        for export in exports:
            self.rows[export.id].show_export(export)
        self.fit()
        self.setVisible(bool(exports))

    def _make_rows(self, exports: tuple[NodeExported, ...]) -> None:
        """Keep the rows of exports that stay: the keyboard may be in one of them."""
        wanted = {export.id for export in exports}
        for name in [name for name in self.rows if name not in wanted]:
            for widget in self.rows.pop(name).widgets:
                self._grid.removeWidget(widget)
                widget.hide()
                widget.deleteLater()
        self.rows = {
            export.id: self.rows.get(export.id) or self._make_row(export.id) for export in exports
        }
        for number, row in enumerate(self.rows.values()):
            for column, widget in enumerate(row.widgets):
                self._grid.removeWidget(widget)
                self._grid.addWidget(widget, number, column)
                widget.show()

    def _make_row(self, name: str) -> ExportRow:
        row = ExportRow(self._page)
        row.stop.clicked.connect(lambda: self.stop_requested.emit(name))
        row.set_narrow(self._narrow)
        return row

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._narrow = self.width() < NARROW
        for row in self.rows.values():
            row.set_narrow(self._narrow)

    def fit(self) -> None:
        """Take the room that a window of this height can spare."""
        self.area.updateGeometry()


class _Rows(QScrollArea):
    """As high as its rows, up to ``ROWS_SHOWN`` of them."""

    def __init__(self, page: QWidget, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows = 0
        self._page = page
        self.setWidget(page)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def sizeHint(self) -> QSize:
        whole = self._page.sizeHint()
        rows = max(self.rows, 1)
        most = 1 if self.window().height() < LOW else ROWS_SHOWN
        return QSize(whole.width(), whole.height() * min(rows, most) // rows)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.sizeHint().height())
