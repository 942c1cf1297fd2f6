"""One mirror in the main window, on its event loop, while map and charts are painted."""

import asyncio
import os
import time
from dataclasses import dataclass

os.environ.setdefault("QT_API", "pyside6")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PySide6")

import qasync
from PySide6.QtCore import QSettings

from mirrorgui.mirror.events import JobEvent
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.session import MirrorRequest, MirrorSession
from mirrorgui.ui.app import make_application, make_window
from mirrorgui.ui.backend import Engine
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.ui.settings import Settings

BEAT_S = 0.002
"""The loop is asked to wake up so often; what comes later was held up."""


OPENING_S = 0.5
"""The view of a new mirror is made in this time."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one mirror took, and how long its loop was held up; seconds.

    Attributes:
        wall_s, cpu_s: from the job's start to its end.
        opening_s: the longest stall while the view of the new mirror is made.
        stall_s: the longest one after that, while the mirror runs.
    """

    wall_s: float
    cpu_s: float
    opening_s: float
    stall_s: float


class TimedSession(MirrorSession):
    """A session that notes when its job began and ended."""

    began = (0.0, 0.0)
    ended = (0.0, 0.0)

    def start(self) -> None:
        self.events.listen(self._note)
        TimedSession.began = time.perf_counter(), time.process_time()
        super().start()

    def _note(self, event: JobEvent) -> None:
        if event.name == "BLOCK_JOB_COMPLETED":
            TimedSession.ended = time.perf_counter(), time.process_time()


class TimedEngine(Engine):
    """Opens such sessions."""

    async def open(self, request: MirrorRequest) -> TimedSession:
        session = await TimedSession.open(request)
        assert isinstance(session, TimedSession)
        return session


def mirror_in_window(request: MirrorRequest) -> Run:
    """Mirror as the window does it, from the job's creation to its end."""
    return qasync.run(_mirror(request))


async def _mirror(request: MirrorRequest) -> Run:
    app = make_application()
    settings = Settings(QSettings("", QSettings.Format.IniFormat))
    window = make_window(app, TimedEngine(), settings, LogQueue(), lambda: None)
    window.resize(1180, 760)
    window.show()
    await asyncio.sleep(0.3)
    stalls: list[tuple[float, float]] = []
    heart = asyncio.create_task(_beat(stalls))
    key = await window.controller.start(request)
    while not TimedSession.ended[0]:
        await asyncio.sleep(0.05)
    heart.cancel()
    await asyncio.gather(heart, return_exceptions=True)
    frame = window.controller.frame(key)
    assert frame is not None
    final = frame.snapshot
    await window.shutdown()
    window.close()
    assert final.outcome in (Outcome.SWITCHED, None), final.error
    (wall, cpu), (wall_end, cpu_end) = TimedSession.began, TimedSession.ended
    shown = wall + OPENING_S
    return Run(
        wall_end - wall,
        cpu_end - cpu,
        max((stall for asked, stall in stalls if asked < shown), default=0.0),
        max((stall for asked, stall in stalls if shown <= asked < wall_end), default=0.0),
    )


async def _beat(stalls: list[tuple[float, float]]) -> None:
    while True:
        asked = time.perf_counter()
        await asyncio.sleep(BEAT_S)
        stalls.append((asked, time.perf_counter() - asked - BEAT_S))
