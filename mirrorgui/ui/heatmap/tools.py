"""The row of tools above the map: order of cells, zoom, following the copy."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QToolButton, QWidget

from mirrorgui.ui.heatmap.geometry import CellOrder
from mirrorgui.ui.i18n import tr


class MapTools(QWidget):
    """Buttons for what the mouse and the keyboard do in the map as well.

    Signals:
        zoom_requested: 1 in, -1 out.
        fit_requested: show the whole image.
        one_to_one_requested: a cell shall be a chunk.
        order_chosen: a ``CellOrder``.
        follow_toggled: whether to follow the copy.
    """

    zoom_requested = Signal(int)
    fit_requested = Signal()
    one_to_one_requested = Signal()
    order_chosen = Signal(object)
    follow_toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.order = QComboBox(self)
        self.order.addItem(tr("Rows"), CellOrder.ROWS)
        self.order.addItem(tr("Locality"), CellOrder.HILBERT)
        self.order.setToolTip(
            tr("Rows: offsets run as in a text. Locality: what is near in the image stays near.")
        )
        self.order.setAccessibleName(tr("Order of cells"))
        self.order.activated.connect(self._choose_order)
        caption = QLabel(tr("&Order"), self)
        caption.setBuddy(self.order)
        self.out = self._button("\N{MINUS SIGN}", tr("Zoom out"), tr("Zoom out (-)"))
        self.out.clicked.connect(self._zoom_out)
        self.closer = self._button("+", tr("Zoom in"), tr("Zoom in (+)"))
        self.closer.clicked.connect(self._zoom_in)
        self.fit = self._button(tr("Fit"), tr("Show the whole image"), tr("Whole image (0)"))
        self.fit.clicked.connect(self.fit_requested)
        self.single = self._button("1:1", tr("Single chunks"), tr("A cell is a chunk"))
        self.single.clicked.connect(self.one_to_one_requested)
        self.follow = self._button(
            tr("Follow"), tr("Follow the copy"), tr("Keep what is being copied in view (F)")
        )
        self.follow.setCheckable(True)
        self.follow.toggled.connect(self.follow_toggled)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(caption)
        row.addWidget(self.order)
        row.addStretch(1)
        for button in (self.follow, self.out, self.closer, self.fit, self.single):
            row.addWidget(button)

    def _button(self, text: str, name: str, tip: str) -> QToolButton:
        made = QToolButton(self)
        made.setText(text)
        made.setAccessibleName(name)
        made.setToolTip(tip)
        made.setAutoRaise(True)
        return made

    def set_fit(self, fit: bool) -> None:
        """Say whether the whole image is in view."""
        self.out.setEnabled(not fit)
        self.fit.setEnabled(not fit)

    def set_following(self, following: bool) -> None:
        """Say whether the view follows the copy."""
        self.follow.setChecked(following)

    def show_order(self, order: CellOrder) -> None:
        """Show which order is used."""
        self.order.setCurrentIndex(self.order.findData(order))

    def _choose_order(self, index: int) -> None:
        self.order_chosen.emit(self.order.itemData(index))

    def _zoom_in(self) -> None:
        self.zoom_requested.emit(1)

    def _zoom_out(self) -> None:
        self.zoom_requested.emit(-1)
