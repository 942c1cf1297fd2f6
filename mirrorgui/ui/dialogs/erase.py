"""The last question before a device is erased: what it is called has to be typed."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.block.devices import BlockDevice
from mirrorgui.block.safety import erase_text
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.device_texts import erase_title
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.style import set_look


class EraseDialog(QDialog):
    """Accepted only with the right word typed, and the red button pressed. Enter does nothing."""

    def __init__(self, device: BlockDevice, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._word = device.confirm_word
        self.setWindowTitle(erase_title(device))
        self.setWindowModality(Qt.WindowModality.WindowModal)
        picture = QLabel(self)
        icons_of().give(picture, "warning", "danger", 40)
        self.title = QLabel(erase_title(device), self)
        set_look(self.title, "title")
        self.text = QLabel(erase_text(device), self)
        self.prompt = QLabel(tr("Type {word} to confirm:", word=self._word), self)
        for label in (self.title, self.text, self.prompt):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        self.text.setMinimumWidth(self.fontMetrics().averageCharWidth() * 60)
        self.word = QLineEdit(self)
        self.word.setAccessibleName(tr("Confirmation"))
        self.prompt.setBuddy(self.word)
        self.cancel = QPushButton(tr("&Cancel"), self)
        self.cancel.setDefault(True)
        self.erase = QPushButton(tr("&Erase and start mirroring"), self)
        self.erase.setAutoDefault(False)
        set_look(self.erase, "danger")
        self._lay_out(picture)
        self.word.textChanged.connect(self._check)
        self.cancel.clicked.connect(self.reject)
        self.erase.clicked.connect(self.accept)
        self._check()
        self.word.setFocus()

    def _lay_out(self, picture: QLabel) -> None:
        words = QVBoxLayout()
        words.setSpacing(10)
        for widget in (self.title, self.text, self.prompt, self.word):
            words.addWidget(widget)
        top = QHBoxLayout()
        top.setSpacing(16)
        top.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(words, 1)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.cancel)
        row.addWidget(self.erase)
        column = QVBoxLayout(self)
        column.setContentsMargins(22, 20, 22, 16)
        column.setSpacing(18)
        column.addLayout(top)
        column.addLayout(row)

    def _check(self) -> None:
        right = self.word.text().strip() == self._word
        self.erase.setEnabled(right)
        reason = "" if right else tr("Type {word} first", word=self._word)
        self.erase.setToolTip(reason)
        self.erase.setAccessibleDescription(reason)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        # Enter would press the default button: neither losing data nor losing what was typed. It
        # counts for a button only when that has been gone to.
        on_button = self.cancel.hasFocus() or self.erase.hasFocus()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not on_button:
            event.accept()
            return
        super().keyPressEvent(event)

    def accept(self) -> None:
        if self.erase.isEnabled():
            super().accept()
