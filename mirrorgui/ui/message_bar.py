"""Messages above the views: never in the way, with the helping button inside."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.ui.announce import announce
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.header import TONE_COLOR
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.notices import Notice, NoticeAction
from mirrorgui.ui.style import set_look
from mirrorgui.ui.wording import Tone

ICONS = {
    Tone.NEUTRAL: "info",
    Tone.ACTIVE: "info",
    Tone.GOOD: "done",
    Tone.ATTENTION: "warning",
    Tone.ERROR: "error",
}

WORDS = 62
"""Letters of average width that a line beside the buttons has room for, at least."""


def action_text(action: NoticeAction) -> str:
    """Return the label of a button: always a verb."""
    return {
        NoticeAction.RESUME: tr("&Resume"),
        NoticeAction.CHANGE_POLICY: tr("Change &policy..."),
        NoticeAction.CANCEL: tr("&Cancel mirror..."),
        NoticeAction.SHOW_ERRORS: tr("Show &errors"),
        NoticeAction.RETRY: tr("&Try again..."),
        NoticeAction.RAISE_LIMIT: tr("Raise &limit..."),
        NoticeAction.WRITE_BLOCKING: tr("Use &write-blocking mode"),
        NoticeAction.COPY_DETAILS: tr("Copy &details"),
        NoticeAction.DISMISS: tr("&Dismiss"),
    }[action]


class MessageBar(QFrame):
    """Shows one notice, or hides.

    Signals:
        triggered: the ``NoticeAction`` of the button that was pressed. ``DISMISS`` hides the bar
            by itself; the same notice does not come back.
    """

    triggered = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.notice: Notice | None = None
        self._dismissed: str | None = None
        self._icon = QLabel(self)
        self._title = QLabel(self)
        self._title.setWordWrap(True)
        set_look(self._title, "section")
        self._text = QLabel(self)
        self._text.setWordWrap(True)
        for label in (self._title, self._text):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._buttons: dict[NoticeAction, QPushButton] = {}
        self._body = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._button_row = QHBoxLayout()
        self._button_row.setSpacing(6)
        self._lay_out()
        self.hide()

    def _lay_out(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self._title)
        words.addWidget(self._text)
        self._body.setSpacing(12)
        self._body.addLayout(words, 1)
        self._body.addLayout(self._button_row)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 8, 12, 8)
        row.setSpacing(12)
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(self._body, 1)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Put the buttons below the words where they would leave them too little room."""
        room = self.width() - self._button_row.sizeHint().width()
        beside = room >= self.fontMetrics().averageCharWidth() * WORDS
        way = QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom
        if self._body.direction() is not way:
            self._body.setDirection(way)
            self._body.setSpacing(12 if beside else 6)
            self._button_row.setAlignment(
                Qt.AlignmentFlag.AlignVCenter if beside else Qt.AlignmentFlag.AlignLeft
            )

    def text(self) -> str:
        """Return everything that it says."""
        if self.notice is None:
            return ""
        return f"{self.notice.title} {self.notice.text}".strip()

    def button(self, action: NoticeAction) -> QPushButton | None:
        """Return one of the buttons shown, or None."""
        return self._buttons.get(action)

    def show_notice(self, notice: Notice | None) -> None:
        """Show a notice, replacing the one before; None hides the bar."""
        if notice == self.notice:
            return
        if notice is None:
            self.notice = self._dismissed = None
            self.hide()
            return
        if notice.key == self._dismissed:
            return
        before, self.notice = self.notice, notice
        set_look(self, f"bar-{notice.tone.value}")
        icons_of().give(self._icon, ICONS[notice.tone], TONE_COLOR[notice.tone], 22)
        self._title.setText(notice.title)
        self._text.setText(notice.text)
        self._text.setVisible(bool(notice.text))
        self.setAccessibleName(self.text())
        if before is None or before.actions != notice.actions:
            self._make_buttons(notice.actions)
        if before is None or before.key != notice.key:
            announce(self, self.text())
        self.show()

    def set_possible(self, action: NoticeAction, *, possible: bool, reason: str = "") -> None:
        """Enable or disable a button; the reason is shown on hover and told to screen readers."""
        button = self._buttons.get(action)
        if button is None:
            return
        button.setEnabled(possible)
        button.setToolTip(reason)
        button.setAccessibleDescription(reason)

    def _make_buttons(self, actions: tuple[NoticeAction, ...]) -> None:
        for button in self._buttons.values():
            self._button_row.removeWidget(button)
            button.hide()
            button.deleteLater()
        self._buttons.clear()
        for action in actions:
            button = QPushButton(action_text(action), self)
            button.setProperty("notice_action", action)
            button.clicked.connect(self._pressed)
            self._button_row.addWidget(button, 0, Qt.AlignmentFlag.AlignVCenter)
            self._buttons[action] = button
        if actions and actions[0] is NoticeAction.RESUME:
            set_look(self._buttons[actions[0]], "primary")
        self._fit()

    def _pressed(self) -> None:
        action = self.sender().property("notice_action")
        if action is NoticeAction.DISMISS and self.notice is not None:
            self._dismissed = self.notice.key
            self.notice = None
            self.hide()
        self.triggered.emit(action)
