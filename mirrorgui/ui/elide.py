"""A label that gives way: cuts its text in the middle and tells the whole on hover."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget


class ElidedLabel(QLabel):
    """Shows as much of a text as fits, with an ellipsis where it was cut."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._full = ""
        self._tip = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)

    def full_text(self) -> str:
        """Return the whole text."""
        return self._full

    def set_full_text(self, text: str, tip: str = "") -> None:
        """Show a text; ``tip`` is what a hover tells, the text itself when it is cut."""
        if (text, tip) == (self._full, self._tip):
            return
        self._full, self._tip = text, tip
        self._cut()
        self.updateGeometry()

    def _cut(self) -> None:
        room = self.contentsRect().width()
        cut = self.fontMetrics().elidedText(self._full, Qt.TextElideMode.ElideMiddle, room)
        self.setText(cut)
        self.setToolTip(self._tip or (self._full if cut != self._full else ""))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._cut()

    def sizeHint(self) -> QSize:
        # Of the whole text: the cut one would never ask for more room again.
        width = self.fontMetrics().horizontalAdvance(self._full) + 2
        return QSize(width, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(self.fontMetrics().averageCharWidth() * 8, super().minimumSizeHint().height())
