"""Flushing the target: before READY, before the end, and never for long while guests are held."""

import asyncio

from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.engine import CopyEngine
from mirrorgui.mirror.hold import GuestHold
from mirrorgui.mirror.policy import Action
from mirrorgui.mirror.reaction import Reaction
from mirrorgui.mirror.record import JobRecord

FLUSH_RETRY_S = 1.0
"""A failed flush under the ``ignore`` policy is tried again after this long."""

LAST_FLUSH_S = 10.0
"""Guests are held no longer than this for a flush: their own time-outs begin at 30 s."""


class TargetFlush:
    """Flushes the target of one job. Belongs to the event loop's thread."""

    def __init__(
        self,
        target: BlockNode,
        record: JobRecord,
        engine: CopyEngine,
        hold: GuestHold,
        reaction: Reaction,
    ) -> None:
        self._target = target
        self._record = record
        self._engine = engine
        self._hold = hold
        self._reaction = reaction
        self._loop = asyncio.get_running_loop()
        self._again_at = 0.0
        self._late: asyncio.Task[bool] | None = None

    @property
    def may_begin(self) -> bool:
        """Whether the last failure is long enough ago."""
        return self._loop.time() >= self._again_at

    async def now(self) -> bool:
        """Flush; False when that failed and the policy has answered, or the job must be aborted."""
        try:
            await self._engine.call(self._target.flush)
        except BlockIOError as error:
            if self._record.must_abort:
                return False
            if self._reaction.answer(error, 0, 0) is Action.IGNORE:
                self._again_at = self._loop.time() + FLUSH_RETRY_S
                self._hold.postpone(FLUSH_RETRY_S)
            return False
        self._engine.failures.flush_solved()
        return not self._record.must_abort

    async def while_held(self) -> bool:
        """Flush; False also when that takes so long that guests must not be held for it."""
        flush = self._loop.create_task(self.now(), name=f"flush {self._record.job_id}")
        self._late = flush
        await asyncio.wait({flush}, timeout=LAST_FLUSH_S)
        if not flush.done():
            return False
        self._late = None
        return flush.result()

    async def await_late(self) -> None:
        """Wait for a flush that was not waited for while guests were held."""
        flush, self._late = self._late, None
        if flush is not None:
            await flush

    async def over(self) -> None:
        """Return when no flush is running any more."""
        if self._late is not None:
            await asyncio.wait({self._late})
