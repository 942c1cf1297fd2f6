"""Input fields that several dialogs share."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QVBoxLayout, QWidget

from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.quantities import (
    QUICK_SPEEDS,
    plain_rate,
    plain_size,
    policy_explanation,
    policy_label,
    read_size,
    read_speed,
)
from mirrorgui.ui.wrapping import Explained
from mirrorgui.units import KiB


class SpeedField(QComboBox):
    """A speed limit, chosen or typed.

    Signals:
        speed_edited: it may have changed.
    """

    speed_edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        for speed in (0, *QUICK_SPEEDS):
            self.addItem(plain_rate(speed), speed)
        self.setAccessibleName(tr("Speed limit"))
        self.currentTextChanged.connect(self.speed_edited)

    def speed(self) -> int:
        """Return bytes per second, 0 for unlimited.

        Raises:
            ValueError: what is typed is not a speed; the text says what would be.
        """
        return read_speed(self.currentText())

    def set_speed(self, speed: int) -> None:
        """Show a speed in bytes per second."""
        self.setCurrentText(plain_rate(speed))


class SizeField(QComboBox):
    """A size in bytes, chosen or typed; 0 is automatic.

    Signals:
        size_edited: it may have changed.
    """

    size_edited = Signal()

    def __init__(self, sizes: Sequence[int], *, typed: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._automatic = tr("Auto")
        self.setEditable(typed)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.addItem(self._automatic, 0)
        for size in sizes:
            self.addItem(plain_size(size), size)
        self.currentTextChanged.connect(self.size_edited)

    def set_automatic(self, size: int) -> None:
        """Say which size would be chosen."""
        text = tr("Auto ({size})", size=plain_size(size)) if size else tr("Auto")
        if text == self._automatic:
            return
        chosen = self.currentText() == self._automatic
        self._automatic = text
        self.setItemText(0, text)
        if chosen and self.isEditable():
            self.setCurrentText(text)

    def size_bytes(self) -> int:
        """Return bytes, 0 for automatic.

        Raises:
            ValueError: what is typed is not a size.
        """
        if not self.isEditable():
            return int(self.currentData())
        return read_size(self.currentText(), (self._automatic, tr("Auto")))

    def set_size_bytes(self, size: int) -> None:
        """Show a size; 0 is automatic."""
        index = self.findData(size)
        if index >= 0:
            self.setCurrentIndex(index)
        elif self.isEditable():
            self.setCurrentText(plain_size(size) if size % KiB == 0 else str(size))


class PolicyField(QWidget):
    """An error policy with its explanation below.

    Signals:
        policy_edited: it has changed.
    """

    policy_edited = Signal()

    def __init__(
        self, name: str, policies: Sequence[ErrorPolicy], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.combo = QComboBox(self)
        self.combo.setAccessibleName(name)
        for policy in policies:
            self.combo.addItem(policy_label(policy), policy)
        self.row = Explained(self.combo, self)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.row)
        self.setFocusProxy(self.combo)
        self.combo.currentIndexChanged.connect(self._changed)
        self._changed()

    def _changed(self) -> None:
        self.row.explain(policy_explanation(self.policy()))
        self.policy_edited.emit()

    def policy(self) -> ErrorPolicy:
        """Return what is chosen."""
        chosen = self.combo.currentData()
        assert isinstance(chosen, ErrorPolicy)
        return chosen

    def set_policy(self, policy: ErrorPolicy) -> None:
        """Choose a policy; one that is not offered here is added."""
        index = self.combo.findData(policy)
        if index < 0:
            self.combo.addItem(policy_label(policy), policy)
            index = self.combo.count() - 1
        self.combo.setCurrentIndex(index)
