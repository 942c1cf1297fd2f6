"""An engine that does nothing but say what a test tells it to say."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from mirrorgui.block.devices import BlockDevice, Partition
from mirrorgui.block.info import ImageInfo
from mirrorgui.block.safety import Finding
from mirrorgui.errors import MirrorGUIError
from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.options import (
    CopyMode,
    SyncMode,
    effective_buf_size,
    effective_granularity,
)
from mirrorgui.mirror.snapshot import (
    ErrorRecord,
    GuestStatistics,
    JobSnapshot,
    OperationView,
    Outcome,
    Phase,
)
from mirrorgui.mirror.states import OVER, JobStatus, Verb, require
from mirrorgui.nbd.statistics import ConnectionStatistics
from mirrorgui.units import GiB, KiB, MiB

NOON_NS = 1_700_000_000_000_000_000
SIZE = 1 * GiB
SECOND = 1_000_000_000


def snapshot(status=JobStatus.RUNNING, **changes) -> JobSnapshot:
    """A job of 1 GiB in the middle of its work, or at rest in another status."""
    phases = {
        JobStatus.CREATED: Phase.PREPARING,
        JobStatus.READY: Phase.IN_SYNC,
        JobStatus.STANDBY: Phase.IN_SYNC,
        JobStatus.WAITING: Phase.SWITCHING,
        JobStatus.PENDING: Phase.SWITCHING,
        JobStatus.ABORTING: Phase.ENDING,
        JobStatus.CONCLUDED: Phase.OVER,
        JobStatus.NULL: Phase.OVER,
    }
    base = JobSnapshot(
        job_id="mirror0",
        status=status,
        phase=phases.get(status, Phase.COPYING),
        sync=SyncMode.FULL,
        copy_mode=CopyMode.BACKGROUND,
        size=SIZE,
        granularity=64 * KiB,
        chunks=SIZE // (64 * KiB),
        buf_size=16 * MiB,
        speed=0,
        offset=635 * MiB,
        length=1024 * MiB,
        dirty_bytes=(1024 - 635) * MiB,
        copied_bytes=635 * MiB,
        generation=1,
        time_ns=100 * SECOND,
        started_ns=1 * SECOND,
    )
    if status in (JobStatus.READY, JobStatus.STANDBY, JobStatus.WAITING, JobStatus.PENDING):
        base = replace(base, ready=True, offset=1024 * MiB, dirty_bytes=0)
    if status in (JobStatus.PAUSED, JobStatus.STANDBY):
        base = replace(base, paused=True)
    if status is JobStatus.CREATED:
        base = replace(base, offset=0, dirty_bytes=0, length=0, started_ns=0)
    if status in OVER:
        base = replace(
            base,
            ready=True,
            offset=1024 * MiB,
            dirty_bytes=0,
            outcome=Outcome.SWITCHED,
            ended_wall_ns=NOON_NS,
        )
    return replace(base, **changes)


def error(offset=12 * GiB, length=MiB, operation="write", **changes) -> ErrorRecord:
    base = ErrorRecord(
        offset=offset,
        length=length,
        operation=operation,
        errno=5,
        message="Input/output error",
        action="stop",
        tries=1,
        first_ns=NOON_NS,
        last_ns=NOON_NS,
    )
    return replace(base, **changes)


def stopped(record=None, **changes) -> JobSnapshot:
    """A job that an error has stopped."""
    records = (record if record is not None else error(),)
    fields = {
        "paused_by_error": True,
        "io_status": "failed",
        "errors": records,
        "error_count": 1,
    } | changes
    return snapshot(JobStatus.PAUSED, **fields)


def full(**changes) -> JobSnapshot:
    """A job whose target has no room left."""
    record = error(errno=28, message="No space left on device")
    return stopped(record, **({"io_status": "nospace"} | changes))


class FakeJob:
    """Keeps verbs in ``said``; moves as the real job would where that is simple."""

    def __init__(self, options, size=SIZE):
        self.options = options
        self.events = EventLog()
        self.said: list[tuple] = []
        self.fails: MirrorGUIError | None = None
        self.ended = asyncio.get_running_loop().create_future()
        granularity = effective_granularity(options.granularity, 0)
        self.now = snapshot(
            JobStatus.CREATED,
            job_id=options.job_id,
            size=size,
            granularity=granularity,
            chunks=-(-size // granularity),
            buf_size=effective_buf_size(options.buf_size, granularity),
            speed=options.speed,
            copy_mode=options.copy_mode,
            sync=options.sync,
        )
        self._words: MapWords | None = None
        self.began = time.monotonic_ns()

    def snapshot(self):
        started = self.began if self.now.started_ns else 0
        return replace(self.now, time_ns=time.monotonic_ns(), started_ns=started)

    def copy_map_into(self, words):
        if self._words is not None:
            words.dirty[:] = self._words.dirty
            words.copied[:] = self._words.copied
            words.failed[:] = self._words.failed

    def show(self, now: JobSnapshot):
        """Be in another state from now on, and tell."""
        self.now = replace(
            now,
            job_id=self.now.job_id,
            size=self.now.size,
            granularity=self.now.granularity,
            chunks=self.now.chunks,
            generation=self.now.generation + 1,
        )
        self.events.emit("JOB_STATUS_CHANGE", id=self.now.job_id, status=now.status.value)
        if now.status in OVER and not self.ended.done():
            self.ended.set_result(None)

    def show_map(self, words: MapWords):
        self._words = words
        self.now = replace(self.now, generation=self.now.generation + 1)

    def _verb(self, verb: Verb, *arguments):
        if self.fails is not None:
            raise self.fails
        require(self.now.job_id, verb, self.now.status)
        self.said.append((verb.value, *arguments))

    def pause(self):
        self._verb(Verb.PAUSE)
        status = JobStatus.STANDBY if self.now.ready else JobStatus.PAUSED
        self.show(replace(self.now, status=status, paused=True))

    def resume(self):
        self._verb(Verb.RESUME)
        status = JobStatus.READY if self.now.ready else JobStatus.RUNNING
        self.show(
            replace(self.now, status=status, paused=False, paused_by_error=False, io_status="ok")
        )

    def set_speed(self, speed):
        self._verb(Verb.SET_SPEED, speed)
        self.show(replace(self.now, speed=speed))

    def complete(self):
        self._verb(Verb.COMPLETE)
        self.show(snapshot(JobStatus.NULL))

    def cancel(self, *, force=False):
        self._verb(Verb.CANCEL, force)
        if force or not self.now.ready:
            left = {"dirty_bytes": self.now.dirty_bytes, "offset": self.now.offset}
            outcome = {"outcome": Outcome.CANCELLED, "ready": self.now.ready}
            self.show(snapshot(JobStatus.NULL, **outcome, **left))
        else:
            self.show(snapshot(JobStatus.NULL, outcome=Outcome.FINISHED))

    def change(self, copy_mode):
        self._verb(Verb.CHANGE, copy_mode)
        self.show(replace(self.now, copy_mode=copy_mode))

    def set_policy(self, *, on_source_error=None, on_target_error=None):
        self.said.append(("set-policy", on_source_error, on_target_error))


class FakeSession:
    def __init__(self, request, *, created=True, size=SIZE):
        self.request = request
        self.job = FakeJob(request.options, size)
        self.drive = SimpleNamespace()
        self.target_created = created
        self.started = False
        self.closed = False
        self.deleted = False
        self.target_loss = ""
        self.export_uri = request.export.uri if request.export is not None else ""
        self.connected = []
        self.released = False

    def clients(self):
        return tuple(self.connected)

    async def look_after_target(self):
        return self.target_loss

    def start(self):
        self.started = True
        self.job.show(replace(snapshot(JobStatus.RUNNING), speed=self.request.options.speed))

    async def wait(self):
        await asyncio.shield(self.job.ended)
        return self.job.snapshot()

    async def release_unused(self):
        await self.wait()
        self.released = True

    async def close(self):
        if self.closed:
            return
        self.closed = True
        if self.job.now.status not in OVER:
            self.job.cancel(force=True)

    def delete_incomplete_target(self):
        self.deleted = True
        return True


IMAGE = ImageInfo("/vm/source.img", "raw", SIZE, actual_size=700 * MiB)


class FakeBackend:
    """Answers as told.

    Attributes:
        infos: what images are, by specification; others are ``IMAGE``.
        findings: what the safety check finds, or an error that it raises.
        export_findings: what is found about an address for clients.
        refuse: an error that ``open`` raises.
    """

    def __init__(self):
        self.infos: dict[str, ImageInfo | MirrorGUIError] = {}
        self.findings: list[Finding] | MirrorGUIError = []
        self.export_findings: list[Finding] = []
        self.listed: list[BlockDevice] = []
        self.refuse: MirrorGUIError | None = None
        self.sessions: list[FakeSession] = []
        self.checked: list = []
        self.created = True
        self.size = SIZE
        self.gate: asyncio.Event | None = None

    async def open(self, request):
        if self.gate is not None:
            await self.gate.wait()
        if self.refuse is not None:
            raise self.refuse
        session = FakeSession(request, created=self.created, size=self.size)
        self.sessions.append(session)
        return session

    def job_ids(self):
        return frozenset(session.job.options.job_id for session in self.sessions)

    @property
    def job(self) -> FakeJob:
        return self.sessions[-1].job

    def check(self, request):
        self.checked.append(request)
        if isinstance(self.findings, MirrorGUIError):
            raise self.findings
        return list(self.findings)

    def check_export(self, export):
        return list(self.export_findings)

    def info(self, specification, image_format):
        found = self.infos.get(specification, replace(IMAGE, filename=specification))
        if isinstance(found, MirrorGUIError):
            raise found
        return found

    def devices(self):
        return list(self.listed)


def device(path="/dev/sdb", **changes) -> BlockDevice:
    base = BlockDevice(
        path=path,
        number=2064,
        model="Kingston DataTraveler",
        serial="0C9D92C5F1E4",
        size=32 * GiB,
        removable=True,
        read_only=False,
        partitions=(Partition(f"{path}1", 31 * GiB, "HOLIDAY"),),
        uses=(),
        system=False,
    )
    return replace(base, **changes)


def running_words(chunks: int, front: float = 0.62, seed: int = 1) -> MapWords:
    """A map in the middle of a copy, with places written again behind the front."""
    random = np.random.default_rng(seed)
    place = np.arange(chunks) / chunks
    allocated = (np.sin(place * 23) + np.sin(place * 7 + 1)) > -0.6
    copied = allocated & (place < front)
    dirty = allocated & ~copied
    for center in (0.05, 0.21, 0.44, 0.58):
        near = np.abs(place - center) < 0.012
        dirty |= copied & near & (random.random(chunks) < 0.4)
    failed = np.zeros(chunks, bool)
    return MapWords(chunks, pack(dirty), pack(copied), pack(failed))


def pack(bits) -> np.ndarray:
    padded = np.zeros(-(-len(bits) // 64) * 64, bool)
    padded[: len(bits)] = bits
    return np.packbits(padded, bitorder="little").view(np.uint64)


def flying(now_ns: int, count: int = 6, at: int = 640 * MiB) -> tuple[OperationView, ...]:
    return tuple(OperationView(at + n * MiB, MiB, now_ns - n * 30_000_000) for n in range(count))


def guest(writes=0, written=0) -> GuestStatistics:
    return GuestStatistics(writes=writes, bytes_written=written)


def client(number=1, **changes) -> ConnectionStatistics:
    """A virtual machine that has written some."""
    base = ConnectionStatistics(
        id=number,
        peer="qemu-system-x86 (pid 812)",
        export="debian-server",
        since=NOON_NS / SECOND,
        encrypted=False,
        reads=1200,
        writes=340,
        flushes=12,
        bytes_read=48 * MiB,
        bytes_written=12 * MiB,
        errors=0,
        in_flight=1,
        last_request="WRITE 4096 at 1073741824",
        last_request_at=NOON_NS / SECOND + 60,
    )
    return replace(base, **changes)
