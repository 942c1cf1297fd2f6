"""Keeps the computer awake as long as a mirror works or a client uses a disk of ours."""

import asyncio
from typing import Protocol

from PySide6.QtCore import QObject, Signal

from mirrorgui.mirror.states import OVER
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.node_exports import NodeExported, clients_of
from mirrorgui.ui.tasks import TaskSet


class Lock(Protocol):
    """What holds off sleep; blocking. See ``desktop.awake.WakeLock``."""

    def acquire(self) -> bool: ...
    def release(self) -> str: ...


def needs_a_computer(frame: Frame) -> bool:
    """Say whether somebody would miss it. A demonstration is nobody's data."""
    if frame.demonstration:
        return False
    exported = frame.exported
    return frame.snapshot.status not in OVER or bool(exported and exported.clients)


class Keeper(QObject):
    """Looks at frames and exports, and holds the lock meanwhile.

    Args:
        lock: holds off sleep.
        tasks: runs what has to be waited for.
        parent: its owner.

    Signals:
        awake: True while sleep is prevented, False from then on.
    """

    awake = Signal(bool)

    def __init__(self, lock: Lock, tasks: TaskSet, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = lock
        self._tasks = tasks
        self._mirrors: set[int] = set()
        self._clients = 0
        self._asked = False
        self._held = False
        self._working = False

    def look(self, frame: Frame) -> None:
        """Take note of how a mirror stands."""
        if needs_a_computer(frame):
            self._mirrors.add(frame.key)
        else:
            self._mirrors.discard(frame.key)
        self._follow()

    def forget(self, key: int) -> None:
        """Take note that a mirror is no longer listed."""
        self._mirrors.discard(key)
        self._follow()

    def look_at_exports(self, exports: tuple[NodeExported, ...]) -> None:
        """Take note of who uses exports that have no mirror."""
        self._clients = clients_of(exports)
        self._follow()

    @property
    def _wanted(self) -> bool:
        return bool(self._mirrors or self._clients)

    def _follow(self) -> None:
        if self._wanted is not self._asked and not self._working:
            self._working = True
            self._tasks.spawn(self._change())

    async def _change(self) -> None:
        """Do what is wanted, until nothing else is; a lock that was refused is not asked again."""
        loop = asyncio.get_running_loop()
        try:
            while self._wanted is not self._asked:
                self._asked = self._wanted
                if self._asked:
                    self._held = await loop.run_in_executor(None, self._lock.acquire)
                else:
                    await loop.run_in_executor(None, self._lock.release)
                    self._held = False
                self.awake.emit(self._held)
        finally:
            self._working = False

    async def shutdown(self) -> None:
        """Let the computer sleep."""
        self._mirrors.clear()
        self._clients = 0
        self._follow()
        await self._tasks.wait_all()
