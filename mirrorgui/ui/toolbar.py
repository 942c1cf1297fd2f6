"""The row of buttons on top. Gives up its texts before it gives up a button."""

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QAction, QActionGroup, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QMenu, QToolButton, QWidget

from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.states import OVER
from mirrorgui.ui.actions import Actions
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.availability import Act
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.quantities import QUICK_SPEEDS, plain_rate
from mirrorgui.ui.style import set_look


class SpeedMenu(QMenu):
    """Speed limits to choose from.

    Signals:
        chosen: bytes per second (object: an int of any size), 0 for unlimited.
        custom_requested: another limit is wanted.
    """

    chosen = Signal(object)
    custom_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("Speed &limit"), parent)
        self._group = QActionGroup(self)
        self.quick: dict[int, QAction] = {}
        for speed in (0, *QUICK_SPEEDS):
            action = self.addAction(plain_rate(speed))
            action.setCheckable(True)
            action.setData(speed)
            self._group.addAction(action)
            self.quick[speed] = action
        self.addSeparator()
        self.custom = self.addAction(tr("&Other..."))
        self.custom.setCheckable(True)
        self._group.addAction(self.custom)
        self._group.triggered.connect(self._chosen)

    def _chosen(self, action: QAction) -> None:
        if action is self.custom:
            self.custom_requested.emit()
        else:
            self.chosen.emit(int(action.data()))

    def show_speed(self, speed: int) -> None:
        """Mark the limit that is in force."""
        action = self.quick.get(speed, self.custom)
        if not action.isChecked():
            action.setChecked(True)
        text = tr("&Other...") if speed in self.quick else f"{plain_rate(speed)}..."
        self.custom.setText(text)


class ToolBar(QFrame):
    """Buttons for what concerns the selected mirror."""

    def __init__(self, actions: Actions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("toolbar")
        self._actions = actions
        self.speed_menu = SpeedMenu(self)
        self.new = self._button(actions.new)
        self.new.setText(tr("New mirror"))
        self.pause = self._button(actions.do[Act.PAUSE])
        self.resume = self._button(actions.do[Act.RESUME])
        self.speed = self._speed_button()
        self.cancel = self._button(actions.do[Act.CANCEL])
        self.reason = QLabel(self)
        set_look(self.reason, "muted")
        self.retry = self._button(actions.do[Act.RETRY])
        self.remove = self._button(actions.do[Act.REMOVE])
        self.finish = self._button(actions.do[Act.FINISH])
        self.complete = self._button(actions.do[Act.COMPLETE])
        self._buttons = {
            Act.PAUSE: self.pause,
            Act.RESUME: self.resume,
            Act.SPEED: self.speed,
            Act.CANCEL: self.cancel,
            Act.RETRY: self.retry,
            Act.REMOVE: self.remove,
            Act.FINISH: self.finish,
            Act.COMPLETE: self.complete,
        }
        self._lay_out()
        self.update_job(None)

    def _button(self, action: QAction) -> QToolButton:
        button = QToolButton(self)
        button.setDefaultAction(action)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        return button

    def _speed_button(self) -> QToolButton:
        button = self._button(self._actions.do[Act.SPEED])
        # The menu, not the action, is what the button opens: it shows what is in force.
        button.setMenu(self.speed_menu)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setProperty("menued", "true")
        return button

    def _lay_out(self) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 7, 10, 7)
        row.setSpacing(4)
        row.addWidget(self.new)
        row.addSpacing(8)
        for button in (self.pause, self.resume, self.speed, self.cancel, self.retry, self.remove):
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(self.reason)
        row.addSpacing(6)
        row.addWidget(self.finish)
        row.addWidget(self.complete)

    def update_job(self, snapshot: JobSnapshot | None) -> None:
        """Show what is possible for a job; the actions must have been updated before."""
        self.setVisible(snapshot is not None)
        self._choose_buttons(snapshot)
        for act, button in self._buttons.items():
            reason = self._actions.reasons[act]
            if button.accessibleDescription() != reason:
                button.setAccessibleDescription(reason)
        if snapshot is None:
            return
        self.speed_menu.show_speed(snapshot.speed)
        text = tr(
            "Speed: {limit}",
            limit=plain_rate(snapshot.speed).lower()
            if not snapshot.speed
            else plain_rate(snapshot.speed),
        )
        self._set_text(self.speed, text)
        complete = self._actions.act(Act.COMPLETE)
        self.reason.setText("" if complete.pointless else complete.reason)
        set_look(self.complete, "primary" if complete.enabled else "")
        color = "on_accent" if complete.enabled else "text"
        icons_of().give(self._actions.do[Act.COMPLETE], "switch", color)
        self._fit()

    def _choose_buttons(self, snapshot: JobSnapshot | None) -> None:
        """Show what a mirror that works needs, or what one that has ended needs."""
        over = snapshot is not None and snapshot.status in OVER
        resumable = not self._actions.act(Act.RESUME).pointless
        for button, wanted in (
            (self.pause, not over and not resumable),
            (self.resume, not over and resumable),
            (self.speed, not over),
            (self.cancel, not over),
            (self.finish, not over),
            (self.complete, not over),
            (self.retry, over and not self._actions.act(Act.RETRY).pointless),
            (self.remove, over),
        ):
            button.setVisible(wanted)

    @staticmethod
    def _set_text(button: QToolButton, text: str) -> None:
        if button.text() != text:
            button.setText(text)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._fit()

    def _fit(self) -> None:
        """Show texts on all buttons, or on the two that end a mirror only."""
        texts = Qt.ToolButtonStyle.ToolButtonTextBesideIcon
        full = self._width_with(texts)
        self.reason.setVisible(bool(self.reason.text()) and full <= self.width())
        without_reason = full - (self.reason.sizeHint().width() + 6 if self.reason.text() else 0)
        style = texts if without_reason <= self.width() else Qt.ToolButtonStyle.ToolButtonIconOnly
        for button in (self.new, self.pause, self.resume, self.cancel, self.retry):
            if button.toolButtonStyle() is not style:
                button.setToolButtonStyle(style)

    def _width_with(self, style: Qt.ToolButtonStyle) -> int:
        width = 60
        for button in (self.new, *self._buttons.values()):
            if button.isHidden():
                continue
            if button.toolButtonStyle() is style:
                width += button.sizeHint().width() + 4
            else:
                text = button.fontMetrics().horizontalAdvance(button.text())
                width += button.sizeHint().width() + text + 10
        if self.reason.text():
            width += self.reason.sizeHint().width() + 10
        return width
