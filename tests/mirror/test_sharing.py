"""Data that the target can share with the source instead of getting a copy of it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode, Mapped
from mirrorgui.block.raw import ProbedRawGuard, RawNode
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.copy import TRIES, Copier, Moved
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, assert_equal, content, islands, mirroring, pattern

SIZE = 8 * MiB


class Stored(MemoryNode):
    """Says that some of its ranges are stored plainly in a file."""

    def __init__(self, data: bytes, *ranges: tuple[int, int]) -> None:
        super().__init__(data, name="stored")
        self.file = MemoryNode(data, name="file")
        self.ranges = ranges

    def map(self, offset: int, length: int) -> list[Mapped]:
        found = []
        for first, last in self.ranges:
            start, end = max(first, offset), min(last, offset + length)
            if start < end:
                found.append(Mapped(start, end - start, self.file, start))
        return found


class Sharing(MemoryNode):
    """Shares what it is given, or says that it cannot."""

    def __init__(self, size: int, *, able: bool = True) -> None:
        super().__init__(size, name="sharing")
        self.able = able
        self.asked: list[tuple[int, int]] = []
        self.written: list[tuple[int, int]] = []

    def clone_from(self, offset: int, other: BlockNode, other_offset: int, length: int) -> bool:
        self.asked.append((offset, length))
        if self.able:
            data = bytearray(length)
            other.read_into(other_offset, data)
            super().write(offset, data)
        return self.able

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.written.append((offset, len(data)))
        super().write(offset, data)


def copier(source: BlockNode, target: BlockNode) -> Copier:
    return Copier(source, target, DirtyBitmap(source.size, CHUNK), unmap=True)


def test_what_is_mapped_is_shared_and_the_rest_copied() -> None:
    source = Stored(pattern(SIZE), (MiB, 2 * MiB), (3 * MiB, 4 * MiB))
    target = Sharing(SIZE)
    subject = copier(source, target)
    assert subject.copy(512 * KiB, 3 * MiB) == Moved(3 * MiB, 0)
    assert target.asked == [(MiB, MiB), (3 * MiB, 512 * KiB)]
    assert target.written == [(512 * KiB, 512 * KiB), (2 * MiB, MiB)]
    assert content(target)[512 * KiB : 3584 * KiB] == pattern(SIZE)[512 * KiB : 3584 * KiB]
    assert subject.target_data.covers(512 * KiB, 3 * MiB)


def test_a_short_range_is_read_for_its_zeroes() -> None:
    target = Sharing(SIZE)
    copier(Stored(pattern(SIZE), (0, SIZE)), target).copy(0, CHUNK)
    assert target.asked == []


def test_what_cannot_be_shared_is_copied_and_not_asked_for_long() -> None:
    source, target = Stored(pattern(SIZE), (0, SIZE)), Sharing(SIZE, able=False)
    subject = copier(source, target)
    for start in range(0, SIZE, MiB):
        subject.copy(start, MiB)
    assert len(target.asked) == TRIES
    assert content(target) == pattern(SIZE)


# For real


def extents(path: Path) -> str:
    command = ["filefrag", "-v", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_files_that_cannot_share_say_so(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(pattern(MiB))
    source, target = FileNode(tmp_path / "a"), FileNode(tmp_path / "b")
    assert not target.clone_from(0, MemoryNode(MiB), 0, MiB)
    assert not target.clone_from(0, source, 1, 512), "not aligned"
    assert source.map(5, 7) == [Mapped(5, 7, source, 5)]
    assert RawNode(source, offset=100, size=1000).map(5, 7) == [Mapped(5, 7, source, 105)]
    assert not ProbedRawGuard(target).clone_from(0, source, 0, MiB), "the first sector is looked at"
    source.close()
    target.close()


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of which files can share storage."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if not Path("/dev/loop-control").exists():
        pytest.skip("this kernel gives no loop devices")
    image, folder = tmp_path / "xfs.img", tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(320 * MiB)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False
    )
    if "unknown filesystem type" in mounted.stderr:
        pytest.skip("this kernel has no xfs")
    assert not mounted.returncode, mounted.stderr
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.root
@pytest.mark.asyncio
async def test_images_on_xfs_share_their_data_and_stay_independent(xfs: Path) -> None:
    pieces = islands(SIZE, (MiB, 2 * MiB), (5 * MiB, MiB), (7 * MiB + 4 * KiB, 300))
    (xfs / "source").write_bytes(content(pieces))
    subprocess.run(["fallocate", "--dig-holes", xfs / "source"], check=True)
    with (xfs / "target").open("wb") as file:
        file.truncate(SIZE)
    source, target = FileNode(xfs / "source"), FileNode(xfs / "target")
    try:
        async with mirroring(source, target) as mirror:
            await mirror.ready()
            # The faults of this test's nodes are no files: they copy.
            assert "shared" not in extents(xfs / "target")
            mirror.assert_equal()
        subject = copier(source, target)
        target.write_zeroes(0, SIZE)
        subject.target_data.mark_all()
        assert subject.copy(0, SIZE) == Moved(3 * MiB + 4 * KiB, 5 * MiB - 4 * KiB)
        assert "shared" in extents(xfs / "target")
        source.write(MiB, b"changed later")
        assert content(target)[MiB : MiB + 16] == content(pieces)[MiB : MiB + 16]
        source.write(MiB, content(pieces)[MiB : MiB + 16])
        assert_equal(source, target)
    finally:
        source.close()
        target.close()
