"""What there is to say about a form: refusals, warnings and hints, each with its icon."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from mirrorgui.block.safety import Severity
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.form import Remark
from mirrorgui.ui.style import set_look

_ICONS = {
    Severity.REFUSE: ("error", "danger", "problem"),
    Severity.CONFIRM: ("warning", "warning", "caution"),
    Severity.WARN: ("warning", "warning", "caution"),
    Severity.HINT: ("info", "muted", "muted"),
}


class RemarkList(QWidget):
    """Sentences below each other; hidden when there is nothing to say."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[Remark, ...] = ()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._rows: list[QWidget] = []
        self.hide()

    def texts(self) -> list[str]:
        """Return the sentences shown."""
        return [each.text for each in self._shown]

    def show_remarks(self, remarks: Sequence[Remark]) -> None:
        """Show remarks. That a field is still empty is said beside Start, not here."""
        said = tuple(each for each in remarks if not each.invitation)
        if said == self._shown:
            return
        self._shown = said
        for row in self._rows:
            self._column.removeWidget(row)
            row.hide()
            row.deleteLater()
        self._rows = [self._row(each) for each in said]
        self.setVisible(bool(said))

    def _row(self, remark: Remark) -> QWidget:
        icon, color, look = _ICONS[remark.severity]
        row = QWidget(self)
        picture, text = QLabel(row), QLabel(remark.text, row)
        icons_of().give(picture, icon, color, 16)
        text.setWordWrap(True)
        text.setTextFormat(Qt.TextFormat.PlainText)
        set_look(text, look)
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(8)
        line.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(text, 1)
        self._column.addWidget(row)
        return row
