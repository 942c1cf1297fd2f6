"""Chooses a device as source."""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.block.devices import BlockDevice
from mirrorgui.ui.device_texts import device_line
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look

_PATH = Qt.ItemDataRole.UserRole


class DevicePicker(QDialog):
    """A list of devices and their partitions.

    Signals:
        chosen: the path (str) of the device.
    """

    chosen = Signal(str)

    def __init__(self, devices: Sequence[BlockDevice], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Choose a source device"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.list = QListWidget(self)
        self.list.setAccessibleName(tr("Devices"))
        self.list.setMinimumSize(self.fontMetrics().averageCharWidth() * 70, 200)
        for device in devices:
            self._add(device_line(device), device.path)
            for part in device.partitions:
                self._add(f"      {part.path}  {part.label}".rstrip(), part.path)
        nothing = QLabel(tr("No device found."), self)
        nothing.setVisible(not devices)
        self.cancel = QPushButton(tr("&Cancel"), self)
        self.choose = QPushButton(tr("C&hoose"), self)
        self.choose.setDefault(True)
        set_look(self.choose, "primary")
        self.choose.setEnabled(False)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.cancel)
        row.addWidget(self.choose)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 16, 18, 14)
        column.addWidget(nothing)
        column.addWidget(self.list, 1)
        column.addLayout(row)
        self.list.itemSelectionChanged.connect(self._selected)
        self.list.itemDoubleClicked.connect(self.accept)
        self.cancel.clicked.connect(self.reject)
        self.choose.clicked.connect(self.accept)

    def _add(self, text: str, path: str) -> None:
        item = QListWidgetItem(text)
        item.setData(_PATH, path)
        self.list.addItem(item)

    def _selected(self) -> None:
        self.choose.setEnabled(bool(self.list.selectedItems()))

    def accept(self) -> None:
        items = self.list.selectedItems()
        if items:
            self.chosen.emit(str(items[0].data(_PATH)))
            super().accept()
