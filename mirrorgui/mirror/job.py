"""The mirror job as others see it: looks and verbs over its life.

Verbs are plain calls on the event loop's thread that leave a wish in the record and wake the task.
"""

import asyncio
import time

from mirrorgui.blocking import in_thread
from mirrorgui.errors import InvalidInput, StateError
from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.life import JobLife
from mirrorgui.mirror.operation import Stall
from mirrorgui.mirror.options import (
    CopyMode,
    ErrorPolicy,
    check_speed,
)
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.states import JobStatus, Verb, is_allowed, require


class MirrorJob(JobLife):
    """One mirror job, from created to null.

    Args:
        drive: the guest's front door over the source; gets the target at the pivot.
        target: the node to copy to; must be as long as the source.
        options: what to do.
        events: a log to add to; its own by default.
        pivot: puts the target in the place of the source; ``drive.exchange`` by default. May raise
            ``MirrorGUIError`` to refuse; nothing must have changed then.

    Concurrency: everything belongs to the event loop's thread. Nodes are not closed by the job.
    """

    # ---------------------------------------------------------------- looks from outside

    @property
    def status(self) -> JobStatus:
        """Where it is in its life."""
        return self._record.status

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""
        return self._record.error

    def dirty_extents(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """Return a range as adjacent runs of (length, whether the target still lacks it).

        What failed or is in flight counts as dirty. Concurrency: from any thread.
        """
        return self._engine.dirty_extents(offset, length)

    def snapshot(self) -> JobSnapshot:
        """Return the job as it is now."""
        engine, record = self._engine, self._record
        length, offset = self.progress()
        return JobSnapshot(
            job_id=self.job_id,
            status=record.status,
            phase=record.phase,
            sync=self.options.sync,
            copy_mode=self._copy_mode,
            size=self.source.size,
            granularity=self.granularity,
            chunks=engine.dirty.chunks,
            buf_size=self.buf_size,
            speed=self._speed,
            offset=offset,
            length=length,
            dirty_bytes=engine.dirty_bytes,
            in_flight_bytes=engine.in_flight_bytes,
            dirtied_bytes=self._tally.dirtied,
            copied_bytes=engine.copied_bytes,
            zeroed_bytes=engine.zeroed_bytes,
            scan_done=self._scan.done if self._scan else 0,
            scan_total=self.source.size if self._scan else 0,
            operations=engine.operations(),
            paused=record.status in (JobStatus.PAUSED, JobStatus.STANDBY, JobStatus.PENDING),
            pause_requested=record.pause_wanted,
            paused_by_error=record.paused_by_error,
            complete_requested=record.completing,
            soft_cancel_requested=record.soft_cancelled,
            io_status=record.io_status,
            ready=record.ready,
            actively_synced=self._is_actively_synced,
            throttled=engine.stall is Stall.THROTTLED,
            error=record.error,
            complete_refused=record.refusal,
            outcome=record.outcome,
            errors=engine.failures.records(),
            error_count=engine.failures.count,
            errors_lost=engine.failures.lost,
            guest=self.drive.statistics(),
            copy_latency=tuple(engine.latency),
            generation=engine.generation,
            time_ns=time.monotonic_ns(),
            started_ns=record.started_ns,
            paused_ns=record.paused_ns,
            ready_wall_ns=record.ready_wall_ns,
            ended_wall_ns=record.ended_wall_ns,
        )

    def copy_map_into(self, words: MapWords) -> None:
        """Fill maps of this job's shape (``MapWords.empty(snapshot().chunks)``)."""
        self._engine.dirty.copy_words_into(words.dirty)
        self._engine.copied.copy_words_into(words.copied)
        self._engine.failures.failed.copy_words_into(words.failed)

    # ---------------------------------------------------------------- verbs

    def start(self) -> None:
        """Begin. The job's task lives until ``wait`` returns."""
        self._task = self._loop.create_task(self._run(), name=f"mirror {self.job_id}")

    async def wait(self) -> JobSnapshot:
        """Return the final snapshot once the job has concluded, however it did."""
        await asyncio.shield(self._ended)
        return self.snapshot()

    async def shut_down(self) -> None:
        """Drop everything and return when the job has concluded; a job never begun just goes."""
        if self._task is None:
            await self._engine.close()
            return
        record = self._record
        if not record.forced and not record.outcome and is_allowed(Verb.CANCEL, record.status):
            self.cancel(force=True)
        await self._task

    def pause(self) -> None:
        """Begin nothing more; the status changes when the operations in flight have ended.

        Raises:
            StateError: not in this status, or paused already.
        """
        require(self.job_id, Verb.PAUSE, self._record.status)
        if self._record.pause_wanted:
            raise self._refusal(Verb.PAUSE, "Job is already paused")
        self._record.paused_by_user = True
        self._engine.suspend()
        self._record.wake()

    def resume(self) -> None:
        """Go on after a pause or an error; what failed is tried again first of all.

        Raises:
            StateError: not in this status, or not paused.
        """
        if not self._record.pause_wanted:  # before the status, as in QEMU
            raise self._refusal(Verb.RESUME, "Can't resume a job that was not paused")
        require(self.job_id, Verb.RESUME, self._record.status)
        self._record.paused_by_user = self._record.paused_by_error = False
        self._record.io_status = "ok"
        self._record.wake()

    def set_speed(self, speed: int) -> None:
        """Change the limit in bytes per second, 0 for none; takes effect at once.

        Raises:
            InvalidInput: negative; the old limit stays.
            StateError: not in this status.
        """
        require(self.job_id, Verb.SET_SPEED, self._record.status)
        check_speed(speed)
        self._speed = speed
        self._engine.set_speed(speed)

    def set_policy(
        self,
        *,
        on_source_error: ErrorPolicy | None = None,
        on_target_error: ErrorPolicy | None = None,
    ) -> None:
        """Change what happens at the next error; None leaves a policy as it is."""
        reaction = self._reaction
        reaction.source_policy = on_source_error or reaction.source_policy
        reaction.target_policy = on_target_error or reaction.target_policy

    def complete(self) -> None:
        """Switch the guest to the target as soon as both are equal. A paused job does so later.

        A backing file that the target names is opened first. Where that fails the job stays READY:
        event ``JOB_COMPLETE_REFUSED``, and the snapshot's ``complete_refused`` says why.

        Raises:
            StateError: not READY, or it was told to finish without switching.
        """
        self._require_completable()
        self._record.completing = True
        self._record.refusal = None
        self._record.wake()

    async def check_complete(self) -> None:
        """See that ``complete`` would be accepted, and that the target's chain can be opened.

        What is wrong with a chain is told to whoever asks, rather than by an event afterwards.

        Raises:
            StateError: as ``complete``.
            ImageRefused: what lies below the target cannot be opened now. Nothing has changed.
        """
        self._require_completable()
        if not self._record.completing and not self._chain.is_open:
            await in_thread(self.target.check_backing)

    def cancel(self, *, force: bool = False) -> None:
        """End without switching.

        READY and not forced: the target is brought up to date first and is a copy as of that
        moment; this takes back an earlier ``complete``. Otherwise everything is dropped.

        Raises:
            StateError: not in this status; or paused, and not forced; or it has ended already and
                only cleans up.
        """
        record = self._record
        require(self.job_id, Verb.CANCEL, record.status)
        if record.outcome is not None:  # guests may use the target by now
            raise self._refusal(Verb.CANCEL)
        if record.pause_wanted and not force:
            text = f"The block job for device '{self.job_id}' is currently paused"
            raise self._refusal(Verb.CANCEL, text)
        if record.ready and not force:
            record.soft_cancelled = True
            record.completing = False
        if record.pause_wanted:  # forced: it goes on, if only to its end
            record.io_status = "ok"
        if not record.ready or force or record.status is JobStatus.PENDING:
            self._drop_everything()
        record.wake()

    def fail(self, reason: str) -> None:
        """End a job that is of no use any more as a failed one; guests stay on the source.

        Raises:
            StateError: not in this status.
        """
        require(self.job_id, Verb.CANCEL, self._record.status)
        self._reaction.fail(reason)

    def finalize(self) -> None:
        """Let a PENDING job end.

        Raises:
            StateError: not PENDING.
        """
        require(self.job_id, Verb.FINALIZE, self._record.status)
        self._record.finalizing = True
        self._record.wake()

    def dismiss(self) -> None:
        """Forget a concluded job.

        Raises:
            StateError: not CONCLUDED.
        """
        require(self.job_id, Verb.DISMISS, self._record.status)
        self._record.set_status(JobStatus.NULL)

    def change(self, copy_mode: CopyMode) -> None:
        """Switch to write-blocking while running; the present mode is accepted and changes nothing.

        Raises:
            InvalidInput: from write-blocking to background.
            StateError: not in this status.
        """
        require(self.job_id, Verb.CHANGE, self._record.status)
        if copy_mode is self._copy_mode:
            return
        if copy_mode is CopyMode.BACKGROUND:
            raise InvalidInput(
                "copy-mode",
                copy_mode.value,
                f"Change to copy mode '{copy_mode.value}' is not implemented",
            )
        self._copy_mode = copy_mode
        self._record.wake()

    def _require_completable(self) -> None:
        require(self.job_id, Verb.COMPLETE, self._record.status)
        if self._record.soft_cancelled:
            text = f"The active block job '{self.job_id}' cannot be completed"
            raise self._refusal(Verb.COMPLETE, text)

    def _refusal(self, verb: Verb, text: str | None = None) -> StateError:
        return StateError(self.job_id, verb.value, self._record.status.value, (), text)
