"""The target's backing file, which is opened at the last moment: when guests are to use the target.

Until then nobody reads through it, and a source that is itself the backing file could not be
shared. A failure leaves everything as it was: the job stays READY, guests stay on the source.
"""

import logging

from mirrorgui.block.node import BlockNode
from mirrorgui.errors import MirrorGUIError
from mirrorgui.mirror.engine import CopyEngine
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.guest import Tracking, WriteBlocking
from mirrorgui.mirror.hold import GuestHold
from mirrorgui.mirror.record import JobRecord

logger = logging.getLogger(__name__)


class TargetChain:
    """Opens what is below the target of one job. Belongs to the event loop's thread."""

    def __init__(
        self,
        target: BlockNode,
        record: JobRecord,
        engine: CopyEngine,
        hold: GuestHold,
        events: EventLog,
    ) -> None:
        self._target = target
        self._record = record
        self._engine = engine
        self._hold = hold
        self._events = events
        self._opened = False

    @property
    def is_open(self) -> bool:
        """Whether there is nothing to open, or nothing more."""
        return self._opened or not self._target.unopened_backing

    async def open(self, hook: Tracking | WriteBlocking | None) -> None:
        """Open it while nobody uses the target; guests work on, their writes are tracked.

        The engine is left suspended. The job is told in its record when it cannot be opened.
        """
        record, engine = self._record, self._engine
        engine.suspend()
        if isinstance(hook, WriteBlocking):
            hook.passive = True
        try:
            if not await self._is_unused(hook):
                return
            try:
                await engine.call(self._target.open_backing)
            except MirrorGUIError as error:
                self._refuse(str(error))
                return
            self._opened = True  # also where a person has said that it is never to be opened
            if engine.clusters is not None and not self._target.unopened_backing:
                engine.clusters.all_there()  # the target's driver fills clusters by itself now
        finally:
            if isinstance(hook, WriteBlocking) and not record.pause_wanted:
                hook.passive = False

    async def _is_unused(self, hook: Tracking | WriteBlocking | None) -> bool:
        """Wait until no request to the target is running; False when something came between."""
        record, engine = self._record, self._engine
        if isinstance(hook, WriteBlocking):
            # Whoever came in before the hook was made passive has to be out.
            try:
                if not await self._hold.empty():
                    return False
            finally:
                self._hold.release()
        while not engine.is_idle and not record.must_abort and not record.pause_wanted:
            await record.news()
        return engine.is_idle and not record.must_abort and not record.pause_wanted

    def _refuse(self, reason: str) -> None:
        record = self._record
        logger.info("job=%s not completed: %s", record.job_id, reason)
        record.completing = False
        record.refusal = reason
        self._events.emit("JOB_COMPLETE_REFUSED", id=record.job_id, error=reason)
