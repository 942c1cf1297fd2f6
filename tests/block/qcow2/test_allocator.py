import contextlib
import errno
import random
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from mirrorgui.block.node import Buffer
from mirrorgui.block.qcow2 import allocator as allocator_module
from mirrorgui.block.qcow2.allocator import Allocation, Allocator
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.block.qcow2.layout import Geometry
from mirrorgui.block.qcow2.metadata import L2_TABLE, MetadataMap
from mirrorgui.errors import BlockIOError
from tests.block.qcow2.nodes import ByteFile


def new_image(*options: str, size: str = "0", folder: Path, fixed: bool = False) -> ByteFile:
    """Let qemu-img make an image; return its file in memory."""
    path = folder / "new.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2"]
    for option in options:
        command += ["-o", option]
    subprocess.run([*command, str(path), size], check=True)
    return ByteFile(path.read_bytes(), fixed=fixed)


def open_allocator(file: ByteFile, cache_size: int = 0) -> Allocator:
    header = read_header(file, "filename")
    metadata = MetadataMap(header.cluster_bits)
    metadata.add("the header", 0, header.cluster_size)
    if header.l1_entries:
        metadata.add("the active L1 table", header.l1_offset, header.l1_entries * 8)
    return Allocator(
        file,
        header.geometry,
        table_offset=header.refcount_table_offset,
        table_clusters=header.refcount_table_clusters,
        metadata=metadata,
        cache_size=cache_size,
    )


def leaks(file: ByteFile, folder: Path) -> int:
    """Let qemu-img count the clusters that are used but not referenced; fails on errors."""
    path = folder / "checked.qcow2"
    path.write_bytes(file.content)
    done = subprocess.run(["qemu-img", "check", str(path)], capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    return done.stdout.count("Leaked cluster") + done.stderr.count("Leaked cluster")


def clusters_of(runs: list[Allocation], geometry: Geometry) -> list[int]:
    return [
        (run.host_offset >> geometry.cluster_bits) + index
        for run in runs
        for index in range(run.clusters)
    ]


@pytest.fixture
def file(tmp_path: Path) -> ByteFile:
    return new_image(folder=tmp_path)


def test_clusters_come_in_one_run_behind_the_end(file: ByteFile) -> None:
    allocator = open_allocator(file)
    end = file.size
    (run,) = allocator.allocate(16)
    assert run == Allocation(end, 16, fresh=True)
    assert allocator.allocate(1) == [Allocation(end + 16 * 65536, 1, fresh=True)]
    assert file.size >= end + 17 * 65536
    assert allocator.refcount(end) == 1
    assert allocator.refcount(end + 17 * 65536) == 0


@pytest.mark.parametrize("order", range(7))
@pytest.mark.parametrize("cluster_size", [512, 65536])
def test_qemu_sees_what_was_allocated(tmp_path: Path, order: int, cluster_size: int) -> None:
    options = f"refcount_bits={1 << order},cluster_size={cluster_size}"
    file = new_image(options, folder=tmp_path)
    allocator = open_allocator(file)
    for count in (1, 7, 300, 64):
        allocator.allocate(count)
    allocator.close()
    assert leaks(file, tmp_path) == 372


def test_the_table_grows_when_the_blocks_run_out(tmp_path: Path) -> None:
    file = new_image("refcount_bits=64,cluster_size=512", folder=tmp_path)
    allocator = open_allocator(file)
    place = allocator.table_place
    taken = []
    for _ in range(40):  # a block describes 64 clusters, a table of a cluster 4096
        taken += allocator.allocate(500)
    assert sum(run.clusters for run in taken) == 20000
    assert allocator.table_place != place
    allocator.close()
    header = read_header(file, "filename")
    assert (header.refcount_table_offset, header.refcount_table_clusters) == allocator.table_place
    assert leaks(file, tmp_path) == 20000  # the old tables are not among them
    again = open_allocator(file)
    for run in taken:
        assert again.refcount(run.host_offset) == 1


def test_a_new_table_stays_in_the_file_though_nothing_follows_it(tmp_path: Path) -> None:
    file = new_image("refcount_bits=64,cluster_size=512", folder=tmp_path)
    allocator = open_allocator(file)
    allocator._make_block(64 * 64)  # the first cluster that the old table cannot describe
    allocator.close()
    offset, clusters = allocator.table_place
    assert offset >= 64 * 64 * 512
    assert file.size == offset + clusters * 512
    assert leaks(file, tmp_path) == 0


def test_an_image_too_large_for_its_clusters_is_refused(tmp_path: Path) -> None:
    file = new_image("refcount_bits=64,cluster_size=512", folder=tmp_path)
    allocator = open_allocator(file)
    allocator._cursor = (8 << 20) // 8 * 64
    with pytest.raises(BlockIOError, match="longer than 8388608 bytes") as caught:
        allocator.allocate(1)
    assert caught.value.errno == errno.EFBIG


def test_no_cluster_is_further_back_than_an_entry_can_say(file: ByteFile) -> None:
    allocator = open_allocator(file)
    with pytest.raises(BlockIOError) as caught:
        allocator._growth.reach((1 << 40) + 1)
    assert caught.value.errno == errno.EFBIG
    assert file.size < 1 << 20


def test_a_freed_cluster_is_used_again_only_after_the_tables_are_stable(file: ByteFile) -> None:
    allocator = open_allocator(file)
    (run,) = allocator.allocate(8)
    allocator.free_later(run.host_offset + 65536, 2)
    allocator.free_later(run.host_offset + 3 * 65536, 1)
    assert allocator.refcount(run.host_offset + 65536) == 1
    (other,) = allocator.allocate(3)
    assert other.host_offset > run.host_offset
    allocator.release_pending()
    assert allocator.refcount(run.host_offset + 65536) == 0
    assert allocator.allocate(3) == [Allocation(run.host_offset + 65536, 3, fresh=False)]


def test_what_is_freed_behind_a_mark_stays(file: ByteFile) -> None:
    allocator = open_allocator(file)
    (run,) = allocator.allocate(8)
    first, second = run.host_offset, run.host_offset + 65536
    allocator.free_later(first, 1)
    mark = allocator.mark_pending()
    allocator.free_later(second, 1)  # a neighbour, which must not be joined
    allocator.release_pending(mark)
    assert (allocator.refcount(first), allocator.refcount(second)) == (0, 1)
    allocator.release_pending(allocator.mark_pending())
    assert allocator.refcount(second) == 0
    allocator.release_pending(mark)


def test_a_shared_cluster_is_free_with_its_last_reference(file: ByteFile) -> None:
    allocator = open_allocator(file)
    (run,) = allocator.allocate(4)
    allocator._table.put(run.host_offset >> 16, 4, np.array([1, 3, 1, 2], np.uint16))
    allocator.free_later(run.host_offset, 4, discard=True)
    allocator.free_later(run.host_offset + 65536, 1, discard=True)
    file.log.clear()
    allocator.release_pending()
    refcounts = [allocator.refcount(run.host_offset + index * 65536) for index in range(4)]
    assert refcounts == [0, 1, 0, 1]
    discarded = [entry[1:] for entry in file.log if entry[0] == "discard"]
    assert discarded == [(run.host_offset, 65536), (run.host_offset + 2 * 65536, 65536)]


def test_clusters_given_back_are_free_at_once(file: ByteFile, tmp_path: Path) -> None:
    allocator = open_allocator(file)
    size = file.size
    runs = allocator.allocate(5)
    allocator.give_back(runs)
    assert allocator.allocate(5) == [Allocation(runs[0].host_offset, 5, fresh=False)]
    allocator.give_back(runs)
    allocator.close()
    assert file.size == size
    assert leaks(file, tmp_path) == 0


def test_short_runs_serve_when_there_is_no_long_one(tmp_path: Path) -> None:
    file = new_image(folder=tmp_path)
    file.resize(20 << 16)
    file.fixed = True
    allocator = open_allocator(file)
    (run,) = allocator.allocate(17)
    assert run.host_offset + (17 << 16) == file.size
    for index in range(0, 16, 2):
        allocator.free_later(run.host_offset + (index << 16), 1)
    allocator.release_pending()
    pieces = allocator.allocate(8)
    assert [piece.clusters for piece in pieces] == [1] * 8
    with pytest.raises(BlockIOError) as caught:
        allocator.allocate(1)
    assert caught.value.errno == errno.ENOSPC


def test_a_full_device_gives_nothing_away(tmp_path: Path) -> None:
    file = new_image(folder=tmp_path)
    file.resize(20 << 16)
    file.fixed = True
    allocator = open_allocator(file)
    for _ in range(2):
        with pytest.raises(BlockIOError) as caught:
            allocator.allocate(18)
        assert caught.value.errno == errno.ENOSPC
    assert sum(run.clusters for run in allocator.allocate(17)) == 17
    allocator.close()
    assert file.size == 20 << 16


def test_refcounts_reach_the_file_before_their_block_is_named(tmp_path: Path) -> None:
    file = new_image("cluster_size=512,refcount_bits=64", folder=tmp_path)
    allocator = open_allocator(file)
    allocator.allocate(100)  # 64 to a block: two new ones
    file.log.clear()
    assert allocator.write_dirty()
    operations = [name for name, _, _ in file.log]
    assert operations == ["write", "write", "flush", "write"]
    table, _ = allocator.table_place
    assert file.log[-1] == ("write", table + 8, 8)
    assert not allocator.write_dirty()


def test_only_what_changed_of_a_block_is_written(file: ByteFile) -> None:
    allocator = open_allocator(file)
    allocator.allocate(10)
    file.log.clear()
    allocator.write_dirty()
    assert file.log == [("write", 2 * 65536, 512)]


def test_metadata_with_refcount_zero_is_damage(file: ByteFile) -> None:
    allocator = open_allocator(file)
    table = file.size + 65536
    allocator.metadata.add(L2_TABLE, table, 65536)
    with pytest.raises(BlockIOError, match="an L2 table at a cluster with refcount 0") as caught:
        allocator.allocate(4)
    assert caught.value.errno == errno.EIO
    assert allocator.refcount(file.size) == 0


def test_freeing_what_is_free_is_damage(file: ByteFile) -> None:
    allocator = open_allocator(file)
    (run,) = allocator.allocate(2)
    allocator.free_later(run.host_offset, 3)
    with pytest.raises(BlockIOError, match="refcount 0") as caught:
        allocator.release_pending()
    assert caught.value.offset == run.host_offset + (2 << 16)


def test_referenced_clusters_with_refcount_zero_are_found(tmp_path: Path) -> None:
    file = new_image("cluster_size=512,refcount_bits=64", folder=tmp_path)
    allocator = open_allocator(file)
    runs = allocator.allocate(200)
    used = np.array(
        [run.host_offset + index * 512 for run in runs for index in range(run.clusters)], np.uint64
    )
    assert allocator.first_unused(used[::-1]) is None
    assert allocator.first_unused(used[:0]) is None
    allocator.give_back([Allocation(int(used[150]), 1, fresh=False)])
    assert allocator.first_unused(used) == int(used[150])
    assert allocator.first_unused(np.array([1 << 40], np.uint64)) == 1 << 40


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (0x20200, "a refcount block at 131584"),
        (1 << 40, "behind the end of the file"),
        (0x10000, "where something else is"),
        (0x30000, "where something else is"),
    ],
)
def test_a_wrong_entry_of_the_table_is_damage(tmp_path: Path, entry: int, text: str) -> None:
    file = new_image(folder=tmp_path, size="1M")
    file.patch(65536, entry.to_bytes(8, "big"))
    before = file.content
    with pytest.raises(BlockIOError, match=text) as caught:
        open_allocator(file).allocate(1)
    assert caught.value.errno == errno.EIO
    assert caught.value.offset == 65536
    assert file.content == before


@pytest.mark.parametrize("order", [0, 2, 4, 6])
@pytest.mark.parametrize(("cache_size", "most_runs"), [(0, 64), (0, 1 << 16), (1 << 20, 1 << 16)])
def test_random_use_agrees_with_a_model(
    tmp_path: Path, order: int, cache_size: int, most_runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocator_module, "_MOST_RUNS", most_runs)
    file = new_image(f"cluster_size=512,refcount_bits={1 << order}", folder=tmp_path)
    allocator = open_allocator(file, cache_size)
    rng = random.Random(order)
    used: set[int] = set()
    pending: list[int] = []
    for _ in range(400):
        action = rng.random()
        if action < 0.6:
            runs = allocator.allocate(rng.randint(1, 40))
            new = [run.host_offset // 512 + i for run in runs for i in range(run.clusters)]
            assert not used & set(new)
            used |= set(new)
        elif action < 0.9 and used:
            for _ in range(min(20, len(used) - len(pending))):
                cluster = rng.choice(tuple(used - set(pending)))
                allocator.free_later(cluster * 512, 1)
                pending.append(cluster)
        elif action < 0.95:
            allocator.release_pending()
            used -= set(pending)
            pending.clear()
        else:
            allocator.write_dirty()
    allocator.release_pending()
    used -= set(pending)
    allocator.close()
    assert leaks(file, tmp_path) == len(used)


def test_allocating_is_quick(file: ByteFile) -> None:
    allocator = open_allocator(file)
    allocator.allocate(1)
    begin = time.perf_counter()
    for _ in range(1000):
        allocator.allocate(16)
    each = (time.perf_counter() - begin) / 1000
    assert each < 100e-6  # 5 µs measured; slower is another algorithm, not another machine


class Failing(ByteFile):
    """A file whose flushes fail from the one on, and writes to where, that somebody says."""

    flushes_left: int | None = None
    broken_from: int | None = None

    def flush(self) -> None:
        if self.flushes_left is not None:
            if not self.flushes_left:
                raise BlockIOError("flush", 0, 0, errno.EIO, self.name)
            self.flushes_left -= 1
        super().flush()

    def write(self, offset: int, data: Buffer) -> None:
        if self.broken_from is not None and offset >= self.broken_from:
            raise BlockIOError("write", offset, len(data), errno.ENOSPC, self.name)
        super().write(offset, data)


def failing(folder: Path) -> Failing:
    """Make an image whose refcount blocks describe 64 clusters, and its table 4096."""
    return Failing(new_image("refcount_bits=64,cluster_size=512", folder=folder).content)


@pytest.mark.parametrize("flushes", range(4))
def test_a_new_table_whose_flush_fails_is_not_cut_off(tmp_path: Path, flushes: int) -> None:
    file = failing(tmp_path)
    allocator = open_allocator(file)
    allocator.allocate(4000)
    allocator.write_dirty()
    file.flushes_left = flushes
    with contextlib.suppress(BlockIOError):
        allocator.allocate(500)
    file.flushes_left = None
    allocator.close()
    # Whichever table the header names, everything that is used is in it.
    assert leaks(file, tmp_path) in (4000, 4500)
    header = read_header(file, "filename")
    assert (header.refcount_table_offset, header.refcount_table_clusters) == allocator.table_place


def test_a_block_that_found_no_room_is_not_written_over_the_header(tmp_path: Path) -> None:
    file = failing(tmp_path)
    head = file.content[:512]
    allocator = open_allocator(file)
    allocator.allocate(64 * 4)  # as many blocks as fit into the cache have changed
    file.broken_from = 64 * 512
    with pytest.raises(BlockIOError):
        allocator.allocate(64 * 4)
    file.broken_from = None
    allocator.write_dirty()
    assert file.content[:512] == head
    allocator.allocate(64 * 4)
    allocator.close()
    assert leaks(file, tmp_path) == 2 * 64 * 4


def test_what_was_freed_before_an_error_is_not_freed_again(tmp_path: Path) -> None:
    path = tmp_path / "new.qcow2"
    options = "refcount_bits=64,cluster_size=512"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "0"], check=True
    )
    # This puts all new refcount blocks side by side, so that one run of data has many of them.
    subprocess.run(["qemu-img", "resize", "-q", "--preallocation=falloc", path, "1M"], check=True)
    file = Failing(path.read_bytes())
    allocator = open_allocator(file)
    first = (file.size >> 9) - 64 * 20
    assert all(allocator.refcount((first + number) << 9) == 1 for number in range(64 * 20))
    allocator.free_later(first << 9, 64 * 20)
    file.broken_from = 0
    with pytest.raises(BlockIOError, match="No space left"):
        allocator.release_pending()
    file.broken_from = None
    allocator.release_pending()
    assert not any(allocator.refcount((first + number) << 9) for number in range(64 * 20))


def test_clusters_given_back_when_refcounts_cannot_be_written_are_freed_later(
    tmp_path: Path,
) -> None:
    file = failing(tmp_path)
    allocator = open_allocator(file)
    taken = allocator.allocate(64 * 20)
    file.broken_from = 64 * 10 * 512
    allocator.give_back(taken)
    file.broken_from = None
    allocator.release_pending()
    allocator.close()
    assert leaks(file, tmp_path) == 0


def test_a_longer_table_is_not_put_over_a_structure_without_a_refcount(tmp_path: Path) -> None:
    file = failing(tmp_path)
    allocator = open_allocator(file)
    file.resize(4200 * 512)
    allocator.metadata.add(L2_TABLE, 4097 * 512, 512)
    with pytest.raises(BlockIOError, match="an L2 table has no refcount"):
        for _ in range(10):
            allocator.allocate(500)
