"""A mirror put together and taken apart: what is left behind, and what is not."""

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorgui import session as session_module
from mirrorgui.block.creation import TargetCreation, TargetMode
from mirrorgui.block.nbd import NbdNode
from mirrorgui.block.safety import Severity
from mirrorgui.blocking import in_thread
from mirrorgui.errors import ImageRefused, InvalidInput, StateError
from mirrorgui.mirror.options import ErrorPolicy, MirrorOptions, SyncMode
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.session import (
    ExportRequest,
    MirrorRequest,
    MirrorSession,
    OverwriteRefused,
    WhenReady,
    check_request,
)
from mirrorgui.units import KiB, MiB
from tests.block.conftest import open_descriptors, stamped
from tests.running import PATIENCE_S, blkdebug, fingerprint, same

SIZE = 2 * MiB + 777


@pytest.fixture
def request_(tmp_path: Path) -> MirrorRequest:
    """Mirror an image to a new file, and switch."""
    source = tmp_path / "s.raw"
    source.write_bytes(stamped(SIZE))
    return MirrorRequest(str(source), str(tmp_path / "t.raw"), when_ready=WhenReady.COMPLETE)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Callable[[], None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


async def ready(session: MirrorSession) -> None:
    """Wait until the target is in sync."""
    came = asyncio.Event()
    stop = session.events.listen(lambda event: came.set() if "READY" in event.name else None)
    session.start()
    await asyncio.wait_for(came.wait(), PATIENCE_S)
    stop()


async def to_the_end(request: MirrorRequest) -> tuple[JobSnapshot, MirrorSession]:
    session = await MirrorSession.open(request)
    session.start()
    final = await session.wait()
    await session.close()
    return final, session


# From opening to closing


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("when", "outcome"),
    [(WhenReady.COMPLETE, Outcome.SWITCHED), (WhenReady.CANCEL, Outcome.FINISHED)],
)
async def test_a_mirror_ends_by_itself_as_it_was_told(
    request_: MirrorRequest, when: WhenReady, outcome: Outcome
) -> None:
    final, session = await to_the_end(replace(request_, when_ready=when))
    assert (final.outcome, session.target_loss, session.target_created) == (outcome, "", True)
    assert session.drive.node is (session.target if outcome is Outcome.SWITCHED else session.source)
    assert same(request_.source, request_.target)
    assert not session.delete_incomplete_target()
    assert same(request_.source, request_.target)


@pytest.mark.asyncio
async def test_a_mirror_waits_when_it_was_told_to(request_: MirrorRequest) -> None:
    session = await MirrorSession.open(replace(request_, when_ready=WhenReady.WAIT))
    await ready(session)
    assert session.job.status is JobStatus.READY
    session.job.complete()
    assert (await session.wait()).outcome is Outcome.SWITCHED
    await session.close()


@pytest.mark.asyncio
async def test_closing_while_it_works_cancels_and_closing_again_does_nothing(
    request_: MirrorRequest,
) -> None:
    hang = blkdebug(request_.source, {"event": "read_aio", "sector": 1024, "hang": True})
    session = await MirrorSession.open(replace(request_, source=hang))
    session.start()
    await asyncio.gather(session.close(), session.close())
    await session.close()
    assert session.job.snapshot().outcome is Outcome.CANCELLED
    assert session.delete_incomplete_target()
    assert not session.delete_incomplete_target()
    assert not Path(request_.target).exists()


@pytest.mark.asyncio
async def test_closing_what_never_began_leaves_the_job_alone(request_: MirrorRequest) -> None:
    session = await MirrorSession.open(request_)
    await session.close()
    assert session.job.status is JobStatus.CREATED
    assert session.delete_incomplete_target()


@pytest.mark.asyncio
async def test_a_target_that_was_there_is_never_deleted(request_: MirrorRequest) -> None:
    target = Path(request_.target)
    target.touch()
    os.truncate(target, SIZE)
    session = await MirrorSession.open(request_)
    assert not session.target_created
    await session.close()
    assert not session.delete_incomplete_target()
    assert target.exists()


@pytest.mark.asyncio
async def test_what_took_the_name_of_the_target_is_not_deleted(request_: MirrorRequest) -> None:
    session = await MirrorSession.open(request_)
    target = Path(request_.target)
    target.rename(target.with_name("mine"))
    target.write_bytes(b"somebody else's")
    await session.close()
    assert not session.delete_incomplete_target()
    assert target.read_bytes() == b"somebody else's"


@pytest.mark.asyncio
async def test_a_failed_mirror_leaves_a_target_that_may_be_deleted(
    request_: MirrorRequest,
) -> None:
    broken = blkdebug(request_.source, {"event": "read_aio", "sector": 1024})
    final, session = await to_the_end(replace(request_, source=broken))
    assert (final.outcome, final.error) == (Outcome.FAILED, "Input/output error")
    assert session.delete_incomplete_target()


@pytest.mark.asyncio
async def test_a_larger_target_keeps_its_rest_and_the_guest_sees_the_old_size(
    request_: MirrorRequest,
) -> None:
    target = Path(request_.target)
    target.write_bytes(b"r" * (SIZE + 5000))
    session = await MirrorSession.open(replace(request_, overwrite=True))
    assert [finding.code for finding in session.warnings] == ["target-larger"]
    session.start()
    assert (await session.wait()).outcome is Outcome.SWITCHED
    assert session.drive.size == SIZE
    session.drive.write(SIZE - 1, b"!")
    with pytest.raises(Exception, match="Invalid argument"):
        session.drive.write(SIZE, b"!")
    await session.close()
    expected = Path(request_.source).read_bytes()[:-1] + b"!" + b"r" * 5000
    assert target.read_bytes() == expected


@pytest.mark.asyncio
async def test_a_switch_to_a_file_that_is_gone_is_refused(request_: MirrorRequest) -> None:
    session = await MirrorSession.open(replace(request_, when_ready=WhenReady.WAIT, writable=True))
    await ready(session)
    Path(request_.target).unlink()
    session.job.complete()
    final = await session.wait()
    assert final.outcome is Outcome.FAILED
    assert final.error == f"{request_.target} was removed by another program"
    assert session.target_loss == final.error
    session.drive.write(0, b"still here")
    await session.close()
    assert Path(request_.source).read_bytes().startswith(b"still here")


@pytest.mark.asyncio
async def test_a_cut_that_later_writes_hide_is_seen(
    request_: MirrorRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "WATCH_S", 0.01)
    session = await MirrorSession.open(replace(request_, when_ready=WhenReady.WAIT))
    looked = asyncio.Event()
    sample = session._presence.sample
    monkeypatch.setattr(session._presence, "sample", lambda: (sample(), looked.set()))
    await ready(session)
    os.truncate(request_.target, 0)
    looked.clear()
    await asyncio.wait_for(looked.wait(), PATIENCE_S)
    os.truncate(request_.target, SIZE)
    session.job.complete()
    assert "cut short" in str((await session.wait()).error)
    await session.close()


@pytest.mark.asyncio
async def test_verbs_at_the_wrong_time_do_not_disturb_the_ending(request_: MirrorRequest) -> None:
    _, session = await to_the_end(request_)
    with pytest.raises(StateError):
        session.job.cancel()
    assert await session.look_after_target() == ""


# Refusals


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "change",
    [
        {"source": "none"},
        {"target_format": "bogus"},
        {"target_mode": TargetMode.EXISTING},
        {"target_format": "qcow2", "creation": TargetCreation(cluster_size=3000)},
        {"creation": TargetCreation(cluster_size=65536)},
        {"source_format": "nonsense"},
        {"target": "none/t.raw"},
        {"target": "json:{"},
        {"export": ExportRequest("http://x/")},
    ],
)
async def test_a_refused_opening_leaves_nothing_behind(
    request_: MirrorRequest, tmp_path: Path, change: dict[str, object]
) -> None:
    before = fingerprint(tmp_path)
    with pytest.raises(InvalidInput):
        await MirrorSession.open(replace(request_, **change))
    assert fingerprint(tmp_path) == before


@pytest.mark.asyncio
async def test_a_target_that_cannot_be_opened_after_it_was_made_is_removed(
    request_: MirrorRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise ImageRefused("target", "t.raw", "somebody was faster")

    monkeypatch.setattr("mirrorgui.pair.check_pair", lambda *given, **options: [])
    monkeypatch.setattr("mirrorgui.pair._require_writable", refuse)
    with pytest.raises(ImageRefused, match="somebody was faster"):
        await MirrorSession.open(request_)
    assert not Path(request_.target).exists()


@pytest.mark.asyncio
async def test_an_export_that_cannot_listen_closes_everything_again(
    request_: MirrorRequest, tmp_path: Path
) -> None:
    uri = f"nbd+unix:///d?socket={tmp_path}/none/socket"
    with pytest.raises(InvalidInput) as caught:
        await MirrorSession.open(replace(request_, export=ExportRequest(uri)))
    assert (caught.value.field, caught.value.value) == ("export", uri)
    assert not Path(request_.target).exists()


@pytest.mark.asyncio
async def test_maps_that_do_not_fit_into_memory_are_refused(
    request_: MirrorRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*given: object, **more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(session_module, "MirrorJob", no_memory)
    with pytest.raises(InvalidInput, match="do not fit into memory") as caught:
        await MirrorSession.open(request_)
    assert caught.value.field == "granularity"
    assert not Path(request_.target).exists()


@pytest.mark.asyncio
async def test_a_read_only_target_is_refused(request_: MirrorRequest) -> None:
    Path(request_.target).touch()
    os.truncate(request_.target, SIZE)
    node = f'{{"driver":"file","filename":"{request_.target}","read-only":true}}'
    with pytest.raises(ImageRefused, match="Block node is read-only"):
        await MirrorSession.open(replace(request_, target=f"json:{node}"))


def test_everything_is_said_before_anything_is_opened_for_writing(
    request_: MirrorRequest, tmp_path: Path
) -> None:
    def codes(request: MirrorRequest) -> list[str]:
        found = check_request(request)
        return [one.code for one in found if one.severity is not Severity.HINT]

    assert codes(request_) == []
    target = Path(request_.target)
    target.write_bytes(b"x" * (SIZE + 1))
    before = fingerprint(tmp_path)
    assert sorted(codes(request_)) == ["overwrite", "target-larger"]
    assert codes(replace(request_, target=request_.source)) == ["same-image"]
    assert codes(replace(request_, target=str(tmp_path / "none" / "t"))) == ["no-folder"]
    assert fingerprint(tmp_path) == before


@pytest.mark.asyncio
async def test_only_an_agreement_is_missing_or_more(request_: MirrorRequest) -> None:
    target = Path(request_.target)
    target.write_bytes(b"x" * SIZE)
    with pytest.raises(OverwriteRefused):
        await MirrorSession.open(request_)
    target.write_bytes(b"x")
    with pytest.raises(ImageRefused, match="too small") as caught:
        await MirrorSession.open(request_)
    assert not isinstance(caught.value, OverwriteRefused)


# Guests


@pytest.mark.asyncio
async def test_guests_come_and_go_with_the_session(request_: MirrorRequest, tmp_path: Path) -> None:
    export = ExportRequest(f"nbd+unix:///disk?socket={tmp_path}/socket")
    request = replace(request_, when_ready=WhenReady.WAIT, export=export)
    session = await MirrorSession.open(request)
    assert session.export_uri == export.uri
    await ready(session)
    loop = asyncio.get_running_loop()
    guest = await loop.run_in_executor(None, NbdNode, export.uri)
    await loop.run_in_executor(None, guest.write, 0, b"\7" * 64 * KiB)
    assert len(session.clients()) >= 1
    session.job.complete()
    final = await session.wait()
    assert final.outcome is Outcome.SWITCHED
    await loop.run_in_executor(None, guest.write, 64 * KiB, b"\6" * 64 * KiB)
    await loop.run_in_executor(None, guest.close)
    await session.close()
    assert session.clients() == ()
    assert not Path(tmp_path / "socket").exists()
    mirrored = Path(request_.target).read_bytes()
    assert mirrored[: 128 * KiB] == b"\7" * 64 * KiB + b"\6" * 64 * KiB
    await loop.shutdown_default_executor()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("when", "used", "released"),
    [(WhenReady.COMPLETE, "target", "source"), (WhenReady.CANCEL, "source", "target")],
)
async def test_after_the_end_guests_go_on_and_the_other_image_is_free(
    request_: MirrorRequest, tmp_path: Path, when: WhenReady, used: str, released: str
) -> None:
    export = ExportRequest(f"nbd+unix:///disk?socket={tmp_path}/socket")
    request = replace(request_, when_ready=when, export=export)
    session = await MirrorSession.open(request)
    loop = asyncio.get_running_loop()
    guest = await loop.run_in_executor(None, NbdNode, export.uri)
    session.start()
    await session.release_unused()
    await session.release_unused()
    assert await session.look_after_target() == ""
    await loop.run_in_executor(None, guest.write, 0, b"\7" * 64 * KiB)
    # Opened for writing, which its lock would forbid.
    again = MirrorRequest(getattr(request, released), str(tmp_path / "third.raw"), writable=True)
    other = await MirrorSession.open(again)
    await other.close()
    with pytest.raises(ImageRefused):
        await MirrorSession.open(replace(again, source=getattr(request, used)))
    await loop.run_in_executor(None, guest.close)
    await session.close()
    for name, written in ((used, True), (released, False)):
        content = Path(getattr(request, name)).read_bytes()
        assert (content[: 64 * KiB] == b"\7" * 64 * KiB) is written
    await loop.shutdown_default_executor()


@pytest.mark.asyncio
async def test_what_was_cancelled_can_be_deleted_while_guests_go_on(
    request_: MirrorRequest, tmp_path: Path
) -> None:
    export = ExportRequest(f"nbd+unix:///disk?socket={tmp_path}/socket")
    request = replace(request_, when_ready=WhenReady.WAIT, export=export)
    session = await MirrorSession.open(request)
    session.start()
    session.job.cancel(force=True)
    await session.release_unused()
    assert session.delete_incomplete_target()
    assert not Path(request.target).exists()
    assert session.export_uri
    await session.close()


@pytest.mark.asyncio
async def test_a_read_only_export_leaves_the_source_unlocked_for_writing(
    request_: MirrorRequest, tmp_path: Path
) -> None:
    export = ExportRequest(f"nbd+unix:///d?socket={tmp_path}/socket", read_only=True)
    assert not replace(request_, export=export).opens_writable
    assert replace(request_, export=replace(export, read_only=False)).opens_writable
    assert replace(request_, writable=True).opens_writable
    session = await MirrorSession.open(replace(request_, export=export))
    assert session.source.read_only
    await session.close()


@pytest.mark.asyncio
async def test_the_options_reach_the_job(request_: MirrorRequest) -> None:
    options = MirrorOptions(
        job_id="mine",
        sync=SyncMode.NONE,
        granularity=4096,
        speed=12345,
        on_source_error=ErrorPolicy.STOP,
    )
    session = await MirrorSession.open(replace(request_, options=options))
    snapshot = session.job.snapshot()
    assert (snapshot.job_id, snapshot.sync) == ("mine", SyncMode.NONE)
    assert (snapshot.granularity, snapshot.speed) == (4096, 12345)
    await session.close()


# Threads


class Gate:
    """Something slow that blocks, and what became of its result."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()
        self.undone: list[str] = []

    def work(self) -> str:
        self.began.set()
        assert self.go.wait(PATIENCE_S)
        return "result"

    async def has_begun(self) -> None:
        while not self.began.is_set():
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_cancelled_caller_waits_for_its_thread_and_takes_back_what_it_did() -> None:
    gate = Gate()
    task = asyncio.create_task(in_thread(gate.work, undo=gate.undone.append))
    await gate.has_begun()
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()  # an impatient caller changes nothing
    assert not task.done()
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.undone == ["result"]


@pytest.mark.asyncio
async def test_a_thread_s_error_is_its_caller_s() -> None:
    def fail() -> None:
        raise ImageRefused("target", "t", "no")

    with pytest.raises(ImageRefused):
        await in_thread(fail)


@pytest.mark.asyncio
async def test_an_opening_that_is_cancelled_leaves_nothing_behind(
    request_: MirrorRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    original = session_module.open_pair

    def slow(request: MirrorRequest) -> object:
        pair = original(request)
        gate.work()
        return pair

    monkeypatch.setattr(session_module, "open_pair", slow)
    task = asyncio.create_task(MirrorSession.open(request_))
    await gate.has_begun()
    assert Path(request_.target).exists()
    task.cancel()
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(request_.target).exists()
