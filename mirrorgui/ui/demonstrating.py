"""The demonstration in the window, and the run of it that nobody watches."""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from PySide6.QtWidgets import QWidget

from mirrorgui.demo import SPEED, Demonstration
from mirrorgui.errors import JobFailed
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome, Phase
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.availability import Act
from mirrorgui.ui.controller import Controller
from mirrorgui.ui.dialogs.questions import QuestionDialog
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.main_window import MainWindow
from mirrorgui.ui.questions import Answer
from mirrorgui.ui.wording import headline
from mirrorgui.units import MiB, format_rate, format_size

logger = logging.getLogger(__name__)

UNWATCHED_SPEED = 12 * MiB
"""Fast enough to end soon, slow enough for a picture in the middle."""

Reached: TypeAlias = Callable[[JobSnapshot], bool]

STEP_PERCENT = 4

LIMIT_S = 120.0
"""An unwatched run that takes longer than this has failed."""


async def begin(controller: Controller, *, speed: int = SPEED) -> int:
    """Make the images, start the mirror and its guest; return the mirror's key.

    Raises:
        OSError: there is no room for the images.
        MirrorGUIError: the mirror could not be started; the images are deleted.
    """
    loop = asyncio.get_running_loop()
    demonstration = await loop.run_in_executor(None, lambda: Demonstration(speed=speed))
    try:
        return await controller.start(demonstration.request, demonstration=demonstration)
    except BaseException:
        await loop.run_in_executor(None, demonstration.close)
        raise


async def run_unwatched(window: MainWindow, picture: Path) -> int:
    """Run the demonstration to its end by the window's own buttons; return the exit status.

    Prints the progress, saves pictures of the window: running at ``picture``, and beside it in sync
    and done. 0 when the target holds what the guest wrote, 1 otherwise.
    """
    try:
        async with asyncio.timeout(LIMIT_S):
            return await _Run(window, picture).run()
    except TimeoutError:
        _say(f"The demonstration did not end within {LIMIT_S:.0f} s")
    except JobFailed as error:
        _say(str(error))
    return 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class _Run:
    """One unwatched run."""

    def __init__(self, window: MainWindow, picture: Path) -> None:
        self._window = window
        self._controller = window.controller
        self._picture = picture
        self._said = ""
        self._news = asyncio.Event()
        self._controller.frame_ready.connect(self._heard)

    def _heard(self, frame: Frame) -> None:
        self._news.set()
        line = headline(frame.snapshot, frame.shown)
        # A line for each few percent, and one for each other state: a READY job changes its
        # words with every write of the guest.
        status = frame.snapshot.status
        step = f"{status.value} {frame.snapshot.phase.value}"
        if status is JobStatus.RUNNING:
            step += f" {int(frame.shown.share * 100) // STEP_PERCENT}"
        if step != self._said:
            self._said = step
            _say(self._line(frame, line))

    @staticmethod
    def _line(frame: Frame, line: str) -> str:
        if frame.snapshot.phase is not Phase.COPYING:
            return line
        left = format_size(frame.snapshot.remaining)
        again = format_size(frame.snapshot.dirtied_bytes)
        rate = format_rate(frame.rates.current)
        return f"{line}, {rate}, {left} left, {again} written meanwhile"

    async def run(self) -> int:
        key = await begin(self._controller, speed=UNWATCHED_SPEED)
        demonstration = self._controller.demonstration(key)
        assert demonstration is not None
        _say(f"Mirroring {demonstration.source} while a guest writes to it")
        await self._until(lambda each: each.fraction > 0.45 and bool(each.operations))
        self._save("")
        await self._until(lambda each: each.ready)
        await self._show_sync()
        self._save("-in-sync")
        await self._complete()
        await self._until(lambda each: each.status in OVER)
        self._save("-done")
        return await self._verify(key)

    async def _until(self, reached: Reached) -> JobSnapshot:
        while True:
            self._news.clear()
            frame = self._controller.frame()
            if frame is not None:
                if reached(frame.snapshot):
                    return frame.snapshot
                if frame.snapshot.status in OVER:
                    raise JobFailed(f"The mirror ended early: {frame.snapshot.error}")
            await self._news.wait()

    async def _show_sync(self) -> None:
        """Let the guest be seen at work for a moment while the mirror keeps step."""
        frame = self._controller.frame()
        written = frame.snapshot.guest.writes if frame is not None else 0
        await self._until(lambda each: each.guest.writes >= written + 8)

    async def _complete(self) -> None:
        """Press the button, and answer the question as a person would."""
        self._window.act.do[Act.COMPLETE].trigger()
        dialog = None
        while dialog is None:
            await asyncio.sleep(0.02)
            dialog = self._window.findChild(QuestionDialog)
        dialog.buttons[Answer.SWITCH].click()

    async def _verify(self, key: int) -> int:
        frame = self._controller.frame(key)
        demonstration = self._controller.demonstration(key)
        assert frame is not None
        assert demonstration is not None
        if frame.snapshot.outcome is not Outcome.SWITCHED:
            raise JobFailed(f"The mirror did not switch: {frame.snapshot.error}")
        loop = asyncio.get_running_loop()
        # The guest writes to the target now; it has to end before the two are compared.
        await loop.run_in_executor(None, demonstration.stop)
        result = await loop.run_in_executor(None, demonstration.verify)
        if not result.equal:
            raise JobFailed(f"The target differs at offset {result.first_difference}")
        _say(
            f"Verified: the target holds what the guest wrote "
            f"({result.blocks} blocks, {demonstration.writes} writes)"
        )
        return 0

    def _save(self, suffix: str) -> None:
        path = self._picture.with_name(f"{self._picture.stem}{suffix}{self._picture.suffix}")
        save_window(self._window, path)
        _say(f"Picture: {path}")


def save_window(window: QWidget, path: Path) -> None:
    """Save a picture of a window.

    Raises:
        JobFailed: it could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not window.grab().save(str(path), "PNG"):
        raise JobFailed(f"Cannot write the picture {path}")
