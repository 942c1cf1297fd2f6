"""Asking a person, without a loop of its own: the event loop goes on, and so does the mirror."""

import asyncio

import shiboken6
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.questions import Answer, Question
from mirrorgui.ui.style import set_look


async def ask(dialog: QDialog) -> int:
    """Open a dialog and wait for its end; return its result code.

    The dialog is deleted at its end. When the waiting task is cancelled the dialog goes, too.
    """
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def finished(result: int) -> None:
        if not future.done():
            future.set_result(result)

    dialog.finished.connect(finished)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
    try:
        return await future
    except asyncio.CancelledError:
        if shiboken6.isValid(dialog):
            dialog.reject()
        raise


class QuestionDialog(QDialog):
    """A question with verbs as buttons; Escape and Enter give the harmless answer."""

    def __init__(self, question: Question, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.question = question
        self.answer = Answer.KEEP
        self.setWindowTitle(question.title)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.buttons: dict[Answer, QPushButton] = {}
        self.tick = QCheckBox(question.tick, self)
        self.tick.setVisible(bool(question.tick))
        self._lay_out()

    def _lay_out(self) -> None:
        dangerous = any(each.dangerous for each in self.question.choices)
        picture = QLabel(self)
        if dangerous:
            icons_of().give(picture, "warning", "warning", 36)
        else:
            icons_of().give(picture, "info", "accent", 36)
        title, text = QLabel(self.question.title, self), QLabel(self.question.text, self)
        set_look(title, "title")
        for label in (title, text):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        text.setMinimumWidth(self.fontMetrics().averageCharWidth() * 56)
        words = QVBoxLayout()
        words.setSpacing(8)
        words.addWidget(title)
        words.addWidget(text)
        words.addWidget(self.tick)
        top = QHBoxLayout()
        top.setSpacing(16)
        top.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(words, 1)
        row = QHBoxLayout()
        row.addStretch(1)
        for choice in self.question.choices:
            button = QPushButton(choice.label, self)
            button.setAutoDefault(False)
            button.setProperty("answer", choice.answer)
            button.clicked.connect(self._pressed)
            if choice.dangerous:
                set_look(button, "danger")
            self.buttons[choice.answer] = button
            row.addWidget(button)
        harmless = self.buttons[self.question.choices[0].answer]
        harmless.setDefault(True)
        harmless.setFocus()
        column = QVBoxLayout(self)
        column.setContentsMargins(22, 20, 22, 16)
        column.setSpacing(18)
        column.addLayout(top)
        column.addLayout(row)

    def _pressed(self) -> None:
        self.answer = self.sender().property("answer")
        self.accept()

    def reject(self) -> None:
        self.answer = Answer.KEEP
        super().reject()


async def ask_question(question: Question, parent: QWidget) -> tuple[Answer, bool]:
    """Ask a question; return the answer and whether its box was ticked."""
    dialog = QuestionDialog(question, parent)
    outcome: list[tuple[Answer, bool]] = []

    def note() -> None:
        # Read while the dialog lives: it is deleted when it closes.
        outcome.append((dialog.answer, dialog.tick.isChecked()))

    dialog.finished.connect(note)
    await ask(dialog)
    return outcome[0]
