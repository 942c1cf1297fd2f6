"""Peak memory of a job over the largest sparse image there is room for, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirrorgui.units import KiB, MiB, TiB

LIMIT = 120 * MiB

JOB = """
import asyncio, sys
from pathlib import Path

from mirrorgui.block.file import FileNode
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import MirrorOptions


async def main() -> None:
    source, target = FileNode(sys.argv[1]), FileNode(sys.argv[2])
    drive = Drive(source)
    job = MirrorJob(drive, target, MirrorOptions(granularity=65536))
    ready = asyncio.Event()
    job.events.listen(lambda event: event.name == "BLOCK_JOB_READY" and ready.set())
    job.start()
    await asyncio.wait_for(ready.wait(), 100)
    for number in range(64):
        drive.write(source.size // 64 * number + 4096, b"later" * 100)
    job.complete()
    end = await job.wait()
    assert end.outcome.value == "switched", end
    print(end.size, end.copied_bytes)
    # VmHWM belongs to this program; ru_maxrss would count what started it as well.
    with open("/proc/self/status") as status:
        print(next(line for line in status if line.startswith("VmHWM")).split()[1])


asyncio.run(main())
"""


def largest(directory: Path) -> int:
    """The largest sparse file that the file system allows, at most 16 TiB."""
    path = directory / "probe"
    with path.open("wb") as file:
        for size in (16 * TiB, 16 * TiB - 4 * KiB, 8 * TiB, 2 * TiB):
            try:
                file.truncate(size)
            except OSError:
                continue
            return size
    raise AssertionError("no large files here")


@pytest.mark.timeout(120)
def test_a_vast_sparse_image_needs_less_than_120_mib(tmp_path: Path) -> None:
    size = largest(tmp_path)
    paths = [tmp_path / name for name in ("source", "target")]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(size)
    with paths[0].open("r+b") as file:
        for number in range(96):
            file.seek(size // 97 * number // 512 * 512)
            file.write(os.urandom(64 * KiB))
    done = subprocess.run(
        [sys.executable, "-c", JOB, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    mirrored, copied, peak = done.stdout.split()
    assert int(mirrored) == size and int(copied) >= 6 * MiB
    assert int(peak) * KiB < LIMIT, f"{int(peak) // 1024} MiB"
    assert paths[1].stat().st_blocks * 512 < 64 * MiB
