"""The whole job as a state machine: guests, verbs, faults and time in any order."""

import errno
import os
from collections.abc import Callable
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import ExtentKind
from mirrorgui.errors import BlockIOError, InvalidInput, StateError
from mirrorgui.mirror.events import EventLog, JobEvent
from mirrorgui.mirror.flush import LAST_FLUSH_S
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, MirrorOptions, SyncMode
from mirrorgui.mirror.snapshot import Outcome, Phase
from mirrorgui.mirror.states import MOVES, OVER, JobStatus, Verb, is_allowed
from mirrorgui.units import KiB
from tests.mirror.harness import pattern
from tests.mirror.overlay import LateOverlay
from tests.stateful.stage import GatedNode, Stage, WatchedDrive

SOAK = bool(os.environ.get("MIRRORGUI_SOAK"))

LONGEST_HOLD_S = LAST_FLUSH_S + 2.5
"""Until the guests are out and the rest is copied, and for the flush."""

MAX_GUESTS = 4

FRACTIONS = st.floats(0, 1, exclude_max=True, width=32)
POLICIES = st.sampled_from(list(ErrorPolicy))


class MirrorMachine(RuleBasedStateMachine):
    """A job between two images in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stage: Stage | None = None
        self.steps = 0
        self.violations: list[str] = []

    # The beginning.

    @initialize(
        granularity=st.sampled_from([512, 4 * KiB, 64 * KiB]),
        chunks=st.integers(1, 24),
        slack=FRACTIONS,
        layout=st.integers(0, 2**24 - 1),
        garbage=st.booleans(),
        after=st.booleans(),
        early=st.booleans(),
        can_zero=st.booleans(),
        threads=st.integers(1, 3),
        cap=st.integers(1, 4),
        buf=st.sampled_from([1, 2, 5, 64]),
        speed=st.sampled_from([0, 0, 0, 100_000]),
        copy_mode=st.sampled_from(CopyMode),
        policies=st.tuples(POLICIES, POLICIES),
        auto_finalize=st.booleans(),
        backing=st.booleans(),
        late=st.sampled_from([0, 1, 4, 16]),
    )
    def begin(
        self,
        granularity: int,
        chunks: int,
        slack: float,
        layout: int,
        garbage: bool,
        after: bool,
        early: bool,
        can_zero: bool,
        threads: int,
        cap: int,
        buf: int,
        speed: int,
        copy_mode: CopyMode,
        policies: tuple[ErrorPolicy, ErrorPolicy],
        auto_finalize: bool,
        backing: bool,
        late: int,
    ) -> None:
        size = chunks * granularity - int(slack * granularity)
        self.size, self.granularity = size, granularity
        cluster = min(granularity, 4 * KiB)
        base = MemoryNode(pattern(size * 2 // 3, 5)) if backing else None
        self.source = MemoryNode(size, name="source", cluster_size=cluster, backing=base)
        whole = pattern(size)
        for chunk in range(chunks):
            if layout >> chunk & 1:
                start = chunk * granularity
                self.source.write(start, whole[start : start + granularity])
        # Over a backing file either only the top is copied, to a new image over the same one, or
        # everything, to an image of its own.
        top = backing and not garbage
        self.base = base
        if top and late:  # which is opened at Complete
            assert base is not None
            self.target = LateOverlay(size, base, cluster_size=late * granularity // 2)
        else:
            self.target = MemoryNode(
                pattern(size, 9) if garbage else size,
                name="target",
                cluster_size=cluster,
                can_zero=can_zero,
                backing=base if top else None,
            )
        self.expected = bytearray(self.source.content())
        self.known = np.ones(size, bool)
        self.stage = stage = Stage(early=early)
        self.gates = stage.gates
        gated = [
            GatedNode(node, stage.gates, node.name, after=after)
            for node in (self.source, self.target)
        ]
        self.gated_source, self.gated_target = gated
        self.drive = WatchedDrive(gated[0])
        self.drive.on_detach = self.at_the_end
        self.busy: dict[int, tuple[int, int]] = {}
        self.guest_number = 0
        self.offset = 0
        self.held_since: float | None = None
        self.statuses: list[JobStatus] = []
        self.events = EventLog()
        self.events.listen(self.saw)
        options = MirrorOptions(
            sync=SyncMode.TOP if top else SyncMode.FULL,
            granularity=granularity,
            buf_size=buf * granularity,
            speed=speed,
            copy_mode=copy_mode,
            on_source_error=policies[0],
            on_target_error=policies[1],
            auto_finalize=auto_finalize,
            copy_threads=threads,
        )
        self.job = stage.make_job(
            lambda: MirrorJob(self.drive, gated[1], options, events=self.events),
            threads=threads,
            cap=cap * granularity,
        )
        stage.do(self.job.start)
        stage.rest()

    def saw(self, event: JobEvent) -> None:
        if event.name == "JOB_STATUS_CHANGE":
            self.statuses.append(JobStatus(event.data["status"]))

    def at_the_end(self) -> None:
        """The hook is taken off; a job that ends well has two equal images now."""
        if self.job._record.must_abort:
            return
        if not self.drive.is_held or self.drive.statistics().in_flight:
            self.violations.append("the end was decided while guests worked")
        if self.source.content() != self.whole_target():
            self.violations.append("the end was decided while the images differed")

    def whole_target(self) -> bytes:
        """What the target reads as, or will once its backing file is open."""
        whole = bytearray(self.target.content())
        if self.target.unopened_backing and self.base is not None:
            below = self.base.content().ljust(self.size, b"\0")
            for run in self.target.extents(0, self.size):
                if run.kind is ExtentKind.UNALLOCATED:
                    whole[run.offset : run.end] = below[run.offset : run.end]
        return bytes(whole)

    @property
    def is_over(self) -> bool:
        return self.job.status in OVER

    # Guests.

    def _range(self, at: float, length: float) -> tuple[int, int] | None:
        """Choose a range that no guest works on at the moment."""
        offset = int(at * self.size)
        length = max(1, int(length**3 * (self.size - offset)))
        if len(self.busy) >= MAX_GUESTS:
            return None
        for low, high in self.busy.values():
            if low < offset + length and offset < high:
                return None
        return offset, length

    def _guest(
        self, offset: int, length: int, request: Callable[[], None], content: bytes | None
    ) -> None:
        self.guest_number += 1
        number = self.guest_number
        self.busy[number] = (offset, offset + length)

        def done(error: BaseException | None) -> None:
            del self.busy[number]
            if error is not None and not isinstance(error, BlockIOError):
                self.violations.append(f"a guest got {error!r}")
            self.known[offset : offset + length] = content is not None and error is None
            if content is not None:
                self.expected[offset : offset + length] = content

        assert self.stage is not None
        self.stage.let_guest(request, done)
        self.stage.rest()

    @rule(at=FRACTIONS, length=FRACTIONS, seed=st.integers(2, 255))
    def write(self, at: float, length: float, seed: int) -> None:
        if (where := self._range(at, length)) is not None:
            data = pattern(where[1], seed)
            self._guest(*where, lambda: self.drive.write(where[0], data), data)

    @rule(chunk=st.integers(0, 23), count=st.integers(1, 3), seed=st.integers(2, 255))
    def write_chunks(self, chunk: int, count: int, seed: int) -> None:
        offset = chunk * self.granularity
        end = min(offset + count * self.granularity, self.size)
        if offset < end and (where := self._range(offset / self.size, 0)) is not None:
            if any(low < end and offset < high for low, high in self.busy.values()):
                return
            data = pattern(end - offset, seed)
            assert where
            self._guest(offset, end - offset, lambda: self.drive.write(offset, data), data)

    @rule(at=FRACTIONS, length=FRACTIONS)
    def zero(self, at: float, length: float) -> None:
        if (where := self._range(at, length)) is not None:
            self._guest(*where, lambda: self.drive.write_zeroes(*where), bytes(where[1]))

    @rule(at=FRACTIONS, length=FRACTIONS)
    def discard(self, at: float, length: float) -> None:
        if (where := self._range(at, length)) is not None:
            self._guest(*where, lambda: self.drive.discard(*where), None)

    @rule(at=FRACTIONS)
    def read(self, at: float) -> None:
        if (where := self._range(at, 0)) is not None:
            number = self.guest_number = self.guest_number + 1
            self.busy[number] = (0, 0)
            assert self.stage is not None
            self.stage.let_guest(
                lambda: self.drive.read_into(where[0], bytearray(1)),
                lambda _error: self.busy.pop(number) and None,
            )
            self.stage.rest()

    # Gates and time.

    @rule(which=st.integers(0, 20), fault=st.sampled_from([0, 0, 0, 0, errno.EIO, errno.ENOSPC]))
    def let_go(self, which: int, fault: int) -> None:
        parked = self.gates.standing()
        if parked:
            chosen = parked[which % len(parked)]
            self.gates.let_go(chosen, 0 if chosen.after else fault)
            assert self.stage is not None
            self.stage.rest()

    @rule(count=st.integers(1, 12))
    def let_several_go(self, count: int) -> None:
        for _ in range(count):
            self.let_go(0, 0)

    @rule()
    def let_all_go(self) -> None:
        assert self.stage is not None
        self.gates.open_all()
        self.stage.rest()
        self.gates.close_all()

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.1, 0.3, 1.1, 11.0]))
    def wait(self, seconds: float) -> None:
        assert self.stage is not None
        self.stage.advance(seconds)

    # Verbs.

    def _verb(self, verb: Verb, call: Callable[[], None]) -> None:
        assert self.stage is not None
        status = self.job.status
        try:
            self.stage.do(call)
        except StateError:
            self.stage.rest()
            return
        except InvalidInput:
            assert verb is Verb.CHANGE
            return
        assert is_allowed(verb, status), f"{verb} was accepted in {status}"
        self.stage.rest()

    @rule()
    def pause(self) -> None:
        self._verb(Verb.PAUSE, self.job.pause)

    @rule()
    def resume(self) -> None:
        self._verb(Verb.RESUME, self.job.resume)

    @rule()
    def pause_and_resume_at_once(self) -> None:
        def both() -> None:
            self.job.pause()
            self.job.resume()

        self._verb(Verb.PAUSE, both)

    @rule(speed=st.sampled_from([0, 0, 1, 50_000, 10_000_000]))
    def set_speed(self, speed: int) -> None:
        if speed == 1 and not self.job.options.auto_finalize:
            return  # it would keep a PENDING job, whose speed cannot be changed, for days
        self._verb(Verb.SET_SPEED, lambda: self.job.set_speed(speed))

    @rule(mode=st.sampled_from(CopyMode))
    def change(self, mode: CopyMode) -> None:
        self._verb(Verb.CHANGE, lambda: self.job.change(mode))

    @rule(reading=POLICIES, writing=POLICIES)
    def set_policy(self, reading: ErrorPolicy, writing: ErrorPolicy) -> None:
        self.job.set_policy(on_source_error=reading, on_target_error=writing)

    @rule()
    def complete(self) -> None:
        self._verb(Verb.COMPLETE, self.job.complete)

    @rule()
    def finalize(self) -> None:
        self._verb(Verb.FINALIZE, self.job.finalize)

    @precondition(lambda self: self.steps > 20)
    @rule(force=st.booleans())
    def cancel(self, force: bool) -> None:
        self._verb(Verb.CANCEL, lambda: self.job.cancel(force=force))

    # What always holds.

    @invariant()
    def nothing_was_violated(self) -> None:
        self.steps += 1
        if self.stage is not None:
            assert self.violations == []
            assert self.gated_target.overlapped == []

    @invariant()
    def the_numbers_fit(self) -> None:
        if self.stage is None:
            return
        snapshot, engine = self.job.snapshot(), self.job._engine
        assert snapshot.offset >= self.offset, "offset went back"
        self.offset = snapshot.offset
        assert snapshot.length >= snapshot.offset
        copies = [each for each in snapshot.operations if each.kind.value == "copy"]
        assert len(copies) == engine.in_flight <= 16
        assert snapshot.in_flight_bytes == sum(each.length for each in copies)
        assert snapshot.in_flight_bytes <= snapshot.buf_size
        ranges = sorted(each for operation in snapshot.operations for each in operation.ranges)
        for (start, length), (following, _) in pairwise(ranges):
            assert start + length <= following
        assert len(ranges) == len(engine.ranges.held())

    @invariant()
    def the_status_followed_the_table(self) -> None:
        if self.stage is None:
            return
        for before, after in pairwise(self.statuses):
            assert after in MOVES[before]
        assert self.statuses.count(JobStatus.CONCLUDED) <= 1
        if self.job.status in (JobStatus.PAUSED, JobStatus.STANDBY, *OVER):
            assert self.job._engine.is_idle

    @invariant()
    def a_clean_job_has_equal_images(self) -> None:
        if self.stage is None or self.busy or self.job.status is JobStatus.ABORTING:
            return
        if self.drive._hook is None or self.job.snapshot().phase in (
            Phase.PREPARING,
            Phase.SCANNING,
        ):
            return
        if self.job._engine.is_clean:
            assert self.source.content() == self.whole_target()

    @invariant()
    def the_guest_reads_what_was_written(self) -> None:
        if self.stage is None or self.busy:
            return
        node = self.target if self.drive.node is self.gated_target else self.source
        now = np.frombuffer(node.content(), np.uint8)
        wanted = np.frombuffer(bytes(self.expected), np.uint8)
        assert np.array_equal(now[self.known], wanted[self.known])

    @invariant()
    def guests_are_held_for_a_bounded_time(self) -> None:
        if self.stage is None:
            return
        if not self.drive.is_held:
            self.held_since = None
            return
        now = self.stage.loop.now
        self.held_since = self.held_since if self.held_since is not None else now
        assert now - self.held_since <= LONGEST_HOLD_S + 11.0

    @invariant()
    def a_job_that_should_work_works(self) -> None:
        if self.stage is None:
            return
        record, engine = self.job._record, self.job._engine
        if (
            self.job.status in (JobStatus.RUNNING, JobStatus.READY)
            and record.phase in (Phase.COPYING, Phase.IN_SYNC)
            and not record.pause_wanted
            and not record.must_abort
            and not self.drive.is_held  # the task looks again when the hold has ended
        ):
            assert engine.stall.value != "suspended", "nobody will resume it"

    # The end.

    def teardown(self) -> None:
        if self.stage is None:
            return
        try:
            self._end_well()
            self.nothing_was_violated()
            self.the_numbers_fit()
            self.the_status_followed_the_table()
            self.the_guest_reads_what_was_written()
        finally:
            self.stage.close()

    def _end_well(self) -> None:
        """Without faults, with open gates and enough time every job ends, and no guest hangs."""
        stage, job = self.stage, self.job
        assert stage is not None
        self.gates.open_all()
        stage.rest()
        for _ in range(600):
            if self.is_over:
                break
            if job._record.pause_wanted and is_allowed(Verb.RESUME, job.status):
                stage.do(job.resume)
            if job._engine.limit.speed and is_allowed(Verb.SET_SPEED, job.status):
                stage.do(lambda: job.set_speed(0))
            if is_allowed(Verb.COMPLETE, job.status) and not job._record.is_ending:
                stage.do(job.complete)
            if is_allowed(Verb.FINALIZE, job.status):
                stage.do(job.finalize)
            stage.rest()
            stage.advance(0.5)
        assert self.is_over, f"the job never ends: {stage.describe()}"
        assert not stage.guests, f"guests hang: {stage.describe()}"
        assert not self.busy and not self.drive.is_held and self.drive._hook is None
        outcome = job.snapshot().outcome
        assert outcome is not None
        switched = self.drive.node is self.gated_target
        assert switched == (outcome is Outcome.SWITCHED)
        names = [event.name for event in self.events.since(0)[0]]
        assert names.count("BLOCK_JOB_READY") <= 1
        assert names.count("BLOCK_JOB_COMPLETED") + names.count("BLOCK_JOB_CANCELLED") == 1
        assert job._engine.ranges.held() == ()
        assert not job._engine.in_flight_bytes


MirrorMachine.TestCase.settings = settings(
    max_examples=2000 if SOAK else 60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestMirrorMachine = MirrorMachine.TestCase
