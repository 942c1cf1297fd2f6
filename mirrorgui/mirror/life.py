"""The life of a mirror job: its task from the first look to the one place that decides its end.

The engine copies, the hooks track guests; this module says when. Wishes come in through the record.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError, MirrorGUIError
from mirrorgui.mirror.chain import TargetChain
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.engine import CopyEngine
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.flush import TargetFlush
from mirrorgui.mirror.guest import Tracking, WriteBlocking
from mirrorgui.mirror.hold import GuestHold
from mirrorgui.mirror.operation import Piece, Stall
from mirrorgui.mirror.options import (
    CopyMode,
    MirrorOptions,
    SyncMode,
    effective_buf_size,
    effective_granularity,
)
from mirrorgui.mirror.policy import Action
from mirrorgui.mirror.reaction import Reaction
from mirrorgui.mirror.record import JobRecord
from mirrorgui.mirror.scan import MIN_STEP, Scan
from mirrorgui.mirror.snapshot import Outcome, Phase
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.mirror.tally import GuestTally

logger = logging.getLogger(__name__)

JOB_TYPE = "mirror"

HUNG_S = 2.0
"""How long a failed job waits for requests in flight before it gives them up."""

GIVE_UP_AGAIN_S = 0.1
"""How often hung requests are given up: a thread may reach the hung image later."""

GUEST_LEAVES_S = 0.01
"""How often a job that ends looks whether the last write-blocking guest is through."""


class JobLife:
    """What a mirror job does by itself; ``job.MirrorJob`` adds the verbs and the looks.

    Concurrency: belongs to the event loop's thread, but for what the hooks tell.
    """

    kind = JOB_TYPE

    def __init__(
        self,
        drive: Drive,
        target: BlockNode,
        options: MirrorOptions,
        *,
        events: EventLog | None = None,
        pivot: Callable[[BlockNode], object] | None = None,
    ) -> None:
        self.options = options
        self.drive = drive
        self.source = drive.node
        self.target = target
        self.events = events or EventLog()
        self.granularity = effective_granularity(options.granularity, target.limits.cluster_size)
        self.buf_size = effective_buf_size(options.buf_size, self.granularity)
        if target.unopened_backing:  # whole clusters of it are copied at first
            self.buf_size = max(self.buf_size, target.limits.cluster_size)
        self._pivot = pivot or drive.exchange
        self._copy_mode = options.copy_mode
        self._speed = options.speed  # as asked; the limit is lifted at the end
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._hook: Tracking | WriteBlocking | None = None
        self._scan: Scan | None = None
        self._record = JobRecord(options.job_id, self.events)
        self._engine = CopyEngine(
            self.source,
            target,
            granularity=self.granularity,
            buf_size=self.buf_size,
            speed=options.speed,
            unmap=options.unmap,
            threads=options.copy_threads,
            listener=self,
        )
        self._hold = GuestHold(self._record, drive, self._engine)
        self._reaction = Reaction(
            self._record, self._engine, options.on_source_error, options.on_target_error
        )
        self._tally = GuestTally(
            self._engine, lambda error: self._loop.call_soon_threadsafe(self._guest_failed, error)
        )
        self._flush = TargetFlush(target, self._record, self._engine, self._hold, self._reaction)
        self._chain = TargetChain(target, self._record, self._engine, self._hold, self.events)

    @property
    def job_id(self) -> str:
        """Its name."""
        return self.options.job_id

    def progress(self) -> tuple[int, int]:
        """Return QEMU's ``len`` and ``offset``: bytes in all (guests add to them), bytes done."""
        offset = self._engine.done_bytes + self._tally.mirrored
        return offset + self._engine.dirty_bytes + self._engine.in_flight_bytes, offset

    @property
    def _is_actively_synced(self) -> bool:
        hook = self._hook
        active = isinstance(hook, WriteBlocking) and not hook.passive
        return active and self._record.ready and self._engine.is_clean

    def _drop_everything(self) -> None:
        if not self._record.forced:
            self._record.forced = True
            self._give_up_in_flight()

    def _give_up_in_flight(self) -> None:
        """Make hung requests return, now and from time to time until the job is over.

        The source's only while no guest waits for it as well.
        """
        if self._record.phase is Phase.OVER:
            return
        self._engine.suspend()
        self.target.cancel_in_flight()
        if not self.drive.statistics().in_flight:
            self.source.cancel_in_flight()
        self._loop.call_later(GIVE_UP_AGAIN_S, self._give_up_in_flight)

    # ---------------------------------------------------------------- the task

    async def _run(self) -> None:
        """The job from beginning to end. A border: nothing but cancellation gets out."""
        try:
            self._record.set_status(JobStatus.RUNNING)
            if self.drive.size != self.target.size:
                self._reaction.fail("Source and target image have different sizes")
            else:
                await self._mirror()
        except asyncio.CancelledError:
            # The loop is being shut down: neither threads nor held guests may be left behind.
            self._drop_everything()
            raise
        except Exception as error:
            logger.exception("job=%s broken", self.job_id)
            self._reaction.fail(f"internal error: {error}")
        finally:
            try:
                await self._conclude()
            finally:
                if not self._ended.done():
                    self._ended.set_result(None)

    async def _mirror(self) -> None:
        """Scan, then take step after step until the job has ended or must be aborted."""
        record = self._record
        # Tracking comes before the scan: a write that lands behind the scan must not be missed.
        while not record.must_abort and self._hook is None:
            record.look()
            if record.pause_wanted:
                await self._stay_paused()
            elif not self._hold.may_begin:
                await record.news()
            else:
                await self._swap_hook(Tracking(self._engine.dirty, self._tally))
        record.started_ns = time.monotonic_ns()
        if self._top_only and not self._target_reads_zero:
            # Nobody looks at what the target holds where nothing is copied at first.
            self._engine.target_data.mark_all()
        if self.options.sync is not SyncMode.NONE:
            await self._scan_source()
        record.phase = Phase.COPYING
        while not record.must_abort:
            record.look()
            if record.pause_wanted:
                await self._stay_paused()
                continue
            self._keep_copying()
            if self._mode_changes and self._hold.may_begin:
                await self._become_write_blocking()
            elif await self._step():
                return

    async def _step(self) -> bool:
        """Do what is next; True when the job has ended, well or with a refused pivot."""
        record = self._record
        self._set_restful(record.ready and not record.is_ending)
        may_flush = self._flush.may_begin
        if not record.ready and self._mode_changes:
            # READY promises that guests' writes are on both images; guests were held just now.
            record.phase = Phase.COPYING
            await record.news()
        elif not record.ready and self._engine.is_clean and may_flush:
            await self._reach_ready()
        elif not record.ready and self._hold.is_due and may_flush:
            if await self._hold.in_sync(_reached):
                await self._reach_ready()
        elif record.is_ending and self._may_end and may_flush:
            return await self._finish()
        else:
            record.phase = Phase.IN_SYNC if record.ready else Phase.COPYING
            await record.news()
        return False

    @property
    def _top_only(self) -> bool:
        """Whether the target has, or needs, more than what is copied."""
        top = self.options.sync is SyncMode.TOP and self.source.backing is not None
        return top or self.options.sync is SyncMode.NONE

    @property
    def _target_reads_zero(self) -> bool:
        """Whether the target is vouched to read as zeroes, also once its backing file is open."""
        return self.options.target_is_zero and self._chain.is_open

    def _keep_copying(self) -> None:
        """Go on after a pause, also one that was taken back before the task could see it."""
        if self._engine.stall is Stall.SUSPENDED:
            self._engine.resume()

    def _set_restful(self, restful: bool) -> None:
        if self._engine.restful is not restful:
            self._engine.restful = restful
            self._engine.pump()

    # Beginning.

    async def _scan_source(self) -> None:
        self._record.phase = Phase.SCANNING
        options, engine, top = self.options, self._engine, self._top_only
        scan = self._scan = Scan(
            self.source,
            self.target,
            engine.dirty,
            engine.target_data,
            top=top,
            clean_target=not top and not self._target_reads_zero,
            unmap=options.unmap,
        )
        while not scan.finished and not self._record.must_abort:
            if self._record.pause_wanted:
                await self._stay_paused()
                continue
            try:
                await engine.call(scan.turn)
            except BlockIOError as error:
                if self._reaction.answer(error, scan.done, 0) is Action.IGNORE:
                    scan.skip(MIN_STEP)

    @property
    def _mode_changes(self) -> bool:
        wanted = self._copy_mode is CopyMode.WRITE_BLOCKING
        return wanted and not isinstance(self._hook, WriteBlocking)

    async def _become_write_blocking(self) -> None:
        engine = self._engine
        await self._swap_hook(
            WriteBlocking(
                engine.dirty,
                engine.target_data,
                engine.ranges,
                self.target,
                self._tally,
                engine.clusters,
            )
        )

    async def _swap_hook(self, hook: Tracking | WriteBlocking) -> bool:
        """Exchange the hook while no guest is inside: old and new must not overlap.

        A write that only tracks could mark its chunk before, and a write-blocking one clear it
        after, the moment in which the first one's bytes were overwritten on the source alone.
        False when the guests did not leave in time.
        """
        try:
            if not await self._hold.empty():
                return False
            self._hook = hook
            self.drive.attach(hook)
            return True
        finally:
            self._hold.release()

    # READY, pausing.

    async def _reach_ready(self) -> None:
        """Both images were equal a moment ago: flush, then announce READY."""
        record = self._record
        record.phase = Phase.FLUSHING
        if await self._flush.now() and not record.pause_wanted:
            record.ready = True
            record.ready_wall_ns = time.time_ns()
            record.phase = Phase.IN_SYNC
            record.set_status(JobStatus.READY)
            self._emit_block_job("BLOCK_JOB_READY")

    async def _stay_paused(self) -> None:
        """Wait for the operations in flight, then until somebody resumes or cancels."""
        record = self._record
        self._engine.suspend()
        self._set_passive(True)
        while not self._engine.is_idle and record.pause_wanted and not record.must_abort:
            await record.news()
        if record.pause_wanted and not record.must_abort:
            await record.rest()
        if record.must_abort or record.pause_wanted:
            return
        self._set_passive(False)

    def _set_passive(self, passive: bool) -> None:
        if isinstance(self._hook, WriteBlocking):
            self._hook.passive = passive

    # The end.

    @property
    def _may_end(self) -> bool:
        """Whether both images are equal, or can be after a short hold."""
        return self._hold.is_possible

    async def _finish(self) -> bool:
        """End a READY job as it was told to; False when something came between."""
        if self._record.completing and not self._chain.is_open:
            self._record.phase = Phase.SWITCHING
            await self._chain.open(self._hook)
            return False
        # Most of the flush happens while guests still work; the one at the end finds little to do.
        self._record.phase = Phase.FLUSHING
        await self._flush.await_late()
        if not await self._flush.now():
            return False
        self._record.phase = Phase.SWITCHING
        if self.options.auto_finalize:
            return await self._hold.in_sync(self._end_now)
        if not await self._hold.in_sync(self._become_pending):
            return False
        return await self._wait_for_finalize()

    async def _become_pending(self) -> bool:
        if not await self._flush.while_held() or self._record.pause_wanted:
            return False
        self._record.set_status(JobStatus.WAITING)
        self._record.set_status(JobStatus.PENDING)
        self.events.emit("BLOCK_JOB_PENDING", type=JOB_TYPE, id=self.job_id)
        return True

    async def _wait_for_finalize(self) -> bool:
        """PENDING: keep the target in step until told to end. Guests work on meanwhile."""
        record = self._record
        while not record.must_abort:
            record.look()
            self._keep_copying()
            self._set_restful(not record.finalizing)
            if record.finalizing and self._engine.limit.speed:
                # Nobody can change the limit here, and the end must not wait for it.
                self._engine.set_speed(0)
            if record.finalizing and self._may_end:
                await self._flush.await_late()
                if await self._hold.in_sync(self._end_now):
                    return True
            else:
                await record.news()
        return False

    async def _end_now(self) -> bool:
        """Clean, idle, drained: flush, and end if that holds. The only place that pivots."""
        record = self._record
        if not await self._flush.while_held():
            return False
        if record.pause_wanted or not self._engine.is_clean:
            return False
        if record.status is not JobStatus.PENDING:
            record.set_status(JobStatus.WAITING)
            record.set_status(JobStatus.PENDING)
        self._detach()
        if not record.completing:
            record.outcome = Outcome.FINISHED
            return True
        try:
            self._pivot(self.target)
        except MirrorGUIError as error:
            self._reaction.fail(str(error))
        else:
            record.outcome = Outcome.SWITCHED
        return True

    def _detach(self) -> None:
        self._hook = None
        self.drive.detach()

    async def _conclude(self) -> None:
        """Clean up, say how it ended, and leave the record."""
        record = self._record
        record.phase = Phase.ENDING
        ended_well = record.outcome is not None and not record.failed
        if not ended_well:
            record.set_status(JobStatus.ABORTING)
            await self._abandon()
        await self._flush.over()
        await self._engine.close()
        record.phase = Phase.OVER
        record.ended_wall_ns = time.time_ns()
        if ended_well:
            self._emit_block_job("BLOCK_JOB_COMPLETED")
        elif record.failed:
            record.outcome = Outcome.FAILED
            self._emit_block_job("BLOCK_JOB_COMPLETED", error=record.error)
        else:
            record.outcome = Outcome.CANCELLED
            self._emit_block_job("BLOCK_JOB_CANCELLED")
        record.set_status(JobStatus.CONCLUDED)
        if self.options.auto_dismiss:
            record.set_status(JobStatus.NULL)

    async def _abandon(self) -> None:
        """Stop copying and let go of the guests; nobody uses the target afterwards."""
        self._engine.suspend()
        self._set_passive(True)
        self._detach()
        if not self._record.forced:
            self._loop.call_later(HUNG_S, self._give_up_in_flight)
        while not self._engine.is_idle:
            await self._record.news()
        # A guest may still be on its way to the target through the old hook; it holds a claim then.
        while self._engine.has_guests:
            self._record.wake_later(GUEST_LEAVES_S)
            await self._record.news()

    # ---------------------------------------------------------------- what the engine tells

    def piece_failed(self, piece: Piece, error: BlockIOError) -> bool:
        """Answer a failed copy by policy; True when it is to be tried later."""
        if self._record.must_abort:
            return False
        action = self._reaction.answer(error, piece.offset, piece.length)
        return action is Action.IGNORE

    def engine_broken(self, error: BaseException) -> None:
        """A driver or the engine has a defect: the job fails, the target is not trusted."""
        logger.error("job=%s copy thread broken", self.job_id, exc_info=error)
        self._reaction.fail(f"internal error: {error}")

    def engine_changed(self) -> None:
        """Wake the task when there may be something to decide."""
        engine, record = self._engine, self._record
        self._hold.sample()
        if engine.is_idle or engine.urgent or record.is_ending or self._hold.is_due:
            record.wake()

    def _guest_failed(self, error: BlockIOError) -> None:
        if not self._record.must_abort and self._record.status not in OVER:
            self._reaction.answer(error, error.offset, 0)
            self._engine.pump()

    # ---------------------------------------------------------------- events

    def _emit_block_job(self, name: str, error: str | None = None) -> None:
        length, offset = self.progress()
        fields: dict[str, object] = {
            "type": JOB_TYPE,
            "device": self.job_id,
            "len": length,
            "offset": offset,
            "speed": self._speed,
        }
        if error is not None:
            fields["error"] = error
        self.events.emit(name, **fields)


async def _reached() -> bool:
    """Nothing else needs the instant in which both images are equal."""
    return True
