"""What a job is at a moment: its status, the wishes left for its task, and what has been reached.

Verbs and errors write wishes here and wake the task; the task reads them between two steps. All of
it belongs to the event loop's thread.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.snapshot import Outcome, Phase
from mirrorgui.mirror.states import MOVES, JobStatus

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class JobRecord:
    """The state of one job.

    Attributes:
        job_id: its name.
        events: where status changes are told.
        paused_by_user, paused_by_error: it is to be paused, or is.
        forced: everything is to be dropped.
        failed: it has failed with ``error``.
        completing, soft_cancelled: how it is to end once both images are equal.
        finalizing: a PENDING job is to end.
        refusal: why it could not be completed when that was asked for last; it is READY still.
        ready: READY was announced.
        started_ns: monotonic clock at which copying began, 0 before.
        ready_wall_ns, ended_wall_ns: wall clock, 0 before.
    """

    job_id: str
    events: EventLog
    status: JobStatus = JobStatus.CREATED
    phase: Phase = Phase.PREPARING
    outcome: Outcome | None = None
    error: str | None = None
    refusal: str | None = None
    io_status: str = "ok"
    paused_by_user: bool = False
    paused_by_error: bool = False
    forced: bool = False
    failed: bool = False
    completing: bool = False
    soft_cancelled: bool = False
    finalizing: bool = False
    ready: bool = False
    started_ns: int = 0
    ready_wall_ns: int = 0
    ended_wall_ns: int = 0
    _paused_ns: int = 0
    _pause_began_ns: int = 0
    _change: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._tell_status()

    @property
    def pause_wanted(self) -> bool:
        """Whether a person or an error wants it to stop."""
        return self.paused_by_user or self.paused_by_error

    @property
    def must_abort(self) -> bool:
        """Whether it can only end badly."""
        return self.forced or self.failed

    @property
    def is_ending(self) -> bool:
        """Whether it has been told how to end."""
        return self.completing or self.soft_cancelled

    @property
    def paused_ns(self) -> int:
        """Total time spent paused, in nanoseconds."""
        running = time.monotonic_ns() - self._pause_began_ns if self._pause_began_ns else 0
        return self._paused_ns + running

    def set_status(self, status: JobStatus) -> None:
        """Move on: the only place that does."""
        if status not in MOVES[self.status]:
            raise AssertionError(f"job {self.job_id}: {self.status.value} -> {status.value}")
        logger.info("job=%s status=%s was=%s", self.job_id, status.value, self.status.value)
        self.status = status
        self._tell_status()

    def _tell_status(self) -> None:
        self.events.emit("JOB_STATUS_CHANGE", id=self.job_id, status=self.status.value)

    def fail(self, text: str) -> None:
        """Remember the first fatal error."""
        if not self.failed:
            self.failed = True
            self.error = text
        self.wake()

    def wake(self) -> None:
        """Let the task look at the wishes again."""
        self._change.set()

    def look(self) -> None:
        """The task looks now: news from here on wake it."""
        self._change.clear()

    async def news(self) -> None:
        """Sleep until ``wake`` has been called since the last look."""
        await self._change.wait()
        self._change.clear()

    def wake_later(self, delay_s: float) -> None:
        """Let the task look again after a while, and not before that."""
        loop = asyncio.get_running_loop()
        self._wake_at(loop, loop.time() + delay_s)

    def _wake_at(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        # Timers may come early (Qt's by a twentieth). A task that looked too early would find
        # nothing to do, and nobody would wake it again.
        left = due - loop.time()
        if left > 0:
            loop.call_later(left, self._wake_at, loop, due)
        else:
            self.wake()

    async def rest(self) -> None:
        """Be PAUSED (or STANDBY) until nobody wants it any more or the job is to be aborted."""
        working = self.status
        resting = JobStatus.STANDBY if working is JobStatus.READY else JobStatus.PAUSED
        self.set_status(resting)
        self._pause_began_ns = time.monotonic_ns()
        try:
            while self.pause_wanted and not self.must_abort:
                await self.news()
        finally:
            self._paused_ns += time.monotonic_ns() - self._pause_began_ns
            self._pause_began_ns = 0
            self.set_status(working)
