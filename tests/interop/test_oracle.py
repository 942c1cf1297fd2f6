"""The same mirror by qemu-storage-daemon and by ours: the same events, fields and refusals.

What is compared is the sequence of events with all their fields but the timestamps. Known
differences, each with its reason:

* ``rounding``: QEMU rounds raw files up to 512 bytes and lets the target grow; ours is exact.
* ``progress``: how far a job had come when it was cancelled, stopped or failed depends on how much
  is copied at once (QEMU sends all that fits into its buffer, then sleeps), so ``len`` and
  ``offset`` of a job that ends in the middle are not compared.
"""

import asyncio
import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode, InjectError
from mirrorgui.block.file import FileNode
from mirrorgui.errors import MirrorGUIError
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, MirrorOptions, SyncMode
from mirrorgui.units import KiB, MiB
from tests.interop.qmp_peer import Event, QmpError, StorageDaemon
from tests.mirror.harness import pattern

pytestmark = pytest.mark.interop

TIMEOUT_S = 20.0


class Mirror(ABC):
    """A mirror job that the same script can drive, whoever carries it out."""

    refusals: list[str]

    @abstractmethod
    async def start(self, **options: Any) -> None:
        """Begin to mirror ``source`` to ``target``."""

    @abstractmethod
    async def wait_for(self, name: str, **fields: Any) -> None:
        """Wait for an event."""

    @abstractmethod
    async def verb(self, verb: str, **arguments: Any) -> None:
        """Carry out a verb of the job; a refusal is noted."""

    @abstractmethod
    def events(self) -> list[Event]:
        """Everything that happened."""

    async def status(self, status: str) -> None:
        await self.wait_for("JOB_STATUS_CHANGE", id="j", status=status)

    async def end(self) -> None:
        await self.status("null")


class Theirs(Mirror):
    """By qemu-storage-daemon."""

    def __init__(self, directory: Path, faults: dict[str, list[dict[str, Any]]]) -> None:
        self.daemon = StorageDaemon(directory)
        self.refusals = []
        for name in ("source", "target"):
            node: dict[str, Any] = {"driver": "file", "filename": str(directory / name)}
            if name in faults:
                node = {"driver": "blkdebug", "image": node, "inject-error": faults[name]}
            self.daemon.execute(
                "blockdev-add", driver="raw", node_name=name, file=node, read_only=False
            )

    async def start(self, **options: Any) -> None:
        arguments = {"sync": "full", **options}
        self.daemon.execute(
            "blockdev-mirror", job_id="j", device="source", target="target", **arguments
        )

    async def wait_for(self, name: str, **fields: Any) -> None:
        self.daemon.wait_for(name, **fields)

    async def verb(self, verb: str, **arguments: Any) -> None:
        old_names = verb in ("cancel", "pause", "resume", "complete", "set-speed")
        command, key = ("block-job-", "device") if old_names else ("job-", "id")
        try:
            self.daemon.execute(command + verb, **{key: "j"}, **arguments)
        except QmpError as error:
            self.refusals.append(str(error))

    def events(self) -> list[Event]:
        return self.daemon.events

    def close(self) -> None:
        self.daemon.close()


class Ours(Mirror):
    """By MirrorGUI."""

    def __init__(self, directory: Path, faults: dict[str, list[dict[str, Any]]]) -> None:
        self.nodes = [
            BlkdebugNode(
                FileNode(directory / name),
                [InjectError(**rule) for rule in faults.get(name, [])],
            )
            for name in ("source", "target")
        ]
        self.log = EventLog()
        self.refusals = []
        self.job: MirrorJob | None = None

    async def start(self, **options: Any) -> None:
        kinds = {
            "sync": SyncMode,
            "copy_mode": CopyMode,
            "on_source_error": ErrorPolicy,
            "on_target_error": ErrorPolicy,
        }
        typed = {key: kinds.get(key, lambda value: value)(each) for key, each in options.items()}
        drive = Drive(self.nodes[0])
        asked = MirrorOptions(job_id="j", **typed)
        self.job = MirrorJob(drive, self.nodes[1], asked, events=self.log)
        self.job.start()

    async def wait_for(self, name: str, **fields: Any) -> None:
        found = asyncio.Event()

        def look(_event: object = None) -> None:
            for event in self.log.since(0)[0]:
                if event.name == name and fields.items() <= event.data.items():
                    found.set()

        stop = self.log.listen(look)
        look()
        try:
            await asyncio.wait_for(found.wait(), TIMEOUT_S)
        finally:
            stop()

    async def verb(self, verb: str, **arguments: Any) -> None:
        call: Callable[..., None] = getattr(self.job, verb.replace("-", "_"))
        try:
            call(**arguments)
        except MirrorGUIError as error:
            self.refusals.append(str(error))

    def events(self) -> list[Event]:
        return [(event.name, dict(event.data)) for event in self.log.since(0)[0]]

    async def close(self) -> None:
        if self.job is not None:
            await self.job.shut_down()
        for node in self.nodes:
            node.close()


def without(events: list[Event], *fields: str) -> list[Event]:
    """Leave fields out."""
    return [
        (name, {key: value for key, value in data.items() if key not in fields})
        for name, data in events
    ]


class Stage:
    """Runs one script with both."""

    def __init__(self, tmp_path: Path) -> None:
        self._tmp_path = tmp_path

    def _directory(self, name: str, source: bytes, target: int) -> Path:
        directory = self._tmp_path / name
        directory.mkdir()
        (directory / "source").write_bytes(source)
        with (directory / "target").open("wb") as file:
            file.truncate(target)
        return directory

    async def play(
        self,
        script: Callable[[Mirror], Any],
        source: bytes,
        *,
        target: int | None = None,
        faults: dict[str, list[dict[str, Any]]] | None = None,
        leave_out: tuple[str, ...] = (),
    ) -> list[Event]:
        """Return the events, which are the same by both."""
        length = len(source) if target is None else target
        theirs = Theirs(self._directory("theirs", source, length), faults or {})
        try:
            await script(theirs)
        finally:
            theirs.close()
        ours = Ours(self._directory("ours", source, length), faults or {})
        try:
            await script(ours)
        finally:
            await ours.close()
        assert without(ours.events(), *leave_out) == without(theirs.events(), *leave_out)
        assert ours.refusals == theirs.refusals
        return ours.events()

    def images(self, whose: str) -> tuple[bytes, bytes]:
        directory = self._tmp_path / whose
        return (directory / "source").read_bytes(), (directory / "target").read_bytes()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


IMAGE = pattern(2 * MiB)
PROGRESS = ("len", "offset")


@pytest.mark.asyncio
@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
async def test_complete(stage: Stage, copy_mode: str) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(copy_mode=copy_mode)
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("complete")
        await mirror.end()

    await stage.play(script, IMAGE)
    for whose in ("ours", "theirs"):
        source, target = stage.images(whose)
        assert source == target == IMAGE


@pytest.mark.asyncio
async def test_soft_cancel_when_ready(stage: Stage) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start()
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("cancel")
        await mirror.end()

    events = await stage.play(script, IMAGE)
    assert events[-3][0] == "BLOCK_JOB_COMPLETED"


@pytest.mark.asyncio
async def test_forced_cancel_when_ready(stage: Stage) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start()
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("cancel", force=True)
        await mirror.end()

    events = await stage.play(script, IMAGE)
    assert events[-3][0] == "BLOCK_JOB_CANCELLED"


@pytest.mark.asyncio
@pytest.mark.parametrize("force", [False, True])
async def test_cancel_before_ready(stage: Stage, force: bool) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(speed=1, buf_size=64 * KiB)
        await mirror.status("running")
        await mirror.verb("complete")
        await mirror.verb("cancel", force=force)
        await mirror.end()

    await stage.play(script, IMAGE, leave_out=PROGRESS)


FAULTS = {
    "read": {"source": [{"event": "read_aio", "errno": errno.EIO, "once": True}]},
    "write": {"target": [{"event": "write_aio", "errno": errno.EIO, "once": True}]},
    "nospace": {"target": [{"event": "write_aio", "errno": errno.ENOSPC, "once": True}]},
}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "policy"),
    [
        *(
            (fault, policy)
            for fault in ("read", "write")
            for policy in ("report", "enospc", "auto")
        ),
        ("nospace", "report"),
    ],
)
async def test_errors_that_end_the_job(stage: Stage, fault: str, policy: str) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(on_source_error=policy, on_target_error=policy)
        await mirror.end()

    # A single operation: with several, those behind the failed one may end before it.
    events = await stage.play(script, IMAGE[:MiB], faults=FAULTS[fault])
    assert [name for name, _ in events if name == "BLOCK_JOB_ERROR"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "policy"),
    [("read", "stop"), ("write", "stop"), ("nospace", "stop"), ("nospace", "enospc")],
)
async def test_errors_that_stop_the_job(stage: Stage, fault: str, policy: str) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(on_source_error=policy, on_target_error=policy)
        await mirror.status("paused")
        await mirror.verb("resume")
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("complete")
        await mirror.end()

    await stage.play(script, IMAGE[:MiB], faults=FAULTS[fault])
    for whose in ("ours", "theirs"):
        source, target = stage.images(whose)
        assert source == target


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["read", "write"])
async def test_errors_that_are_ignored(stage: Stage, fault: str) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(on_source_error="ignore", on_target_error="ignore")
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("complete")
        await mirror.end()

    await stage.play(script, IMAGE[:MiB], faults=FAULTS[fault])


@pytest.mark.asyncio
async def test_a_failed_flush(stage: Stage) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start()
        await mirror.end()

    faults = {"target": [{"event": "flush_to_disk", "errno": errno.EIO, "once": True}]}
    await stage.play(script, IMAGE, faults=faults)


@pytest.mark.asyncio
async def test_pause_and_resume(stage: Stage) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(speed=64 * KiB, buf_size=64 * KiB)
        await mirror.status("running")
        await mirror.verb("resume")
        await mirror.verb("pause")
        await mirror.verb("pause")
        await mirror.status("paused")
        await mirror.verb("complete")
        await mirror.verb("cancel")
        await mirror.verb("set-speed", speed=0)
        await mirror.verb("resume")
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("pause")
        await mirror.status("standby")
        await mirror.verb("cancel")
        await mirror.verb("complete")
        await mirror.verb("resume")
        await mirror.end()

    await stage.play(script, IMAGE)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["paused", "standby"])
async def test_forced_cancel_of_a_paused_job(stage: Stage, status: str) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(speed=0 if status == "standby" else 64 * KiB, buf_size=64 * KiB)
        if status == "standby":
            await mirror.wait_for("BLOCK_JOB_READY")
        else:
            await mirror.status("running")
        await mirror.verb("pause")
        await mirror.status(status)
        await mirror.verb("cancel", force=True)
        await mirror.end()

    await stage.play(script, IMAGE, leave_out=PROGRESS)


@pytest.mark.asyncio
@pytest.mark.parametrize("target", [MiB, 4 * MiB])
async def test_different_sizes(stage: Stage, target: int) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start()
        await mirror.end()

    events = await stage.play(script, IMAGE, target=target)
    assert events[-3][1]["error"] == "Source and target image have different sizes"


@pytest.mark.asyncio
@pytest.mark.parametrize("verb", ["complete", "cancel"])
async def test_an_empty_image(stage: Stage, verb: str) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start()
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb(verb)
        await mirror.end()

    await stage.play(script, b"")


@pytest.mark.asyncio
async def test_sync_none(stage: Stage) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(sync="none")
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("complete")
        await mirror.end()

    events = await stage.play(script, IMAGE)
    assert [data["len"] for name, data in events if name == "BLOCK_JOB_COMPLETED"] == [0]


@pytest.mark.asyncio
async def test_without_auto_finalize_and_auto_dismiss(stage: Stage) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(auto_finalize=False, auto_dismiss=False)
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("dismiss")
        await mirror.verb("finalize")
        await mirror.verb("complete")
        await mirror.wait_for("BLOCK_JOB_PENDING")
        for verb in ("pause", "resume", "complete", "dismiss"):
            await mirror.verb(verb)
        await mirror.verb("set-speed", speed=1)
        await mirror.verb("finalize")
        await mirror.status("concluded")
        for verb in ("pause", "resume", "complete", "cancel", "finalize"):
            await mirror.verb(verb)
        await mirror.verb("dismiss")
        await mirror.end()

    await stage.play(script, IMAGE)


@pytest.mark.asyncio
@pytest.mark.parametrize("force", [False, True])
async def test_cancel_of_a_pending_job(stage: Stage, force: bool) -> None:
    async def script(mirror: Mirror) -> None:
        await mirror.start(auto_finalize=False)
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("complete")
        await mirror.wait_for("BLOCK_JOB_PENDING")
        await mirror.verb("cancel", force=force)
        await mirror.end()

    await stage.play(script, IMAGE)


@pytest.mark.asyncio
async def test_known_difference_rounding(stage: Stage, tmp_path: Path) -> None:
    """QEMU's target grows to whole sectors; ours keeps every size."""

    async def script(mirror: Mirror) -> None:
        await mirror.start()
        await mirror.wait_for("BLOCK_JOB_READY")
        await mirror.verb("complete")
        await mirror.end()

    await stage.play(script, pattern(1000), leave_out=PROGRESS)
    assert [len(image) for image in stage.images("ours")] == [1000, 1000]
    assert len(stage.images("theirs")[1]) == 1024
