"""The parts of the New mirror form that name images: source and target."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.block.info import ImageInfo
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.device_texts import device_line
from mirrorgui.ui.empty_state import dropped_path
from mirrorgui.ui.form import FORMATS, Look, TargetKind
from mirrorgui.ui.form_texts import detected_text, info_rows
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look
from mirrorgui.ui.wrapping import TickBox

if TYPE_CHECKING:
    from mirrorgui.block.devices import BlockDevice


class PathField(QLineEdit):
    """A path or URI to be typed, pasted or dropped."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setClearButtonEnabled(True)
        self.setAcceptDrops(True)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if dropped_path(event) is not None:
            event.acceptProposedAction()
        else:
            super().dragEnterEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        path = dropped_path(event)
        if path is not None:
            self.setText(path)
            event.acceptProposedAction()
        else:
            super().dropEvent(event)


class FormatField(QComboBox):
    """An image format: one that is found out, or a fixed one."""

    def __init__(self, name: str, automatic: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.addItem(automatic, None)
        for each in FORMATS:
            self.addItem(each, each)

    def image_format(self) -> str | None:
        """Return the fixed format, or None."""
        chosen = self.currentData()
        return str(chosen) if chosen is not None else None

    def set_image_format(self, image_format: str | None) -> None:
        """Choose a format."""
        self.setCurrentIndex(max(self.findData(image_format), 0))

    def set_automatic(self, text: str) -> None:
        """Say what the automatic choice comes to."""
        if self.itemText(0) != text:
            self.setItemText(0, text)


class InfoPanel(QWidget):
    """What an image is, in rows."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 4, 0, 0)
        self._form.setVerticalSpacing(3)
        self._form.setHorizontalSpacing(14)
        self._shown: list[tuple[str, str, bool]] | None = None

    def show_rows(self, rows: list[tuple[str, str, bool]]) -> None:
        """Show rows of caption, value, and whether something is wrong with it."""
        if rows == self._shown:
            return
        self._shown = rows
        while self._form.rowCount():
            self._form.removeRow(0)
        for caption, value, wrong in rows:
            title, text = QLabel(caption, self), QLabel(value, self)
            set_look(title, "caption")
            set_look(text, "problem" if wrong else "")
            text.setWordWrap(True)
            text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._form.addRow(title, text)
        self.setVisible(bool(rows))

    def texts(self) -> list[str]:
        """Return the values shown."""
        return [value for _caption, value, _wrong in self._shown or []]


class SourcePart(QGroupBox):
    """Chooses the source.

    Signals:
        edited: something was changed.
        browse_requested: choose a file.
    """

    edited = Signal()
    browse_requested = Signal()
    devices_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("Source"), parent)
        self.path = PathField(tr("Source image"), self)
        self.path.setPlaceholderText(tr("Drop an image here, or type its path"))
        self.browse = QPushButton(tr("&Browse..."), self)
        self.devices = QPushButton(tr("&Devices..."), self)
        icons_of().give(self.browse, "folder")
        icons_of().give(self.devices, "disk")
        self.format = FormatField(tr("Source format"), tr("Auto"), self)
        self.info = InfoPanel(self)
        self._lay_out()
        self.path.textChanged.connect(self.edited)
        self.format.currentIndexChanged.connect(self.edited)
        self.browse.clicked.connect(self.browse_requested)
        self.devices.clicked.connect(self.devices_requested)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.path, 1)
        row.addWidget(self.browse)
        row.addWidget(self.devices)
        form = QFormLayout(self)
        form.setContentsMargins(14, 8, 14, 12)
        form.setVerticalSpacing(8)
        image = QLabel(tr("&Image"), self)
        image.setBuddy(self.path)
        form.addRow(image, row)
        form.addRow(tr("Forma&t"), self.format)
        form.addRow(self.info)
        for button in (self.browse, self.devices):
            button.setAutoDefault(False)

    def show_look(self, info: ImageInfo | None) -> None:
        """Show what was found out about the source."""
        self.format.set_automatic(detected_text(info))
        guessed = self.format.image_format() is None
        self.info.show_rows(info_rows(info, guessed=guessed) if info is not None else [])


class TargetPart(QGroupBox):
    """Chooses the target.

    Signals:
        edited: another image or format was chosen.
        agreed: the tick for losing its content was set or taken away.
        browse_requested: choose a file.
        refresh_requested: look for devices again.
    """

    edited = Signal()
    agreed = Signal()
    browse_requested = Signal()
    refresh_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("Target"), parent)
        self.kinds = {
            TargetKind.NEW: QRadioButton(tr("&New file"), self),
            TargetKind.EXISTING: QRadioButton(tr("E&xisting image"), self),
            TargetKind.DEVICE: QRadioButton(tr("De&vice"), self),
        }
        self._group = QButtonGroup(self)
        self.path = PathField(tr("Target image"), self)
        self.browse = QPushButton(tr("Bro&wse..."), self)
        self.device = QComboBox(self)
        self.device.setAccessibleName(tr("Target device"))
        self.refresh = QPushButton(tr("Loo&k again"), self)
        icons_of().give(self.browse, "folder")
        icons_of().give(self.refresh, "retry")
        self.format = FormatField(tr("Target format"), tr("Same as source"), self)
        self.overwrite = TickBox(self)
        self.overwrite.setVisible(False)
        self.info = InfoPanel(self)
        self._devices: tuple[BlockDevice, ...] = ()
        self._lay_out()
        self._connect()
        self.kinds[TargetKind.NEW].setChecked(True)
        self._kind_chosen()

    def _lay_out(self) -> None:
        kinds = QHBoxLayout()
        kinds.setSpacing(18)
        for button in self.kinds.values():
            self._group.addButton(button)
            kinds.addWidget(button)
        kinds.addStretch(1)
        row = QHBoxLayout()
        row.addWidget(self.path, 1)
        row.addWidget(self.device, 1)
        row.addWidget(self.browse)
        row.addWidget(self.refresh)
        form = QFormLayout(self)
        form.setContentsMargins(14, 8, 14, 12)
        form.setVerticalSpacing(8)
        form.addRow(tr("Kind"), kinds)
        self._image_label = QLabel(tr("I&mage"), self)
        form.addRow(self._image_label, row)
        form.addRow(tr("Fo&rmat"), self.format)
        form.addRow(self.overwrite)
        form.addRow(self.info)
        for push in (self.browse, self.refresh):
            push.setAutoDefault(False)

    def _connect(self) -> None:
        self._group.buttonToggled.connect(self._kind_toggled)
        self.path.textChanged.connect(self._image_changed)
        self.device.currentIndexChanged.connect(self._image_changed)
        self.format.currentIndexChanged.connect(self.edited)
        self.overwrite.toggled.connect(self.agreed)
        self.browse.clicked.connect(self.browse_requested)
        self.refresh.clicked.connect(self.refresh_requested)

    def kind(self) -> TargetKind:
        """Return which kind of target is chosen."""
        return next(kind for kind, button in self.kinds.items() if button.isChecked())

    def set_kind(self, kind: TargetKind) -> None:
        """Choose a kind of target."""
        self.kinds[kind].setChecked(True)

    def target(self) -> str:
        """Return the target's path, or an empty text."""
        if self.kind() is TargetKind.DEVICE:
            return str(self.device.currentData() or "")
        return self.path.text().strip()

    def chosen_device(self) -> "BlockDevice | None":
        """Return the device that is chosen."""
        path = self.target()
        return next((each for each in self._devices if each.path == path), None)

    def set_devices(self, devices: "Sequence[BlockDevice]") -> None:
        """Offer devices. None is preselected; a choice stays only while the device does."""
        before = self.device.currentData()
        self._devices = tuple(devices)
        self.device.blockSignals(True)
        self.device.clear()
        text = tr("Choose a device") if devices else tr("No device found")
        self.device.addItem(text, None)
        for each in devices:
            self.device.addItem(device_line(each), each.path)
        self.device.setCurrentIndex(max(self.device.findData(before), 0) if before else 0)
        self.device.blockSignals(False)
        self._image_changed()

    def clear_device(self) -> None:
        """Choose no device."""
        self.device.setCurrentIndex(0)

    def _kind_toggled(self, _button: QRadioButton, checked: bool) -> None:
        if checked:
            self._kind_chosen()

    def _kind_chosen(self) -> None:
        device = self.kind() is TargetKind.DEVICE
        self.device.setVisible(device)
        self.refresh.setVisible(device)
        self.path.setVisible(not device)
        self.browse.setVisible(not device)
        self._image_label.setText(tr("Device") if device else tr("I&mage"))
        self._image_label.setBuddy(self.device if device else self.path)
        new = self.kind() is TargetKind.NEW
        self.path.setPlaceholderText(
            tr("Path of the new file") if new else tr("Path of an image that may be overwritten")
        )
        if device and not self._devices:
            self.refresh_requested.emit()
        self._image_changed()

    def _image_changed(self) -> None:
        # Agreeing to lose one image's content must never be taken for agreeing to lose another's.
        self.overwrite.blockSignals(True)
        self.overwrite.set_checked(False)
        self.overwrite.blockSignals(False)
        self.edited.emit()

    def show_look(self, look: Look, tick: str) -> None:
        """Show what was found out about the target, and what has to be agreed to."""
        new = self.kind() is TargetKind.NEW
        automatic = tr("Same as source") if new else detected_text(look.target)
        self.format.set_automatic(automatic)
        self.overwrite.setVisible(bool(tick))
        if tick:
            self.overwrite.set_text(tick)
        info = look.target
        rows = info_rows(info, guessed=False) if info is not None and not new else []
        self.info.show_rows(rows)


class PartColumn(QWidget):
    """Parts above each other."""

    def __init__(self, parts: Sequence[QWidget], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        for part in parts:
            column.addWidget(part)
        column.addStretch(1)
