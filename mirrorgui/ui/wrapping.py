"""Texts that wrap where Qt's own widgets do not."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from mirrorgui.ui.style import set_look


class TickBox(QWidget):
    """A box to tick whose text may take several lines.

    Signals:
        toggled: True when it is ticked.
    """

    toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = QCheckBox(self)
        self.label = _Label(self.box, self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.box, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.label, 1)
        self.setFocusProxy(self.box)
        self.box.toggled.connect(self.toggled)

    def text(self) -> str:
        """Return what is agreed to."""
        return self.label.text()

    def set_text(self, text: str) -> None:
        """Say what is agreed to."""
        if text != self.label.text():
            self.label.setText(text)
            self.box.setAccessibleName(text)

    def is_checked(self) -> bool:
        """Return whether it is ticked."""
        return self.box.isChecked()

    def set_checked(self, checked: bool) -> None:
        """Tick it, or take the tick away."""
        self.box.setChecked(checked)


class _Label(QLabel):
    def __init__(self, box: QCheckBox, parent: QWidget) -> None:
        super().__init__(parent)
        self._box = box
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton and self.rect().contains(
            event.position().toPoint()
        ):
            self._box.click()
        super().mouseReleaseEvent(event)


class Explained(QWidget):
    """An input field with a caption below it that explains the choice."""

    def __init__(self, field: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._field = field
        self.caption = QLabel(self)
        self.caption.setWordWrap(True)
        self.caption.setTextFormat(Qt.TextFormat.PlainText)
        set_look(self.caption, "caption")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addWidget(field)
        column.addWidget(self.caption)
        self.setFocusProxy(field)

    def explain(self, text: str, *, problem: bool = False) -> None:
        """Show a caption, also to screen readers; an empty one takes no room.

        Args:
            text: what it says.
            problem: it says what is wrong with the choice.
        """
        set_look(self.caption, "problem" if problem else "caption")
        self.caption.setText(text)
        self.caption.setVisible(bool(text))
        self._field.setAccessibleDescription(text)
