"""What happens before and around a job: S15 to S18, S33, S94 and S96, on real files."""

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image
from mirrorgui.errors import InvalidInput
from mirrorgui.mirror.options import MirrorOptions, SyncMode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.session import MirrorRequest, MirrorSession
from mirrorgui.units import MiB
from tests.mirror.harness import mirroring, pattern

SIZE = 2 * MiB


@pytest.fixture
def asked(tmp_path: Path) -> MirrorRequest:
    source = tmp_path / "source.raw"
    source.write_bytes(pattern(SIZE))
    return MirrorRequest(str(source), str(tmp_path / "target.raw"), source_format="raw")


async def refused(request: MirrorRequest) -> InvalidInput:
    """Open a session that must not open."""
    with pytest.raises(InvalidInput) as caught:
        await MirrorSession.open(request)
    return caught.value


async def ready(session: MirrorSession) -> None:
    came = asyncio.Event()
    session.events.listen(lambda event: came.set() if event.name == "BLOCK_JOB_READY" else None)
    session.start()
    await asyncio.wait_for(came.wait(), 20)


def qemu_io(path: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["qemu-io", "-f", "raw", "-c", command, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.asyncio
async def test_s15_an_image_is_not_mirrored_onto_itself(asked: MirrorRequest) -> None:
    link = Path(asked.target)
    link.hardlink_to(asked.source)
    for target in (asked.source, str(link)):
        error = await refused(replace(asked, target=target, overwrite=True))
        assert error.field == "target"
    assert link.read_bytes() == pattern(SIZE)


@pytest.mark.asyncio
async def test_s16_images_that_are_not_there_are_refused_by_name(
    asked: MirrorRequest, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    error = await refused(replace(asked, source=missing))
    assert error.field == "source" and error.value == missing
    error = await refused(replace(asked, target=f"{missing}/target.raw"))
    assert error.field == "target" and missing in str(error.value)
    error = await refused(replace(asked, target=str(tmp_path)))
    assert error.field == "target"
    assert [path.name for path in tmp_path.iterdir()] == ["source.raw"], "nothing was created"


@pytest.mark.asyncio
async def test_s18_a_second_job_on_the_same_images_is_refused_and_disturbs_nobody(
    asked: MirrorRequest, tmp_path: Path
) -> None:
    first = await MirrorSession.open(replace(asked, writable=True, options=MirrorOptions(speed=1)))
    first.start()
    try:
        other = str(tmp_path / "other.raw")
        error = await refused(replace(asked, writable=True, target=other))
        assert error.field == "source" and not Path(other).exists()
        Path(other).write_bytes(pattern(SIZE, 2))
        error = await refused(replace(asked, source=other, overwrite=True))
        assert error.field == "target"
        error = await refused(replace(asked, source=first.request.target, target=asked.source))
        assert first.job.status.value == "running"
        first.job.set_speed(0)
        async with asyncio.timeout(20):
            while first.job.status.value != "ready":
                await asyncio.sleep(0.005)
        first.job.cancel()
        assert (await first.wait()).outcome is Outcome.FINISHED
    finally:
        await first.close()
    assert Path(asked.target).read_bytes() == pattern(SIZE)


@pytest.mark.asyncio
@pytest.mark.parametrize("explicit", [False, True])
async def test_s33_a_foreign_header_is_not_written_to_a_target_guessed_to_be_raw(
    tmp_path: Path, explicit: bool
) -> None:
    path = tmp_path / "target"
    path.write_bytes(bytes(SIZE))
    target = open_image(
        str(path), format="raw" if explicit else None, how=How("target", read_only=False)
    )
    image = b"QFI\xfb\x00\x00\x00\x03" + pattern(SIZE)[8:]
    try:
        async with mirroring(image, target) as mirror:
            if explicit:
                await mirror.complete()
                assert path.read_bytes() == image
            else:
                end = await mirror.end()
                assert end.error == "Operation not permitted"
                assert mirror.find("BLOCK_JOB_ERROR", operation="write")
                assert path.read_bytes()[:512] == bytes(512)
    finally:
        target.close()


@pytest.mark.asyncio
async def test_s94_images_are_locked_while_the_job_lives_and_free_afterwards(
    asked: MirrorRequest,
) -> None:
    session = await MirrorSession.open(replace(asked, writable=True))
    await ready(session)
    for path in (asked.source, asked.target):
        assert 'Failed to get "write" lock' in qemu_io(path, "write 0 512").stderr
    session.job.cancel(force=True)
    await session.wait()
    await session.close()
    for path in (asked.source, asked.target):
        done = qemu_io(path, "write -P 7 0 512")
        assert done.returncode == 0, done.stderr


@pytest.mark.asyncio
@pytest.mark.parametrize("sync", [SyncMode.FULL, SyncMode.TOP])
async def test_s96_after_the_switch_the_guest_sees_the_targets_own_chain(sync: SyncMode) -> None:
    base = MemoryNode(pattern(SIZE))
    source = MemoryNode(SIZE, backing=base)
    source.write(0, b"overlay")
    below: BlockNode | None = base if sync is SyncMode.TOP else None
    target = MemoryNode(SIZE, backing=below)
    async with mirroring(source, target, sync=sync) as mirror:
        await mirror.ready()
        assert mirror.drive.backing is base
        mirror.job.complete()
        await mirror.end()
        assert mirror.drive.backing is below
        mirror.assert_equal()
