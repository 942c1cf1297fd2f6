"""The part of the New mirror form that says what the copy is written to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QWidget,
)

from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.creation_form import FORMATS, NEW_FORMATS, layers_below, new_format
from mirrorgui.ui.device_texts import device_line
from mirrorgui.ui.dialogs.creation_part import CreationRows
from mirrorgui.ui.dialogs.image_part import FormatField, InfoPanel, PathField
from mirrorgui.ui.form import FormValues, Look, TargetKind, Verdict
from mirrorgui.ui.form_texts import automatic_text, detected_text, info_rows, new_rows
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.wrapping import Explained, TickBox

if TYPE_CHECKING:
    from mirrorgui.block.devices import BlockDevice


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
        self.format_row = Explained(self.format, self)
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
        row.setSpacing(6)
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
        form.addRow(tr("Fo&rmat"), self.format_row)
        self.creation = CreationRows(form, self)
        form.addRow(self.overwrite)
        form.addRow(self.info)
        for push in (self.browse, self.refresh):
            push.setAutoDefault(False)

    def _connect(self) -> None:
        self._group.buttonToggled.connect(self._kind_toggled)
        self.path.textChanged.connect(self._image_changed)
        self.device.currentIndexChanged.connect(self._image_changed)
        self.format.currentIndexChanged.connect(self.edited)
        self.creation.edited.connect(self.edited)
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
        self.format.offer(NEW_FORMATS if new else FORMATS)
        if device and not self._devices:
            self.refresh_requested.emit()
        self._image_changed()

    def _image_changed(self) -> None:
        # Agreeing to lose one image's content must never be taken for agreeing to lose another's.
        self.overwrite.blockSignals(True)
        self.overwrite.set_checked(False)
        self.overwrite.blockSignals(False)
        self.edited.emit()

    def show_look(self, look: Look, values: FormValues, verdict: Verdict) -> None:
        """Show what was found out about the target, and what has to be agreed to."""
        new = self.kind() is TargetKind.NEW
        automatic = automatic_text(look.source) if new else detected_text(look.target)
        self.format.set_automatic(automatic)
        self.overwrite.setVisible(bool(verdict.tick))
        if verdict.tick:
            self.overwrite.set_text(verdict.tick)
        self._show_new(look, values, verdict)
        info = look.target
        rows = info_rows(info, guessed=False) if info is not None and not new else []
        self.info.show_rows(new_rows(values, look.source) if new else rows)

    def _show_new(self, look: Look, values: FormValues, verdict: Verdict) -> None:
        """Show how a new file can be made, and at each field what is wrong with it."""
        new = self.kind() is TargetKind.NEW
        image_format = new_format(values.target_format, look.source) if new else ""
        layers = layers_below(values.sync, image_format, look.source)
        self.creation.show_format(image_format, has_backing=bool(layers))
        problems = {each.field: each.text for each in reversed(verdict.remarks)}
        self.creation.show_problems(problems)
        problem = problems.get("target-format", "")
        self.format_row.explain(problem, problem=bool(problem))
