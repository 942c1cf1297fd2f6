"""The answer to an error: note it, tell it, and fail, stop or go on as the policy says."""

import asyncio
import logging

from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.engine import CopyEngine
from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.mirror.policy import Action, decide, io_status
from mirrorgui.mirror.record import JobRecord
from mirrorgui.mirror.states import JobStatus

logger = logging.getLogger(__name__)

MAX_EVENTS_A_SECOND = 10
"""BLOCK_JOB_ERROR events under ``ignore``; more are counted in the records, not sent."""


class Reaction:
    """Answers errors of one job.

    Attributes:
        source_policy, target_policy: may be changed at any time.
    """

    def __init__(
        self,
        record: JobRecord,
        engine: CopyEngine,
        source_policy: ErrorPolicy,
        target_policy: ErrorPolicy,
    ) -> None:
        self.source_policy = source_policy
        self.target_policy = target_policy
        self._record = record
        self._engine = engine
        self._second = -1
        self._sent = 0

    def answer(self, error: BlockIOError, offset: int, length: int) -> Action:
        """Answer the error of an operation or, with length 0, of a flush or the scan.

        Under ``ignore`` the range is put aside; the caller takes it out of the dirty bitmap.
        """
        record, failures = self._record, self._engine.failures
        policy = self.source_policy if error.is_read else self.target_policy
        action = decide(policy, error.errno)
        if action is Action.IGNORE and length and not failures.defer(offset, length):
            action = Action.STOP  # too many places: this is no bad spot, somebody should look
        if action is Action.STOP and record.status in (JobStatus.WAITING, JobStatus.PENDING):
            action = Action.REPORT  # nobody can resume it there
        failures.note(error, offset, length, action)
        self._tell(error, action)
        if action is Action.REPORT:
            self.fail(error.strerror)
        elif action is Action.STOP:
            record.paused_by_error = True
            record.io_status = io_status(error.errno)
            self._engine.suspend()
            record.wake()
        return action

    def fail(self, text: str) -> None:
        """Remember the first fatal error and stop copying."""
        self._record.fail(text)
        self._engine.suspend()

    def _tell(self, error: BlockIOError, action: Action) -> None:
        record = self._record
        logger.info("job=%s error=%s action=%s", record.job_id, error, action.value)
        if action is not Action.IGNORE or self._may_tell():
            record.events.emit(
                "BLOCK_JOB_ERROR",
                device=record.job_id,
                operation="read" if error.is_read else "write",
                action=action.value,
            )

    def _may_tell(self) -> bool:
        """Count one more event; False when this second's are used up."""
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._sent = second, 0
        self._sent += 1
        return self._sent <= MAX_EVENTS_A_SECOND
