"""Small dialogs that change a mirror while it runs: its speed limit, its error policies."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.ui.fields import PolicyField, SpeedField
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.quantities import SOURCE_POLICIES, TARGET_POLICIES
from mirrorgui.ui.style import set_look


class _LiveDialog(QDialog):
    """A form over the buttons [Not now] and one that does it."""

    def __init__(self, title: str, verb: str, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.form = QFormLayout()
        self.form.setSpacing(10)
        self.problem = QLabel(self)
        self.problem.setWordWrap(True)
        set_look(self.problem, "problem")
        keep = QPushButton(tr("&Not now"), self)
        keep.clicked.connect(self.reject)
        self.apply = QPushButton(verb, self)
        self.apply.setDefault(True)
        set_look(self.apply, "primary")
        self.apply.clicked.connect(self.accept)
        row = QHBoxLayout()
        row.addWidget(self.problem, 1)
        row.addWidget(keep)
        row.addWidget(self.apply)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 14)
        column.setSpacing(16)
        column.addLayout(self.form)
        column.addLayout(row)
        self.setMinimumWidth(self.fontMetrics().averageCharWidth() * 60)


class SpeedDialog(_LiveDialog):
    """Asks for a speed limit.

    Signals:
        chosen: bytes per second (object: an int of any size), 0 for unlimited.
    """

    chosen = Signal(object)

    def __init__(self, speed: int, parent: QWidget | None = None) -> None:
        super().__init__(tr("Speed limit"), tr("&Set limit"), parent)
        self.field = SpeedField(self)
        self.field.set_speed(speed)
        self.form.addRow(tr("Speed &limit"), self.field)
        hint = QLabel(
            tr("A number alone means MiB/s; K, M and G may follow. Takes effect at once.")
        )
        set_look(hint, "caption")
        hint.setWordWrap(True)
        self.form.addRow("", hint)
        self.field.speed_edited.connect(self._check)
        editor = self.field.lineEdit()
        if editor is not None:
            editor.selectAll()

    def _check(self) -> None:
        try:
            self.field.speed()
        except ValueError as error:
            self.problem.setText(str(error))
        else:
            self.problem.setText("")
        self.apply.setEnabled(not self.problem.text())

    def accept(self) -> None:
        try:
            speed = self.field.speed()
        except ValueError:
            return
        self.chosen.emit(speed)
        super().accept()


class PolicyDialog(_LiveDialog):
    """Asks what to do about errors from now on.

    Signals:
        chosen: a tuple of the policies for reading and for writing.
    """

    chosen = Signal(object)

    def __init__(
        self, reading: ErrorPolicy, writing: ErrorPolicy, parent: QWidget | None = None
    ) -> None:
        super().__init__(tr("Error policies"), tr("&Use from now on"), parent)
        self.reading = PolicyField(tr("If reading fails"), SOURCE_POLICIES, self)
        self.writing = PolicyField(tr("If writing fails"), TARGET_POLICIES, self)
        self.reading.set_policy(reading)
        self.writing.set_policy(writing)
        self.form.addRow(tr("If &reading fails"), self.reading)
        self.form.addRow(tr("If &writing fails"), self.writing)

    def accept(self) -> None:
        self.chosen.emit((self.reading.policy(), self.writing.policy()))
        super().accept()
