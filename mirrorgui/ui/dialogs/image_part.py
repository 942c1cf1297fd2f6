"""Fields of the New mirror form that name and describe images, and its part for the source."""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.block.info import ImageInfo
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.creation_form import FORMATS
from mirrorgui.ui.empty_state import dropped_path
from mirrorgui.ui.form_texts import detected_text, info_rows
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look


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
        self.offer(FORMATS)

    def offer(self, formats: Sequence[str]) -> None:
        """Offer formats; one that is chosen stays while it is among them."""
        if [self.itemData(index) for index in range(1, self.count())] == list(formats):
            return
        chosen = self.image_format()
        self.blockSignals(True)
        while self.count() > 1:
            self.removeItem(1)
        for each in formats:
            self.addItem(each, each)
        self.set_image_format(chosen)
        self.blockSignals(False)

    def image_format(self) -> str | None:
        """Return the fixed format, or None."""
        chosen = self.currentData()
        return str(chosen) if chosen is not None else None

    def set_image_format(self, image_format: str | None) -> None:
        """Choose a format; one that is not offered leaves it automatic."""
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
        row.setSpacing(6)
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
