"""Keeps the window's knowledge of exports up to date: at once when one comes or goes."""

from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer, Signal

from mirrorgui.ui.exported import LOOK_NS, Exported
from mirrorgui.ui.node_exports import ExportSource, NodeExported

UNWATCHED_MS = 5000
"""While nobody sees the window: whether the computer may sleep depends on who is connected."""


class ExportsWatch(QObject):
    """Looks at the exports that commands have added; at nothing until ``begin``.

    Attributes:
        latest: all of them as of the last look, the oldest first.

    Signals:
        changed: ``latest``, when it is different from before.
    """

    changed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.latest: tuple[NodeExported, ...] = ()
        self._source: ExportSource | None = None
        self._forget: Callable[[], None] | None = None
        self._watched = False
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_NS // 1_000_000)
        self._timer.timeout.connect(self.look)

    def begin(self, source: ExportSource) -> None:
        """Look at a source's exports from now on."""
        self._source = source
        self._forget = source.listen(self.look)
        self.look()

    def set_watched(self, watched: bool) -> None:
        """Say whether anybody can see the window: clients are counted less often otherwise."""
        self._watched = watched
        self._set_clock()

    def _set_clock(self) -> None:
        wanted = bool(self.latest)
        interval = LOOK_NS // 1_000_000 if self._watched else UNWATCHED_MS
        if wanted and self._timer.isActive() and self._timer.interval() == interval:
            return
        if wanted:
            self._timer.start(interval)
        else:
            self._timer.stop()

    def look(self) -> None:
        """Look now."""
        if self._source is None:
            return
        now = self._source.look()
        if now != self.latest:
            self.latest = now
            self.changed.emit(now)
        self._set_clock()

    def of(self, drive: object) -> Exported | None:
        """Return how the disk of a mirror is offered: the first address, and all clients."""
        found = [each.exported for each in self.latest if each.drive is drive]
        return found[0].joined(found[1:]) if found else None

    def export(self, export_id: str) -> NodeExported | None:
        """Return an export by its id."""
        return next((each for each in self.latest if each.id == export_id), None)

    async def remove(self, export_id: str) -> None:
        """Offer an export no longer, whoever uses it.

        Raises:
            NodeError: it is shutting down already.
        """
        if self._source is not None:
            await self._source.remove(export_id)

    def end(self) -> None:
        """Look no longer. Idempotent."""
        self._timer.stop()
        if self._forget is not None:
            self._forget()
        self._source = self._forget = None
