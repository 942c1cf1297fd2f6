"""Drives a window as a person would, without ever sleeping."""

import asyncio
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QDialog

from mirrorgui.mirror.options import MirrorOptions
from mirrorgui.session import MirrorRequest
from mirrorgui.ui.availability import Act
from mirrorgui.ui.dialogs.questions import QuestionDialog
from mirrorgui.ui.questions import Answer

PATIENCE_S = 10.0


class Driver:
    """A window, its engine, and its loop."""

    def __init__(self, window, backend, loop, log):
        self.window = window
        self.backend = backend
        self.loop = loop
        self.log = log
        self.quit_asked = 0

    @property
    def controller(self):
        return self.window.controller

    @property
    def view(self):
        return self.window.view

    @property
    def job(self):
        return self.backend.job

    def run(self, work):
        """Run a coroutine to its end on the Qt loop."""
        return self.loop.run_until_complete(work)

    def settle(self, turns=5):
        """Let the loop do what is due."""

        async def turn():
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)

        # Qt's own events, too: outside of the loop no coroutine could be run by them.
        self.run(turn())

    def until(self, reached, what=""):
        """Let the loop run until something is so."""

        async def wait():
            async with asyncio.timeout(PATIENCE_S):
                while not reached():
                    await asyncio.sleep(0.005)

        try:
            self.run(wait())
        except TimeoutError:
            raise AssertionError(f"never came: {what or reached}") from None

    def quiet(self):
        """Let every task of the window end: none may be left for Qt's events after the test."""
        self.until(lambda: not len(self.controller._tasks) and not len(self.window.flows.tasks))

    def mirror(self, source="/vm/source.img", target="/vm2/target.img", **options):
        """Begin a mirror; returns its key."""
        request = MirrorRequest(source, target, options=MirrorOptions(**options))
        key = self.run(self.controller.start(request))
        self.settle()
        return key

    def show(self, now):
        """Put the job into a state, and the window with it."""
        self.job.show(now)
        self.controller.look_now()
        self.settle()

    def trigger(self, act: Act):
        self.window.act.do[act].trigger()
        self.settle()

    def question(self) -> QuestionDialog:
        """The question that is open."""
        self.settle()
        found = [each for each in self.window.findChildren(QuestionDialog) if each.isVisible()]
        assert len(found) == 1, f"questions open: {found}"
        return found[0]

    def dialog(self, kind=QDialog):
        """The dialog of a kind that is open."""
        self.settle()
        found = [each for each in self.window.findChildren(kind) if each.isVisible()]
        assert len(found) == 1, f"dialogs open: {found}"
        return found[0]

    def no_dialog(self):
        self.settle()
        return not [each for each in self.window.findChildren(QDialog) if each.isVisible()]

    def answer(self, answer: Answer, *, tick=False):
        """Answer the question that is open."""
        dialog = self.question()
        if tick:
            dialog.tick.click()
        dialog.buttons[answer].click()
        self.settle()

    def escape(self):
        QTest.keyClick(self.question(), Qt.Key.Key_Escape)
        self.settle()

    def text(self, label):
        return label.text().replace("&", "")

    def picture(self, path: Path):
        self.settle()
        self.window.grab().save(str(path))
