"""Tells a person who looks elsewhere what happened to their mirrors."""

import time
from collections.abc import Callable
from typing import Protocol

from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QApplication, QWidget

from mirrorgui.ui.frame import Frame
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.news import News, news_of
from mirrorgui.ui.tasks import TaskSet


class Desktop(Protocol):
    """Where notifications are shown; see ``desktop.notifications.Notifications``."""

    async def show(
        self, subject: int, title: str, text: str, *, urgent: bool, action: str
    ) -> bool: ...
    async def withdraw(self) -> None: ...
    async def close(self) -> None: ...


class Notifier(QObject):
    """Looks at frames; notifies while no window of ours is the active one.

    Args:
        desktop: shows notifications.
        tasks: runs what has to be waited for.
        window: what is to be noticed, also by its place in the task bar.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        desktop: Desktop,
        tasks: TaskSet,
        window: QWidget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(window)
        self._desktop = desktop
        self._tasks = tasks
        self._window = window
        self._clock = clock
        self._standing: dict[int, tuple[str, float]] = {}
        self._told: dict[int, str] = {}
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        app.applicationStateChanged.connect(self._state_changed)

    def look(self, frame: Frame) -> None:
        """Tell what is new about a mirror, unless somebody sees it anyway."""
        news = news_of(frame)
        if news is None:
            self._standing.pop(frame.key, None)
            self._told.pop(frame.key, None)
            return
        key, since = self._standing.get(frame.key, ("", 0.0))
        if key != news.key:
            since = self._clock()
            self._standing[frame.key] = news.key, since
        if self._told.get(frame.key) == news.key or self._clock() - since < news.after_s:
            return
        self._told[frame.key] = news.key
        if QApplication.activeWindow() is None:
            self._tell(frame.key, news)

    def forget(self, key: int) -> None:
        """Forget a mirror that is no longer listed."""
        self._standing.pop(key, None)
        self._told.pop(key, None)

    def _tell(self, key: int, news: News) -> None:
        QApplication.alert(self._window)
        self._tasks.spawn(
            self._desktop.show(key, news.title, news.text, urgent=news.urgent, action=tr("Show"))
        )

    def _state_changed(self, state: Qt.ApplicationState) -> None:
        if state is Qt.ApplicationState.ApplicationActive:
            self._tasks.spawn(self._desktop.withdraw())

    async def shutdown(self) -> None:
        """Stop telling."""
        await self._tasks.cancel_all()
        await self._desktop.close()
