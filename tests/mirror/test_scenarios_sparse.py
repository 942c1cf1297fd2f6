"""Sync modes, sparse images and zeroes: S19 to S32, in memory and on files."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.mirror.options import SyncMode
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, content, islands, mirroring, pattern

ISLANDS = [(number * MiB + 12 * KiB, 4 * KiB) for number in range(8)]


class Place:
    """Where the images of a test are: in memory or in a directory."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self._nodes: list[BlockNode] = []

    def image(self, name: str, size: int, *pieces: tuple[int, bytes]) -> BlockNode:
        """Make an image with data at some places."""
        node: BlockNode
        if self.directory is None:
            node = MemoryNode(size, name=name, cluster_size=4 * KiB)
        else:
            path = self.directory / name
            with path.open("wb") as file:
                file.truncate(size)
            node = FileNode(path)
            self._nodes.append(node)
        for offset, data in pieces:
            node.write(offset, data)
        return node

    def allocated(self, node: BlockNode) -> int:
        """Bytes of storage that an image takes."""
        if isinstance(node, MemoryNode):
            return node.allocated_bytes()
        assert isinstance(node, FileNode)
        node.flush()
        return os.fstat(node.fileno()).st_blocks * 512

    def close(self) -> None:
        for node in self._nodes:
            node.close()


@pytest.fixture(params=["memory", "disk", "tmpfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        yield Place(None)
        return
    with TemporaryDirectory(dir=tmp_path if request.param == "disk" else "/dev/shm") as directory:
        place = Place(Path(directory))
        yield place
        place.close()


@pytest.mark.asyncio
async def test_s19_top_copies_what_the_overlay_holds_and_nothing_else() -> None:
    base = MemoryNode(pattern(2 * MiB, 1))
    source, target = MemoryNode(2 * MiB, backing=base), MemoryNode(2 * MiB, backing=base)
    source.write(5 * CHUNK, pattern(CHUNK, 2))
    source.write(9 * CHUNK + 100, b"in the midst of a chunk")
    source.write_zeroes(12 * CHUNK, CHUNK)
    async with mirroring(source, target, sync=SyncMode.TOP) as mirror:
        end = await mirror.complete()
        assert end.offset == 3 * CHUNK
        mirror.assert_equal()
        assert target.allocated_bytes() == 2 * CHUNK
        touched = {each.offset // CHUNK for each in mirror.target.probe.requests if each.length}
        assert touched == {5, 9, 12}


@pytest.mark.asyncio
async def test_top_without_a_backing_file_is_full() -> None:
    garbage = MemoryNode(pattern(MiB, 9))
    source = islands(MiB, (0, CHUNK))
    async with mirroring(source, garbage, sync=SyncMode.TOP) as mirror:
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s20_none_copies_only_what_is_written_later_in_whole_chunks() -> None:
    garbage = pattern(MiB, 9)
    async with mirroring(pattern(MiB), MemoryNode(garbage), sync=SyncMode.NONE) as mirror:
        ready = await mirror.ready()
        assert (ready.offset, ready.length) == (0, 0)
        assert mirror.target.probe.of("write") == []
        await mirror.write(3 * CHUNK + 1000, b"ten bytes.")
        await mirror.until(lambda: mirror.job.snapshot().offset)
        settled = await mirror.settled()
        assert (settled.offset, settled.length) == (CHUNK, CHUNK)
        expected = bytearray(garbage)
        expected[3 * CHUNK : 4 * CHUNK] = content(mirror.source.bottom)[3 * CHUNK : 4 * CHUNK]
        assert content(mirror.target.bottom) == expected
        await mirror.zero(5 * CHUNK, CHUNK)
        await mirror.until(lambda: mirror.job.snapshot().offset == 2 * CHUNK)
        assert content(mirror.target.bottom)[5 * CHUNK : 6 * CHUNK] == bytes(CHUNK)
        mirror.job.cancel()
        await mirror.end()


@pytest.mark.asyncio
@pytest.mark.parametrize("sync", [SyncMode.TOP, SyncMode.FULL])
async def test_s21_an_overlay_longer_than_its_base_reads_zero_beyond_it(sync: SyncMode) -> None:
    base = MemoryNode(pattern(MiB + 1000))
    source = MemoryNode(3 * MiB, backing=base)
    source.write(2 * MiB, pattern(CHUNK, 2))
    target = MemoryNode(3 * MiB, backing=base if sync is SyncMode.TOP else None)
    async with mirroring(source, target, sync=sync) as mirror:
        await mirror.complete()
        mirror.assert_equal()
        assert content(mirror.target.bottom)[MiB + 1000 : 2 * MiB] == bytes(MiB - 1000)


@pytest.mark.asyncio
async def test_s22_a_sparse_image_stays_sparse(place: Place) -> None:
    source = place.image("source", 8 * MiB, (4 * MiB, pattern(MiB)))
    target = place.image("target", 8 * MiB)
    async with mirroring(source, target) as mirror:
        end = await mirror.complete()
        mirror.assert_equal()
        assert place.allocated(target) == place.allocated(source)
        assert end.copied_bytes == MiB


@pytest.mark.asyncio
async def test_s23_garbage_of_an_old_target_is_removed(place: Place) -> None:
    source = place.image("source", 8 * MiB)
    target = place.image("target", 8 * MiB, (0, pattern(8 * MiB, 9)))
    async with mirroring(source, target) as mirror:
        await mirror.complete()
        mirror.assert_equal()
        assert place.allocated(target) == 0
        assert mirror.target.probe.of("write") == []


@pytest.mark.asyncio
async def test_s23_garbage_is_overwritten_where_the_target_cannot_zero() -> None:
    target = MemoryNode(pattern(2 * MiB + 700, 9), can_zero=False, can_discard=False)
    source = islands(2 * MiB + 700, (MiB, 100), (2 * MiB + 650, 50))
    async with mirroring(source, target) as mirror:
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s23_garbage_around_data_smaller_than_a_chunk_is_removed(place: Place) -> None:
    source = place.image("source", 8 * MiB, *((at, pattern(size)) for at, size in ISLANDS))
    target = place.image("target", 8 * MiB, (0, pattern(8 * MiB, 9)))
    async with mirroring(source, target, granularity=MiB) as mirror:
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_s24_written_zeroes_need_no_room_on_the_target(place: Place) -> None:
    source = place.image("source", 8 * MiB, (0, bytes(8 * MiB)))
    target = place.image("target", 8 * MiB)
    async with mirroring(source, target) as mirror:
        end = await mirror.complete()
        mirror.assert_equal()
        assert place.allocated(target) == 0
        assert (end.copied_bytes, end.zeroed_bytes) == (0, 8 * MiB)


@pytest.mark.asyncio
async def test_s25_islands_are_not_amplified_where_qemu_copies_whole_chunks(place: Place) -> None:
    source = place.image("source", 8 * MiB, *((at, pattern(size)) for at, size in ISLANDS))
    target = place.image("target", 8 * MiB)
    async with mirroring(source, target) as mirror:
        await mirror.complete()
        mirror.assert_equal()
        assert place.allocated(target) == place.allocated(source)
        # QEMU's target takes 16 times as much. ext4 needs a block for the list of 8 extents.
        assert place.allocated(target) <= 9 * 4 * KiB


@pytest.mark.asyncio
async def test_s27_a_target_vouched_to_be_zero_is_not_cleaned_first(place: Place) -> None:
    source = place.image("source", 8 * MiB, (MiB, pattern(MiB)))
    target = place.image("target", 8 * MiB)
    async with mirroring(source, target, target_is_zero=True) as mirror:
        await mirror.complete()
        mirror.assert_equal()
        assert mirror.target.probe.of("zero") == []


@pytest.mark.asyncio
async def test_s28_a_wrong_claim_of_a_zero_target_leaves_what_was_not_written() -> None:
    """As documented: who vouches is believed. ``mirrorgui compare`` finds it."""
    source = islands(MiB, (0, CHUNK))
    async with mirroring(source, MemoryNode(pattern(MiB, 9)), target_is_zero=True) as mirror:
        await mirror.complete()
        assert content(mirror.target.bottom)[:CHUNK] == content(source)[:CHUNK]
        assert content(mirror.target.bottom)[CHUNK:] == pattern(MiB, 9)[CHUNK:]


@pytest.mark.asyncio
@pytest.mark.parametrize("moment", ["running", "ready"])
async def test_s31_a_discard_during_the_job_reaches_the_target(place: Place, moment: str) -> None:
    source = place.image("source", 2 * MiB, (0, pattern(2 * MiB)))
    target = place.image("target", 2 * MiB)
    async with mirroring(source, target, arm=lambda _, to: to.hang("write")) as mirror:
        await mirror.target.hanging()
        if moment == "ready":
            mirror.target.node.clear()
            await mirror.ready()
        await mirror.discard(4 * CHUNK, CHUNK)
        await mirror.discard(9 * CHUNK + 512, 2 * CHUNK)
        mirror.target.node.clear()
        await mirror.complete()
        mirror.assert_equal()
        assert content(target)[4 * CHUNK : 5 * CHUNK] == bytes(CHUNK)
        assert place.allocated(target) == place.allocated(source)


@pytest.mark.asyncio
async def test_s32_zeroes_over_a_copied_area_arrive_as_zeroes(place: Place) -> None:
    source = place.image("source", 4 * MiB, (0, pattern(4 * MiB)))
    target = place.image("target", 4 * MiB)
    async with mirroring(source, target) as mirror:
        await mirror.ready()
        mirror.target.probe.forget()
        await mirror.zero(MiB, 2 * MiB)
        mirror.job.complete()
        await mirror.end()
        mirror.assert_equal()
        assert mirror.target.probe.of("write") == []
        assert sum(each.length for each in mirror.target.probe.of("zero")) == 2 * MiB
        assert place.allocated(target) == 2 * MiB
